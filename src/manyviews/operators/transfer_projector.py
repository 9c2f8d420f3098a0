"""The tilt projector with the microscope's transfer: contrast that varies in three dimensions.

A view is ``sum_k T_k W_k x_k``: the volume in slabs of slices thin enough to have one defocus at each pixel,
W_k what projects a slab, T_k the transfer at its defocus (`manyviews.operators.defocus_strips`).
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from manyviews.geometry.view_depth import DepthPlane
from manyviews.geometry.views import TiltGeometry
from manyviews.operators.contrast_transfer import Optics, phase_coefficients
from manyviews.operators.defocus_strips import DefocusStrips
from manyviews.operators.linear import register
from manyviews.operators.slab_projector import (
    SlabFrames,
    SlabProjector,
    SlabSums,
    usual_block_bytes,
)
from manyviews.operators.tilt_projector import EXAMPLE_SHAPES, AxisProjector, Shape3, example_geometry
from manyviews.operators.transfer_kernel import TransferRods, fading_tables, ring_tables
from manyviews.operators.view_transfer import TransferGrid, ViewTransfer


class TransferProjector(SlabProjector):
    """Projector of a whole volume in memory, with the contrast transfer of every view.

    Parameters
    ----------
    geometry, volume_shape, image_shape, pixel_size
        As of `SlabProjector`; ``pixel_size`` is in angstrom.
    transfer
        Of the views of the geometry.
    slab_slices
        Slices that share one defocus; None: as many as may (`ViewTransfer.slab_slices`).
    """

    def __init__(
        self,
        geometry: TiltGeometry,
        volume_shape: Shape3,
        image_shape: tuple[int, int],
        pixel_size: float,
        transfer: ViewTransfer,
        *,
        slab_slices: int | None = None,
    ) -> None:
        slices = min(slab_slices or transfer.slab_slices(geometry, pixel_size), volume_shape[0])
        slabs = -(-volume_shape[0] // slices)
        super().__init__(
            geometry,
            volume_shape,
            image_shape,
            pixel_size,
            piece_slices=slices,
            block_bytes=usual_block_bytes(1) // slabs,
        )
        self.transfer = transfer
        middle = volume_shape[0] // 2
        self.slab_heights = np.array([0.5 * (piece.start + piece.stop - 1) - middle for piece in self.pieces])
        self.grid = TransferGrid.of(image_shape, pixel_size, transfer.spread_pixels(pixel_size))

    def select(self, views: ArrayLike) -> TransferProjector:
        """The projector of some of the views."""
        chosen = np.arange(len(self.geometry))[np.asarray(views)]
        return TransferProjector(
            self.geometry.select(chosen),
            self.volume_shape,
            self.image_shape,
            self.pixel_size,
            self.transfer.select(chosen),
            slab_slices=self.piece_slices,
        )

    def strips(self, view: int) -> DefocusStrips:
        """The transfer of a view, slab by slab."""
        depth = DepthPlane.of(self.geometry.matrices[view])
        return DefocusStrips(self.transfer, view, depth, self.slab_heights * self.pixel_size, self.grid)

    @functools.cached_property
    def rods(self) -> TransferRods:
        """What the kernel of the normal operator is drawn with."""
        levels = [self.strips(view).levels for view in range(len(self.geometry))]
        optics, size = self.transfer.optics, self.pixel_size
        return TransferRods(
            geometry=self.geometry,
            pixel_size=size,
            phases=phase_coefficients(optics),
            rings=ring_tables(
                [one.change for one in levels], [one.occupancy() for one in levels], optics.voltage_kv, size
            ),
            fading=fading_tables(self.transfer.dose, optics.voltage_kv, size),
            spread=2 * self.transfer.spread_pixels(size),
        )

    def _new_held(self, axis: AxisProjector, like: torch.Tensor) -> None:
        """Nothing: slabs of a defocus are not added up before they are images."""

    def _project_part(
        self, number: int, part: slice, frames: SlabFrames, held: torch.Tensor | None
    ) -> tuple[slice, torch.Tensor]:
        axis = self.axes[number]
        slabs = []
        for piece, height in enumerate(self.heights):
            detector = axis.new_detector(part, frames.slab)
            axis.stream(frames.packed(number, piece), part, detector, height)
            slabs.append(axis.to_images(detector, part))
        images = torch.empty_like(slabs[0], memory_format=torch.contiguous_format)
        for place, view in enumerate(axis.group.views[part].tolist()):
            images[place] = self.strips(view).forward(torch.stack([slab[place] for slab in slabs]))[0]
        return part, images

    def _take_back(
        self,
        axis: AxisProjector,
        part: slice,
        own: slice,
        images: torch.Tensor,
        held: torch.Tensor | None,
        sums: SlabSums,
    ) -> None:
        slabs = images.new_empty((len(self.pieces), *images.shape))
        for place, view in enumerate(axis.group.views[part].tolist()):
            slabs[:, place] = self.strips(view).adjoint(images[place : place + 1])
        for piece, height, slab in zip(self.pieces, self.heights, slabs, strict=True):
            sums.add(axis, piece, height, part, axis.to_detector(slab, part))
            if len(self.pieces) > 1:
                sums.bring_home(axis, piece, height)

    def _bring_home(self, axis: AxisProjector, held: torch.Tensor | None, sums: SlabSums) -> None:
        """What several slabs of a defocus got is home already."""
        if len(self.pieces) == 1:
            super()._bring_home(axis, held, sums)


def example_transfer(views: int, hand: int) -> ViewTransfer:
    """Of some views, for the tests of operators: pixels of 4 angstrom or about."""
    defocus = np.linspace(6000.0, 9000.0, views)
    pairs = np.stack([defocus, defocus - 500.0], axis=1)
    return ViewTransfer(Optics.make(300.0, 2.7, 0.07, pairs, 20.0), np.linspace(0.0, 20.0, views), hand)


@register("transfer projector")
def _example(case: int) -> TransferProjector:
    geometry = _in_angstrom(example_geometry(case), 4.0)
    transfer = example_transfer(len(geometry), (1, -1, 0)[case])
    return TransferProjector(geometry, *EXAMPLE_SHAPES[case], 4.0, transfer, slab_slices=(3, 4, None)[case])


def _in_angstrom(geometry: TiltGeometry, pixel_size: float) -> TiltGeometry:
    """Shifts in pixels to angstrom."""
    matrices: NDArray[np.float64] = geometry.matrices.copy()
    matrices[:, :2, 3] *= pixel_size
    return TiltGeometry(
        matrices, geometry.series, geometry.sections, geometry.tilt_degrees, geometry.axis_degrees
    )
