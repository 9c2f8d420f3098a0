"""Correction of images, one by one: phases flipped or a Wiener filter in strips, weights by dose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.geometry.view_depth import DepthPlane
from manyviews.geometry.views import TiltGeometry
from manyviews.operators.defocus_strips import DefocusStrips, Response
from manyviews.operators.dose import fading
from manyviews.operators.view_transfer import TransferGrid, ViewTransfer

Correction = Callable[[NDArray[np.int64], torch.Tensor], torch.Tensor]


def phase_flip(transfer: torch.Tensor) -> torch.Tensor:
    """The sign of a transfer; 1 where it is zero."""
    return torch.where(transfer < 0, -1.0, 1.0)


def wiener(constant: float) -> Response:
    """``T / (T^2 + constant)`` of a transfer T."""
    return lambda transfer: transfer / (transfer.square() + constant)


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
        """Corrected images ``(k, y, x)`` of the given views."""
        corrected = torch.empty_like(images)
        for place, view in enumerate(views.tolist()):
            depth = DepthPlane.of(self.geometry.matrices[view])
            strips = DefocusStrips(self.transfer, view, depth, np.zeros(1), self.grid, self.response)
            mean = images[place].mean()
            level = self.response(self.transfer.at_defocus(view, np.zeros(1), self.grid)[0, :1, :1])
            corrected[place] = strips.adjoint((images[place] - mean)[None])[0] + mean * level
        return corrected if self.weights is None else weigh_by_dose(self.weights, self.grid, views, corrected)


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
        return StripCorrection(transfer, geometry, grid, wiener(wiener_constant), None)
    undosed = replace(transfer, dose=np.zeros(len(transfer)))
    weights = transfer if transfer.dose.any() else None
    return StripCorrection(undosed, geometry, grid, phase_flip, weights)


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
