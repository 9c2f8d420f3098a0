"""Filtering an image by a CTF whose defocus varies over it, as it does in a tilted view.

The image is filtered at a few levels of defocus, and every pixel is taken from the two levels next to its
own, in proportion: strips along the tilt axis that go over into each other. Jensen & Kornberg (2000)
Ultramicroscopy 84:57 and Turonova et al. (2017) J. Struct. Biol. 199:187 do the same, slab by slab of the
specimen, to correct in three dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.geometry.view_depth import DepthPlane
from manyviews.geometry.views import TiltGeometry
from manyviews.operators.contrast_transfer import Optics
from manyviews.operators.linear import LinearOperator, register, require_shape
from manyviews.operators.view_transfer import TransferGrid, ViewTransfer, defocus_levels

Float64 = NDArray[np.float64]
Response = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Levels:
    """Levels of defocus of a view, and which of them each pixel is between.

    ``change (level,)`` is the defocus less that of the view, in angstrom. A pixel of a slab lies at
    ``plane (y, x)`` plus ``slabs (slab,)`` among the levels, counted from 0.
    """

    change: Float64
    plane: torch.Tensor
    slabs: Float64

    @classmethod
    def of(
        cls, depth: DepthPlane, heights: Float64, hand: int, distance: float, grid: TransferGrid
    ) -> Levels:
        """For slabs of the specimen at ``heights (slab,)`` angstrom, levels ``distance`` apart at most."""
        plane = hand * depth.on_pixels(grid.image_shape, grid.pixel_size)
        slabs = hand * depth.rise * heights
        low, high = plane.min() + slabs.min(), plane.max() + slabs.max()
        levels = defocus_levels(float(low), float(high), distance)
        step = levels[1] - levels[0] if len(levels) > 1 else np.inf
        places = torch.from_numpy(((plane - levels[0]) / step).astype(np.float32))
        return cls(levels, places, slabs / step)

    def shares(self, level: int) -> Iterator[tuple[int, torch.Tensor]]:
        """Slabs with their pixels' shares ``(y, x)`` of a level; over the levels these add up to 1."""
        low, high = (float(end) for end in torch.aminmax(self.plane))
        for slab, place in enumerate(self.slabs):
            if low + place - level < 1.0 and level - high - place < 1.0:
                away = (self.plane + (place - level)).abs_()
                yield slab, away.neg_().add_(1.0).clamp_(min=0.0)

    def occupancy(self) -> Float64:
        """Mean share of each level over slabs and pixels, ``(level,)``."""
        found = [sum(float(share.mean()) for _, share in self.shares(n)) for n in range(len(self.change))]
        return np.array(found) / len(self.slabs)


class DefocusStrips(LinearOperator):
    """From slabs of the specimen as a view shows them to the image of the view.

    ``forward``: images ``(slab, y, x)`` of slabs, each filtered by the transfer at its defocus, pixel by
    pixel, and added up, to ``(1, y, x)``. ``adjoint``: the image filtered for every slab.

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
        What is made of the transfer ``(y, x // 2 + 1)`` before it is applied; None: nothing.
    """

    def __init__(
        self,
        transfer: ViewTransfer,
        view: int,
        depth: DepthPlane,
        heights: Float64,
        grid: TransferGrid,
        response: Response | None = None,
    ) -> None:
        distance = transfer.level_distance(grid.pixel_size)
        self.levels = Levels.of(depth, heights, transfer.hand, distance, grid)
        self.transfer, self.view, self.grid, self.response = transfer, view, grid, response
        self.domain = (len(heights), *grid.image_shape)
        self.range = (1, *grid.image_shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Image ``(1, y, x)`` of slabs ``(slab, y, x)``."""
        require_shape(x, self.domain, "filtering by strips")
        total: torch.Tensor | None = None
        for level, values in self._filters(x):
            part = x.new_zeros(self.grid.image_shape)
            for slab, share in self.levels.shares(level):
                part.addcmul_(share.to(x), x[slab])
            spectrum = torch.fft.rfft2(part, s=self.grid.padded).mul_(values)
            total = spectrum if total is None else total.add_(spectrum)
        assert total is not None
        return self._cropped(total)[None]

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Slabs ``(slab, y, x)``, each the image ``(1, y, x)`` filtered at its defocus."""
        require_shape(y, self.range, "filtering by strips")
        spectrum = torch.fft.rfft2(y[0], s=self.grid.padded)
        slabs = y.new_zeros(self.domain)
        for level, values in self._filters(y):
            filtered = self._cropped(spectrum * values)
            for slab, share in self.levels.shares(level):
                slabs[slab].addcmul_(share.to(y), filtered)
        return slabs

    def _filters(self, like: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        for level in range(len(self.levels.change)):
            values = self.transfer.at_defocus(self.view, self.levels.change[level : level + 1], self.grid)[0]
            yield level, (values if self.response is None else self.response(values)).to(like)

    def _cropped(self, spectrum: torch.Tensor) -> torch.Tensor:
        height, width = self.grid.image_shape
        whole: torch.Tensor = torch.fft.irfft2(spectrum, s=self.grid.padded)
        return whole[:height, :width].contiguous()


@register("defocus strips")
def _example(case: int) -> DefocusStrips:
    shape, hand = (((18, 23), 1), ((16, 30), -1), ((21, 12), 0))[case]
    defocus = [[9000.0, 8000.0]]
    transfer = ViewTransfer(Optics.make(300.0, 2.7, 0.07, defocus, 30.0), np.array([8.0 * case]), hand)
    depth = DepthPlane.of(TiltGeometry.from_tilt_axis([50.0], 20.0).matrices[0])
    grid = TransferGrid.of(shape, 4.0, transfer.spread_pixels(4.0))
    return DefocusStrips(transfer, 0, depth, np.array([-60.0, 0.0, 55.0])[: case + 1], grid)
