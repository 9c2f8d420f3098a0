"""Filtering an image by a CTF whose defocus varies over it, as it does in a tilted view.

The image is filtered at a few levels of defocus, and every pixel is taken from the two levels next to its
own, in proportion: strips along the tilt axis that go over into each other. Jensen & Kornberg (2000)
Ultramicroscopy 84:57 and Turonova et al. (2017) J. Struct. Biol. 199:187 do the same, slab by slab of the
specimen, to correct in three dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray

from manyviews.geometry.view_depth import DepthPlane
from manyviews.geometry.views import TiltGeometry
from manyviews.kernels.defocus_cpu import add_product, add_share
from manyviews.operators.contrast_transfer import Optics
from manyviews.operators.linear import LinearOperator, register, require_shape
from manyviews.operators.view_transfer import PLAIN, Response, TransferGrid, ViewTransfer, defocus_levels

Array = NDArray[np.floating[Any]]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Levels:
    """Levels of defocus of a view, and which of them each pixel is between.

    ``change (level,)`` is the defocus less that of the view, in angstrom. A pixel of a slab lies at
    ``plane (y, x)`` plus ``slabs (slab,)`` among the levels, counted from 0.
    """

    change: Float64
    plane: NDArray[np.float32]
    slabs: Float64

    @classmethod
    def of(
        cls, depth: DepthPlane, heights: Float64, gradient: float, distance: float, grid: TransferGrid
    ) -> Levels:
        """For slabs of the specimen at ``heights (slab,)`` angstrom, levels ``distance`` apart at most.

        ``gradient`` is that of defocus with depth.
        """
        plane = gradient * depth.on_pixels(grid.image_shape, grid.pixel_size)
        slabs = gradient * depth.rise * heights
        low, high = plane.min() + slabs.min(), plane.max() + slabs.max()
        levels = defocus_levels(float(low), float(high), distance)
        step = levels[1] - levels[0] if len(levels) > 1 else np.inf
        return cls(levels, ((plane - levels[0]) / step).astype(np.float32), slabs / step)

    @cached_property
    def _ends(self) -> tuple[float, float]:
        return float(self.plane.min()), float(self.plane.max())

    def places(self, level: int) -> list[tuple[int, float]]:
        """Slabs with any pixel that has a share of a level: ``max(0, 1 - |plane + place|)``."""
        low, high = self._ends
        return [
            (slab, float(place))
            for slab, place in enumerate(self.slabs - level)
            if low + place < 1.0 and -high - place < 1.0
        ]

    def shares(self, level: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Slabs with their pixels' shares ``(y, x)`` of a level; over the levels these add up to 1."""
        for slab, place in self.places(level):
            yield slab, np.maximum(1.0 - np.abs(self.plane + np.float32(place)), np.float32(0.0))

    def occupancy(self) -> Float64:
        """Mean share of each level over slabs and pixels, ``(level,)``."""
        found = [
            sum(float(share.mean(dtype=np.float64)) for _, share in self.shares(level))
            for level in range(len(self.change))
        ]
        return np.array(found) / len(self.slabs)


