"""The tilt projector for volumes that no process holds whole: in slabs, in pieces, in blocks of views.

Every process holds a *slab* of slices. It streams all views through its slab, a *block* of views at a time,
and finishes its share of every block: only for those are images read and made. A slab may lie in a file; it
is then gone through in *pieces* of a few slices, whose frames fit in memory. Each piece is read and brought
to the frame of a tilt axis once, and adds to the detectors of all views of the axis, which may be in a file
too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from manyviews.geometry.views import TiltGeometry
from manyviews.kernels.streams_cpu import PackedFrame
from manyviews.operators.axis_groups import group_by_axis
from manyviews.operators.linear import LinearOperator, register, require_shape
from manyviews.operators.tilt_projector import (
    BLOCK_BYTES,
    EXAMPLE_SHAPES,
    AxisProjector,
    Shape3,
    example_geometry,
    pick,
    spline_coefficients,
)
from manyviews.operators.view_kernel import RodPlanes
from manyviews.parallel.world import World, shares

ReadViews = Callable[[NDArray[np.int64]], torch.Tensor]
Allocate = Callable[[], torch.Tensor]
AllocateShape = Callable[[tuple[int, ...]], torch.Tensor]
Block = tuple[NDArray[np.int64], torch.Tensor]

# Blocks shrink with the number of slabs, as everything else that a process holds does, down to this.
_LEAST_BLOCK_BYTES = 16 * 2**20


def usual_block_bytes(ranks: int) -> int:
    """Images handled at a time by processes with ``ranks`` slabs."""
    return max(_LEAST_BLOCK_BYTES, BLOCK_BYTES // ranks)


class SlabProjector(LinearOperator):
    """Projector of a tilt geometry through this process's slab of the volume.

    Parameters
    ----------
    geometry, volume_shape, image_shape, pixel_size
        As of `TiltProjector`, for the whole volume.
    exchange
        Processes that hold a slab of slices each, `shares` of them; None: this one holds all. The volume
        given to a method is this process's slab.
    piece_slices
        Slices handled at a time, where frames of the whole slab would not fit in memory.
    block_bytes
        Images handled at a time; None: `usual_block_bytes`.
    allocate_detectors
        Where detectors of all views of an axis are while a slab is projected in pieces; None: in memory.
    """

    def __init__(
        self,
        geometry: TiltGeometry,
        volume_shape: Shape3,
        image_shape: tuple[int, int],
        pixel_size: float = 1.0,
        *,
        exchange: World | None = None,
        piece_slices: int | None = None,
        block_bytes: int | None = None,
        allocate_detectors: AllocateShape | None = None,
    ) -> None:
        self.geometry = geometry
        self.volume_shape = volume_shape
        self.image_shape = image_shape
        self.pixel_size = pixel_size
        self.exchange = exchange if exchange is not None and exchange.size > 1 else None
        self.piece_slices = piece_slices
        self.allocate_detectors = allocate_detectors
        ranks, rank = (exchange.size, exchange.rank) if exchange is not None else (1, 0)
        self.block_bytes = block_bytes or usual_block_bytes(ranks)
        self.slab = shares(volume_shape[0], ranks)[rank]
        self.domain = (self.slab.stop - self.slab.start, *volume_shape[1:])
        self.range = (len(geometry), *image_shape)
        self.groups = group_by_axis(geometry, volume_shape, image_shape, pixel_size)
        self.axes = [AxisProjector.of(group, volume_shape, image_shape) for group in self.groups]
        self._take_pieces(shares(self.domain[0], _piece_count(volume_shape[0], ranks, piece_slices)))

    def _take_pieces(self, pieces: list[slice]) -> None:
        """Go through the slab in these pieces; ``heights`` are those of their middles above the volume's."""
        self.pieces = pieces
        self.heights = [
            self.slab.start + piece.start + (piece.stop - piece.start) // 2 - self.volume_shape[0] // 2
            for piece in pieces
        ]

    def select(self, views: ArrayLike) -> SlabProjector:
        """The projector of some of the views."""
        return SlabProjector(
            self.geometry.select(views),
            self.volume_shape,
            self.image_shape,
            self.pixel_size,
            exchange=self.exchange,
            piece_slices=self.piece_slices,
            block_bytes=self.block_bytes,
            allocate_detectors=self.allocate_detectors,
        )

    @property
    def rods(self) -> RodPlanes | None:
        """What the kernel of the normal operator is drawn with; None: plain rods."""
        return None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images ``(view, y, x)`` of a slab ``(z, y, x)``; of all views and slabs, on every rank."""
        require_shape(x, self.domain, "projecting")
        images = x.new_zeros(self.range)
        for views, block in self.project_blocks(x):
            images[pick(views, x.device)] = block
        return images if self.exchange is None else self.exchange.sum(images)

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Back-project images ``(view, y, x)`` to a slab ``(z, y, x)``."""
        require_shape(y, self.range, "back-projecting")
        return self.back_project(lambda views: y[pick(views, y.device)])

    def project_blocks(self, x: torch.Tensor) -> Iterator[Block]:
        """Project a few views at a time: pairs of view indices ``(k,)`` and images ``(k, y, x)``.

        Every rank gets its share of every block.
        """
        frames = SlabFrames(self.axes, self.pieces, self.heights, x)
        for number, axis in enumerate(self.axes):
            held = self._through_pieces(number, frames)
            for part in axis.blocks(self.block_bytes):
                own, images = self._project_part(number, part, frames, held)
                yield axis.group.views[own], images
            del held  # its room, before the next axis takes as much

    def back_project(self, read: ReadViews, allocate: Allocate | None = None) -> torch.Tensor:
        """Back-project images that ``read(view indices)`` hands over a few at a time, in view-group order.

        Every view is asked for once. ``allocate`` gives the tensor for the result; left out: a new one like
        the images.
        """
        sums: SlabSums | None = None
        for axis in self.axes:
            held: torch.Tensor | None = None
            for number, part in enumerate(axis.blocks(self.block_bytes)):
                own = self._own(part)
                images = read(axis.group.views[own])
                sums = sums or SlabSums(images.new_empty(self.domain) if allocate is None else allocate())
                held = self._new_held(axis, images) if number == 0 else held
                self._take_back(axis, part, own, images, held, sums)
                del images  # before the next block takes as much
            assert sums is not None
            self._bring_home(axis, held, sums)
            del held
        assert sums is not None
        return sums.total

    def residual_gradient(
        self,
        x: torch.Tensor,
        read: ReadViews,
        weights: NDArray[np.float64],
        row_scale: ReadViews | None = None,
        allocate: Allocate | None = None,
        pixel_weights: ReadViews | None = None,
    ) -> tuple[torch.Tensor, float, float]:
        """Exact gradient at ``x`` in one pass over the data.

        Returns ``W' L (p - W x)``, ``sum_v l_v |p_v - W_v x|^2`` and ``sum_v l_v |p_v|^2`` for view weights
        ``l`` (``weights (view,)``, the diagonal L). ``pixel_weights(views)`` gives weights ``(k, y, x)`` that
        L and both sums have beside those of the views, ``row_scale(views)`` some for the gradient alone.
        """
        frames = SlabFrames(self.axes, self.pieces, self.heights, x)
        sums = SlabSums(x.new_empty(self.domain) if allocate is None else allocate())
        residual_energy = data_energy = 0.0
        for number, axis in enumerate(self.axes):
            held = self._through_pieces(number, frames)
            for part in axis.blocks(self.block_bytes):
                own, projected = self._project_part(number, part, frames, held)
                views = axis.group.views[own]
                images = read(views)
                residual = torch.sub(images, projected, out=projected)
                scale = torch.from_numpy(weights[views]).to(residual).view(-1, 1, 1)
                pixels = None if pixel_weights is None else pixel_weights(views)
                data_energy += weighted_energy(images, weights[views], pixels)
                residual_energy += weighted_energy(residual, weights[views], pixels)
                residual.mul_(scale if row_scale is None else scale * row_scale(views))
                if pixels is not None:
                    residual.mul_(pixels)
                del images, pixels
                self._take_back(axis, part, own, residual, held, sums)
                del projected, residual  # before the next block takes as much
            self._bring_home(axis, held, sums)
            del held
        if self.exchange is not None:
            energies = torch.tensor([residual_energy, data_energy], dtype=torch.float64)
            residual_energy, data_energy = (float(value) for value in self.exchange.sum(energies))
        return sums.total, residual_energy, data_energy

    def _own(self, part: slice) -> slice:
        """This rank's share of a block of views."""
        if self.exchange is None:
            return part
        share = shares(part.stop - part.start, self.exchange.size)[self.exchange.rank]
        return slice(part.start + share.start, part.start + share.stop)

    def _new_held(self, axis: AxisProjector, like: torch.Tensor) -> torch.Tensor | None:
        """Room for detectors ``(view, t, w)`` of all views of an axis; None where there is one piece.

        Every block of views goes through one piece by itself.
        """
        if len(self.pieces) == 1:
            return None
        new = self.allocate_detectors or like.new_empty
        return new((len(axis.group.views), axis.group.detector_length, axis.group.width))

    def _through_pieces(self, number: int, frames: SlabFrames) -> torch.Tensor | None:
        """Detectors of `_new_held`, every piece of the slab streamed to them in its turn."""
        axis = self.axes[number]
        held = self._new_held(axis, frames.slab)
        if held is None:
            return None
        for piece, height in enumerate(self.heights):
            for part in axis.blocks(self.block_bytes):
                place = held[part] if piece == 0 else axis.new_detector(part, frames.slab)
                axis.stream(frames.packed(number, piece), part, place, height)
                if piece > 0:
                    held[part].add_(place)
                del place
        frames.release()
        return held

    def _project_part(
        self, number: int, part: slice, frames: SlabFrames, held: torch.Tensor | None
    ) -> tuple[slice, torch.Tensor]:
        """This rank's share of a block of views, and its images; ``held`` of `_through_pieces`."""
        axis = self.axes[number]
        if self.exchange is None and held is None:
            return part, axis.project(frames.packed(number, 0), part, frames.slab)
        if held is None:
            detector = axis.new_detector(part, frames.slab)
            axis.stream(frames.packed(number, 0), part, detector, self.heights[0])
        else:
            detector = held[part]
        if self.exchange is not None:
            detector = self.exchange.sum_scatter(detector, block_counts(part, self.exchange.size))
        own = self._own(part)
        return own, axis.to_images(detector, own)

    def _take_back(
        self,
        axis: AxisProjector,
        part: slice,
        own: slice,
        images: torch.Tensor,
        held: torch.Tensor | None,
        sums: SlabSums,
    ) -> None:
        """Own images of a block to its detectors, and these to the slab, or to ``held`` for `_bring_home`."""
        detector = self._all_detectors(axis, part, own, images)
        if held is None:
            sums.add(axis, self.pieces[0], self.heights[0], part, detector)
        else:
            held[part] = detector

    def _bring_home(self, axis: AxisProjector, held: torch.Tensor | None, sums: SlabSums) -> None:
        """Add to the slab what the detectors of all views of an axis hold, piece by piece."""
        for piece, height in zip(self.pieces, self.heights, strict=True):
            if held is not None:
                for part in axis.blocks(self.block_bytes):
                    sums.add(axis, piece, height, part, held[part])
            sums.bring_home(axis, piece, height)

    def _all_detectors(
        self, axis: AxisProjector, part: slice, own: slice, images: torch.Tensor
    ) -> torch.Tensor:
        """Detectors ``(k, t, w)`` of a whole block, from this rank's share of images."""
        detector = axis.to_detector(images, own)
        if self.exchange is None:
            return detector
        return self.exchange.all_gather(detector.contiguous(), block_counts(part, self.exchange.size))


