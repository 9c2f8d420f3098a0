"""Correction of images, one by one: phases flipped or a Wiener filter in strips, weights by dose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.geometry.view_depth import DepthPlane
from manyviews.geometry.views import TiltGeometry
from manyviews.kernels.defocus_cpu import SIGN, WIENER
from manyviews.operators.defocus_strips import DefocusStrips
from manyviews.operators.dose import fading
from manyviews.operators.slice_threads import each_one
from manyviews.operators.view_transfer import Response, TransferGrid, ViewTransfer

Correction = Callable[[NDArray[np.int64], torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class StripCorrection:
    """Filter images by a response to the transfer at each pixel's own defocus, for a thin specimen.

    The mean of an image is filtered apart, so that the edges of the image are no step. ``weights`` is a
    transfer of which the dose alone is applied afterwards, or None.
    """

    transfer: ViewTransfer
    geometry: TiltGeometry
    grid: TransferGrid
    response: Response
    weights: ViewTransfer | None

    def __call__(self, views: NDArray[np.int64], images: torch.Tensor) -> torch.Tensor:
        """Corrected images ``(k, y, x)`` of the given views; on the CPU a view a thread."""
        corrected = torch.empty_like(images)

        def correct(place: int) -> None:
            view = int(views[place])
            depth = DepthPlane.of(self.geometry.matrices[view])
            strips = DefocusStrips(self.transfer, view, depth, np.zeros(1), self.grid, self.response)
            image = images[place]
            if images.is_cuda:
                mean = float(image.mean())
                corrected[place] = strips.adjoint((image - mean)[None])[0] + mean * self._level(view)
                return
            given, found = image.numpy(), corrected[place].numpy()
            mean = given.mean()
            strips.show_back(torch.from_numpy(given - mean), [corrected[place]])
            found += mean * np.float32(self._level(view))

        each_one(len(views), images, correct)
        return corrected if self.weights is None else weigh_by_dose(self.weights, self.grid, views, corrected)

    def _level(self, view: int) -> float:
        """What becomes of a mean of 1."""
        nothing_else = replace(self.grid, image_shape=(1, 1), padded=(1, 1))
        return float(self.transfer.at_defocus(view, np.zeros(1), nothing_else, self.response))


def make_correction(
    how: str, transfer: ViewTransfer, geometry: TiltGeometry, image_shape: tuple[int, int], pixel_size: float,
    wiener_constant: float,
) -> Correction:  # fmt: skip
    """What is done to images of ``geometry`` for ``--ctf`` none (dose alone), phase-flip and wiener."""
    if how == "none":
        grid = TransferGrid.of(image_shape, pixel_size, 0)
        return lambda views, images: weigh_by_dose(transfer, grid, views, images)
    grid = TransferGrid.of(image_shape, pixel_size, transfer.spread_pixels(pixel_size))
    if how == "wiener":
        return StripCorrection(transfer, geometry, grid, Response(WIENER, wiener_constant), None)
    undosed = replace(transfer, dose=np.zeros(len(transfer)))
    weights = transfer if transfer.dose.any() else None
    return StripCorrection(undosed, geometry, grid, Response(SIGN), weights)


def weigh_by_dose(
    transfer: ViewTransfer, grid: TransferGrid, views: NDArray[np.int64], images: torch.Tensor
) -> torch.Tensor:
    """Images ``(k, y, x)`` weighted by what their dose has left of every frequency."""
    radius = np.linalg.norm(grid.points, axis=1) / grid.pixel_size
    height, width = grid.image_shape
    weighted = torch.empty_like(images)
    for place, view in enumerate(views.tolist()):
        left = fading(radius, float(transfer.dose[view]), float(transfer.optics.voltage_kv[view]))
        values = torch.from_numpy(left.reshape(grid.spectrum_shape)).to(images)
        mean = images[place].mean()
        spectrum = torch.fft.rfft2(images[place] - mean, s=grid.padded).mul_(values)
        weighted[place] = torch.fft.irfft2(spectrum, s=grid.padded)[:height, :width] + mean
    return weighted