class DefocusStrips(LinearOperator):
    """From slabs of the specimen as a view shows them to the image of the view.

    ``forward``: images ``(slab, y, x)`` of slabs, each filtered by the transfer at its defocus, pixel by
    pixel, and added up, to ``(1, y, x)``. ``adjoint``: the image filtered for every slab. On the CPU an
    image takes one thread.

    Parameters
    ----------
    transfer, view
        Whose transfer it is.
    depth
        Depth in the view.
    heights
        ``(slab,)`` of the slabs in the specimen, in angstrom.
    grid
        Frequencies, for images of the right shape.
    response
        What is made of the transfer before it is applied.
    own
        Which of the slabs are meant: levels are the same for any of them. None: all.
    """

    def __init__(
        self,
        transfer: ViewTransfer,
        view: int,
        depth: DepthPlane,
        heights: Float64,
        grid: TransferGrid,
        response: Response = PLAIN,
        own: NDArray[np.int64] | None = None,
    ) -> None:
        distance = transfer.level_distance(grid.pixel_size)
        levels = Levels.of(depth, heights, transfer.gradient, distance, grid)
        self.levels = levels if own is None else replace(levels, slabs=levels.slabs[own])
        self.transfer, self.view, self.grid, self.response = transfer, view, grid, response
        self.domain = (len(self.levels.slabs), *grid.image_shape)
        self.range = (1, *grid.image_shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Image ``(1, y, x)`` of slabs ``(slab, y, x)``."""
        require_shape(x, self.domain, "filtering by strips")
        image = x.new_empty(self.grid.image_shape)
        self.show(list(x), image)
        return image[None]

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Slabs ``(slab, y, x)``, each the image ``(1, y, x)`` filtered at its defocus."""
        require_shape(y, self.range, "filtering by strips")
        slabs = y.new_empty(self.domain)
        self.show_back(y[0], list(slabs))
        return slabs

    def show(self, slabs: Sequence[torch.Tensor], image: torch.Tensor) -> None:
        """`forward` of tensors ``(y, x)`` into one."""
        if image.is_cuda:
            self._show_cuda(slabs, image)
        else:
            self._show([slab.detach().numpy() for slab in slabs], image.numpy())

    def show_back(self, image: torch.Tensor, slabs: Sequence[torch.Tensor]) -> None:
        """`adjoint` of a tensor ``(y, x)`` into some."""
        if image.is_cuda:
            self._show_back_cuda(image, slabs)
        else:
            self._show_back(image.detach().numpy(), [slab.numpy() for slab in slabs])

    def _show(self, slabs: Sequence[Array], image: Array) -> None:
        total: NDArray[Any] | None = None
        for level, places in self._levels():
            part = np.zeros_like(image)
            for slab, place in places:
                add_share(part, self.levels.plane, place, np.ascontiguousarray(slabs[slab]))
            spectrum, values = scipy.fft.rfft2(part, s=self.grid.padded), self._values(level).numpy()
            if total is None:
                total = np.multiply(spectrum, values, out=spectrum)
            else:
                add_product(total, spectrum, values)
        assert total is not None
        image[:] = self._cropped(total)

    def _show_back(self, image: Array, slabs: Sequence[Array]) -> None:
        for blank in slabs:
            blank[:] = 0.0
        spectrum = scipy.fft.rfft2(image, s=self.grid.padded)
        for level, places in self._levels():
            filtered = np.ascontiguousarray(self._cropped(spectrum * self._values(level).numpy()))
            for slab, place in places:
                add_share(slabs[slab], self.levels.plane, place, filtered)

    def _levels(self) -> Iterator[tuple[int, list[tuple[int, float]]]]:
        """Those that any pixel has a share of, with the slabs and places that have."""
        for level in range(len(self.levels.change)):
            places = self.levels.places(level)
            if places:
                yield level, places

    def _values(self, level: int) -> torch.Tensor:
        """The filter of a level."""
        change = self.levels.change[level : level + 1]
        return self.transfer.at_defocus(self.view, change, self.grid, self.response)[0]

    def _cropped(self, spectrum: NDArray[Any]) -> NDArray[Any]:
        height, width = self.grid.image_shape
        whole: NDArray[Any] = scipy.fft.irfft2(spectrum, s=self.grid.padded, overwrite_x=True)
        return whole[:height, :width]

    # --- on a GPU ---

    def _show_cuda(self, slabs: Sequence[torch.Tensor], image: torch.Tensor) -> None:
        kind = torch.promote_types(image.dtype, torch.complex64)
        total = image.new_zeros(self.grid.spectrum_shape, dtype=kind)
        for level, _ in self._levels():
            part = torch.zeros_like(image)
            for slab, share in self.levels.shares(level):
                part.addcmul_(torch.from_numpy(share).to(image), slabs[slab])
            total += torch.fft.rfft2(part, s=self.grid.padded).mul_(self._values(level).to(image))
        image.copy_(self._cropped_cuda(total))

    def _show_back_cuda(self, image: torch.Tensor, slabs: Sequence[torch.Tensor]) -> None:
        spectrum = torch.fft.rfft2(image, s=self.grid.padded)
        for blank in slabs:
            blank.zero_()
        for level, _ in self._levels():
            filtered = self._cropped_cuda(spectrum * self._values(level).to(image))
            for slab, share in self.levels.shares(level):
                slabs[slab].addcmul_(torch.from_numpy(share).to(image), filtered)

    def _cropped_cuda(self, spectrum: torch.Tensor) -> torch.Tensor:
        height, width = self.grid.image_shape
        whole: torch.Tensor = torch.fft.irfft2(spectrum, s=self.grid.padded)
        return whole[:height, :width]


@register("defocus strips")
def _example(case: int) -> DefocusStrips:
    shape, hand = (((18, 23), 1), ((16, 30), -1), ((21, 12), 0))[case]
    defocus = [[9000.0, 8000.0]]
    transfer = ViewTransfer(Optics.make(300.0, 2.7, 0.07, defocus, 30.0), np.array([8.0 * case]), hand)
    depth = DepthPlane.of(TiltGeometry.from_tilt_axis([50.0], 20.0).matrices[0])
    grid = TransferGrid.of(shape, 4.0, transfer.spread_pixels(4.0))
    return DefocusStrips(transfer, 0, depth, np.array([-60.0, 0.0, 55.0])[: case + 1], grid)