class SlabFrames:
    """The pieces of a slab in the frames of the axes, packed when asked for; the last one is kept."""

    def __init__(
        self,
        axes: Sequence[AxisProjector],
        pieces: Sequence[slice],
        heights: Sequence[int],
        slab: torch.Tensor,
    ) -> None:
        self.slab = slab
        self._axes = axes
        self._pieces = pieces
        self._heights = heights
        self._coefficients: torch.Tensor | None = None
        self._key: tuple[int, int] | None = None
        self._packed: PackedFrame | torch.Tensor | None = None

    def packed(self, number: int, piece: int) -> PackedFrame | torch.Tensor:
        """A piece of the slab in the frame of an axis, as the kernel wants it."""
        if self._key != (number, piece) or self._packed is None:
            self._packed = None  # its memory, before the next one takes as much
            axis, slices = self._axes[number], self.slab[self._pieces[piece]]
            coefficients = self._spline(slices) if axis.group.rotated else None
            self._packed = axis.pack(slices, coefficients, self._heights[piece])
            self._key = (number, piece)
        return self._packed

    def release(self) -> None:
        """Keep no piece."""
        self._packed = None

    def _spline(self, slices: torch.Tensor) -> torch.Tensor:
        """Spline coefficients of a piece; those of a whole slab serve all axes."""
        if self._coefficients is not None:
            return self._coefficients
        coefficients = spline_coefficients(slices)
        if len(self._pieces) == 1:
            self._coefficients = coefficients
        return coefficients


