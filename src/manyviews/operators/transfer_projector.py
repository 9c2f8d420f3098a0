"""The tilt projector with the microscope's transfer: contrast that varies in three dimensions.

A view is ``sum_k T_k W_k x_k``: the volume in *layers* of slices thin enough to have one defocus at each
pixel, W_k what projects a layer, T_k the transfer at its defocus (`manyviews.operators.defocus_strips`).
Layers are those of the whole volume, whichever slices a rank has and however many it projects at a time.
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
    block_counts,
    usual_block_bytes,
)
from manyviews.operators.slice_threads import each_one
from manyviews.operators.tilt_projector import EXAMPLE_SHAPES, AxisProjector, Shape3, example_geometry
from manyviews.operators.transfer_kernel import TransferRods, fading_tables, ring_tables
from manyviews.operators.view_transfer import TransferGrid, ViewTransfer
from manyviews.parallel.world import World, shares


class TransferProjector(SlabProjector):
    """Projector of a tilt geometry with the contrast transfer of every view.

    Parameters
    ----------
    geometry, volume_shape, image_shape, pixel_size, exchange, piece_slices, block_bytes
        As of `SlabProjector`; ``pixel_size`` is in angstrom. Every layer takes the room of a block of images.
    transfer
        Of the views of the geometry.
    layer_slices
        Slices that share one defocus; None: as many as may (`ViewTransfer.layer_slices`).
    """

    def __init__(
        self,
        geometry: TiltGeometry,
        volume_shape: Shape3,
        image_shape: tuple[int, int],
        pixel_size: float,
        transfer: ViewTransfer,
        *,
        exchange: World | None = None,
        piece_slices: int | None = None,
        block_bytes: int | None = None,
        layer_slices: int | None = None,
    ) -> None:
        depth = volume_shape[0]
        slices = min(layer_slices or transfer.layer_slices(geometry, pixel_size), depth)
        layers = layers_of(depth, slices)
        ranks = 1 if exchange is None else exchange.size
        super().__init__(
            geometry,
            volume_shape,
            image_shape,
            pixel_size,
            exchange=exchange,
            piece_slices=piece_slices,
            block_bytes=(block_bytes or usual_block_bytes(ranks)) // own_layers(len(layers), ranks),
        )
        self.transfer, self.layer_slices, self.given_block_bytes = transfer, slices, block_bytes
        cut = [(part, layer) for layer, whole in enumerate(layers) for part in self._own_parts(whole)]
        self._take_pieces([part for part, _ in cut])
        # Own layers, and which of them each piece is of.
        self.layers, self.layer_of = np.unique([layer for _, layer in cut], return_inverse=True)
        self.layer_heights = np.array([0.5 * (one.start + one.stop - 1) - depth // 2 for one in layers])
        self.grid = TransferGrid.of(image_shape, pixel_size, transfer.spread_pixels(pixel_size))

    def _own_parts(self, layer: slice) -> list[slice]:
        """What the slab has of a layer, counted from its first slice, in parts of a piece at most."""
        first, last = max(layer.start, self.slab.start), min(layer.stop, self.slab.stop)
        if first >= last:
            return []
        count = last - first
        parts = shares(count, -(-count // min(count, self.piece_slices or count)))
        beginning = first - self.slab.start
        return [slice(beginning + part.start, beginning + part.stop) for part in parts]

    def select(self, views: ArrayLike) -> TransferProjector:
        """The projector of some of the views, whose images are padded as before."""
        chosen = np.arange(len(self.geometry))[np.asarray(views)]
        projector = TransferProjector(
            self.geometry.select(chosen),
            self.volume_shape,
            self.image_shape,
            self.pixel_size,
            self.transfer.select(chosen),
            exchange=self.exchange,
            piece_slices=self.piece_slices,
            block_bytes=self.given_block_bytes,
            layer_slices=self.layer_slices,
        )
        projector.grid = self.grid
        return projector

    def strips(self, view: int, own: NDArray[np.int64] | None = None) -> DefocusStrips:
        """The transfer of a view, layer by layer: of all layers, or of those of one slab."""
        depth, heights = DepthPlane.of(self.geometry.matrices[view]), self.layer_heights * self.pixel_size
        return DefocusStrips(self.transfer, view, depth, heights, self.grid, own=own)

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
        """Nothing: layers are not added up before they are images."""

    def _project_part(
        self, number: int, part: slice, frames: SlabFrames, held: torch.Tensor | None
    ) -> tuple[slice, torch.Tensor]:
        axis = self.axes[number]
        layers: list[torch.Tensor] = []
        for piece, height in enumerate(self.heights):
            detector = axis.new_detector(part, frames.slab)
            axis.stream(frames.packed(number, piece), part, detector, height)
            images = axis.to_images(detector, part)
            if self.layer_of[piece] < len(layers):
                layers[-1] = layers[-1] + images
            else:
                layers.append(images)
        images = self._shown(axis.group.views[part], layers)
        if self.exchange is None:
            return part, images
        return self._own(part), self.exchange.sum_scatter(images, block_counts(part, self.exchange.size))

    def _take_back(
        self,
        axis: AxisProjector,
        part: slice,
        own: slice,
        images: torch.Tensor,
        held: torch.Tensor | None,
        sums: SlabSums,
    ) -> None:
        if self.exchange is not None:
            images = self.exchange.all_gather(images.contiguous(), block_counts(part, self.exchange.size))
        layers = self._shown_back(axis.group.views[part], images)
        for piece, height, layer in zip(self.pieces, self.heights, self.layer_of, strict=True):
            sums.add(axis, piece, height, part, axis.to_detector(layers[layer], part))
            if len(self.pieces) > 1:
                sums.bring_home(axis, piece, height)

    def _shown(self, views: NDArray[np.int64], layers: list[torch.Tensor]) -> torch.Tensor:
        """Images ``(k, y, x)`` of layers, on the CPU a view a thread."""
        images = torch.empty_like(layers[0], memory_format=torch.contiguous_format)

        def show(place: int) -> None:
            self.strips(int(views[place]), self.layers).show(
                [layer[place] for layer in layers], images[place]
            )

        each_one(len(views), images, show)
        return images

    def _shown_back(self, views: NDArray[np.int64], images: torch.Tensor) -> torch.Tensor:
        """The way back: layers ``(layer, k, y, x)`` of images."""
        layers = images.new_empty((len(self.layers), *images.shape))

        def show_back(place: int) -> None:
            self.strips(int(views[place]), self.layers).show_back(images[place], list(layers[:, place]))

        each_one(len(views), images, show_back)
        return layers

    def _bring_home(self, axis: AxisProjector, held: torch.Tensor | None, sums: SlabSums) -> None:
        """What several layers got is home already."""
        if len(self.pieces) == 1:
            super()._bring_home(axis, held, sums)


def layers_of(depth: int, layer_slices: int) -> list[slice]:
    """The layers of a volume, each of so many slices at most."""
    return shares(depth, -(-depth // min(layer_slices, depth)))


def own_layers(layers: int, ranks: int) -> int:
    """How many of the layers a slab has a part of at most, where so many ranks have one."""
    return min(layers, -(-layers // ranks) + 1)


def example_transfer(views: int, hand: int) -> ViewTransfer:
    """Of some views, for the tests of operators: pixels of 4 angstrom or about."""
    defocus = np.linspace(6000.0, 9000.0, views)
    pairs = np.stack([defocus, defocus - 500.0], axis=1)
    return ViewTransfer(Optics.make(300.0, 2.7, 0.07, pairs, 20.0), np.linspace(0.0, 20.0, views), hand)


@register("transfer projector")
def _example(case: int) -> TransferProjector:
    geometry = _in_angstrom(example_geometry(case), 4.0)
    transfer = example_transfer(len(geometry), (1, -1, 0)[case])
    return TransferProjector(geometry, *EXAMPLE_SHAPES[case], 4.0, transfer, layer_slices=(3, 4, None)[case])


def _in_angstrom(geometry: TiltGeometry, pixel_size: float) -> TiltGeometry:
    """Shifts in pixels to angstrom."""
    matrices: NDArray[np.float64] = geometry.matrices.copy()
    matrices[:, :2, 3] *= pixel_size
    return TiltGeometry(
        matrices, geometry.series, geometry.sections, geometry.tilt_degrees, geometry.axis_degrees
    )