class SlabSums:
    """Back-projections of all axes, added up: blocks of views in the frame of a piece first."""

    def __init__(self, total: torch.Tensor) -> None:
        self.total = total.zero_()
        self._frame: torch.Tensor | None = None

    def add(
        self, axis: AxisProjector, piece: slice, height: int, part: slice, detector: torch.Tensor
    ) -> None:
        """Back-project detectors ``(k, t, w)`` into a piece, which stays in its frame until `bring_home`."""
        if self._frame is None:
            self._frame = axis.blank_frame(self.total, piece.stop - piece.start)
        axis.back_project(detector, part, self._frame, height)

    def bring_home(self, axis: AxisProjector, piece: slice, height: int) -> None:
        """Add what the frame holds to the total."""
        assert self._frame is not None
        self.total[piece].add_(axis.from_frame(self._frame, height))
        self._frame = None


def _piece_count(depth: int, ranks: int, piece_slices: int | None) -> int:
    """Pieces of a slab, as many on all ranks, so that they go through their views in step."""
    thickest, thinnest = -(-depth // ranks), depth // ranks
    return min(-(-thickest // (piece_slices or thickest)), max(1, thinnest))


def block_counts(part: slice, ranks: int) -> list[int]:
    """Views of a block that each rank finishes."""
    return [share.stop - share.start for share in shares(part.stop - part.start, ranks)]


def image_energies(
    images: torch.Tensor, weights: NDArray[np.float64], pixels: torch.Tensor | None = None
) -> NDArray[np.float64]:
    """``l_v sum m_v image_v^2`` of every image ``(k, y, x)``; ``pixels (k, y, x)`` are m, None: 1.

    Norms are in their own precision, squares in float64.
    """
    weighted = images if pixels is None else images * pixels.sqrt()
    norms = torch.linalg.vector_norm(weighted, dim=(1, 2)).double().cpu().numpy()
    return np.asarray(weights * norms**2, dtype=np.float64)


def weighted_energy(
    images: torch.Tensor, weights: NDArray[np.float64], pixels: torch.Tensor | None = None
) -> float:
    """``sum_v l_v sum m_v image_v^2`` of images ``(k, y, x)``; see `image_energies`."""
    return float(image_energies(images, weights, pixels).sum())


@register("slab projector")
def _example(case: int) -> SlabProjector:
    pieces, block_bytes = (3, 2, 2)[case], (None, 1, 40_000)[case]
    return SlabProjector(
        example_geometry(case), *EXAMPLE_SHAPES[case], piece_slices=pieces, block_bytes=block_bytes
    )
