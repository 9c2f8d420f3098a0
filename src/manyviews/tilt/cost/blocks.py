"""What a block of views goes through on one rank, between a slab of slices and images: bytes and time.

The counts follow `manyviews.operators.slab_projector` and its kernels line by line.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

from manyviews.kernels.lanes import WIDTH, lane_count
from manyviews.kernels.streams_cpu import PACKED_PIECES, PAD, PIECE, TABLE_VIEWS
from manyviews.operators.axis_groups import AxisGroup
from manyviews.operators.slab_projector import usual_block_bytes
from manyviews.operators.tilt_projector import BLOCK_BYTES
from manyviews.tilt.cost.transfer import TransferCosts

Shape3 = tuple[int, int, int]

FLOAT = 4
# Bytes of the tables of a projection for each view, slice and column: one int32 and two float32.
_SHARE_BYTES = 12
# Rates of two cores, nanoseconds.
_UPRIGHT_PAIR_NS = 0.15  # a voxel and view, there and back
_OBLIQUE_PAIR_NS = 0.4
_RESAMPLING_NS = 25.0  # a pixel of an image that is resampled, there and back
_TURN_NS = 11.0  # a voxel of a frame, slices turned into it and back
_BLOCK_NS = 2.2  # a voxel and block of views, the block's back-projection added to the frame


@dataclass(frozen=True)
class Stream:
    """How a run works that keeps its volumes in files.

    A convolution may work in ``work_bytes`` at most; ``piece_slices`` of a slab are projected at a time, and
    ``block_bytes`` of images or detectors. ``in_cache``: the system has room for all of the files in memory.
    """

    work_bytes: int
    piece_slices: int
    block_bytes: int = BLOCK_BYTES
    in_cache: bool = False


@dataclass(frozen=True)
class Slab:
    """What the rank with the most slices holds of every volume, ``(z, y, x)`` of the whole.

    ``ranks`` share a volume; with a ``stream`` volumes are in files, else in memory.
    """

    volume_shape: Shape3
    ranks: int = 1
    stream: Stream | None = None

    @property
    def slices(self) -> int:
        """Its slices."""
        return -(-self.volume_shape[0] // self.ranks)

    @property
    def size_bytes(self) -> int:
        """Bytes of one volume."""
        return FLOAT * self.slices * self.plane

    @property
    def plane(self) -> int:
        """Voxels of a slice."""
        return prod(self.volume_shape[1:])

    @property
    def piece(self) -> int:
        """Slices that are projected at a time."""
        if self.stream is None:
            return self.slices
        pieces = -(-self.slices // self.stream.piece_slices)
        return -(-self.slices // pieces)


@dataclass(frozen=True)
class ViewBlock:
    """Bytes of the arrays that a block of views of one group goes through, on one rank.

    ``weighed``: single pixels have weights. ``transfer``: what the projection has of contrast transfer.
    """

    group: AxisGroup
    slab: Slab
    weighed: bool = False
    transfer: TransferCosts | None = None

    @property
    def _layers(self) -> int:
        """Layers of the slab that become images one by one; 0 where the projection knows no transfer."""
        return self.transfer.own_layers(self.slab.ranks) if self.transfer else 0

    @property
    def piece(self) -> int:
        """Slices that are projected at a time."""
        return min(self.slab.piece, self.transfer.layer_slices) if self.transfer else self.slab.piece

    @cached_property
    def views(self) -> int:
        """Views of a block, `AxisProjector.blocks`."""
        stream = self.slab.stream
        most = usual_block_bytes(self.slab.ranks) if stream is None else stream.block_bytes
        most //= max(1, self._layers)
        block = max(1, most // (FLOAT * max(self._detector, self.slab.plane)))
        return min(len(self.group.views), block if block <= WIDTH else block - block % WIDTH)

    @property
    def _own_views(self) -> int:
        return -(-self.views // self.slab.ranks)

    @property
    def _detector(self) -> int:
        return self.group.detector_length * self.group.width

    @property
    def _resampled(self) -> bool:
        return self.group.camera_maps is not None

    @property
    def _cut(self) -> bool:
        return self.piece < self.slab.slices

    @property
    def images(self) -> int:
        """Own images."""
        return FLOAT * self._own_views * self.slab.plane

    @property
    def detectors(self) -> int:
        """Detectors of all views of the block, where they are not the images themselves."""
        apart = self._resampled or self._cut or self.slab.ranks > 1
        return FLOAT * self.views * self._detector if apart else 0

    @property
    def own_lanes(self) -> int:
        """Own detectors or their spline coefficients, images side by side; 0 where nothing is resampled."""
        return FLOAT * lane_count(self._own_views) * self._detector if self._resampled else 0

    @property
    def _packed_detectors(self) -> int:
        pieces = min(PACKED_PIECES, -(-self.group.width // PIECE))
        return FLOAT * pieces * PIECE * min(self.views, TABLE_VIEWS) * (self.group.detector_length + 2 * PAD)

    @property
    def packed_piece(self) -> int:
        """A piece of the slab in the frame, as the kernels want it."""
        return FLOAT * -(-self.group.width // PIECE) * PIECE * self.piece * self.group.columns

    @property
    def tables(self) -> int:
        """How voxels are shared by bins."""
        return _SHARE_BYTES * min(self.views, TABLE_VIEWS) * self.piece * self.group.columns

    @property
    def coefficients(self) -> int:
        """Spline coefficients of a piece's slices."""
        return FLOAT * lane_count(self.piece) * self.slab.plane if self.group.rotated else 0

    @property
    def frame(self) -> int:
        """A piece in the frame."""
        return FLOAT * self.piece * self.group.columns * self.group.width

    @property
    def _frame_lanes(self) -> int:
        if not self.group.rotated:
            return 0
        return lane_count(self.piece) * self.frame // self.piece

    @property
    def packing(self) -> int:
        """Slices to the packed frame; where they are shifted one by one, they lie one after the other."""
        apart = self.coefficients if self.group.shear else 0
        making = self.coefficients + apart + self._frame_lanes
        return max(2 * self.coefficients, making, self.coefficients + self._frame_lanes + self.packed_piece)

    @property
    def held(self) -> int:
        """Detectors of all views, which are in a file while a slab is gone through in pieces."""
        return FLOAT * len(self.group.views) * self._detector if self._cut and not self._layers else 0

    @property
    def _streaming(self) -> int:
        """Packed frame to detectors."""
        return self.tables + (self.detectors or self.images)

    @property
    def _finishing(self) -> int:
        """Detectors to own images."""
        detectors = self.detectors
        own = detectors // self.slab.ranks if self.slab.ranks > 1 or not self._cut else 0
        return max(
            detectors + own if self.slab.ranks > 1 else 0,
            own + (1 if self._own_views == 1 else 2) * self.own_lanes + self.images,
        )

    @property
    def _gathered(self) -> int:
        """Detectors of all ranks, put together."""
        return self.detectors if self.slab.ranks > 1 else 0

    @property
    def _making(self) -> int:
        """Own images to the detectors of a block, without the images as they came."""
        gathered = self._gathered
        making = max(self.images + self.own_lanes, 2 * self.own_lanes) if self._resampled else 0
        return max(making, self.own_lanes + gathered // self.slab.ranks + gathered)

    @property
    def _adding(self) -> int:
        """Detectors of a block, where they are in memory, to the frame."""
        there = 0 if self._cut else self._gathered or self.own_lanes
        return there + self._packed_detectors + self.tables

    def _coming_home(self) -> int:
        """A frame, its copy in lanes, and the slices turned back."""
        if not self.group.rotated:
            return self.frame
        copy = self._frame_lanes if self.piece > 1 else 0
        return self.frame + max(copy + self.coefficients, 2 * self.coefficients)

    def forward(self, kept: int) -> int:
        """`project_blocks`, with measured and projected images of the block before still there."""
        before = (3 if self.weighed else 2) * self.images
        comparing = 5 * self.images if self.weighed else 0
        finishing = self._packed(kept) + max(before + self._finishing, comparing)
        return self._layered + max(self._projecting(kept) + before, finishing)

    @property
    def _layered(self) -> int:
        """Images of all layers, and what they add up to."""
        return FLOAT * self.views * self.slab.plane * (self._layers + 1) if self._layers else 0

    def _packed(self, kept: int) -> int:
        """What is there while detectors become images: no frame where all pieces have been gone through."""
        return 0 if self._cut else kept + self.packed_piece

    def _projecting(self, kept: int) -> int:
        packing = self.packing + (kept if not self.group.rotated else 0)
        return max(packing, kept + self.packed_piece + self._streaming)

    def backward(self) -> int:
        """`back_project` from weighted images."""
        frame = 0 if self._cut else self.frame
        return self._layered + max(
            frame + max((4 if self.weighed else 3) * self.images, 2 * self.images + self._making),
            self.frame + self._adding + (0 if self._cut else self.images),
            self._coming_home() + self.images,
        )

    def weighting(self) -> int:
        """Back-projection of images weighted one by one: each is a window of one four times as large."""
        return self.frame + 7 * self.images

    def passing(self, kept: int) -> int:
        """`residual_gradient`: images and their residual are back-projected."""
        frames = self._packed(kept)
        frame = 0 if self._cut else self.frame
        return self._layered + max(
            self._projecting(kept),
            frames + frame + max(self._streaming if not self._cut else 0, self._finishing),
            frames + frame + max((5 if self.weighed else 2) * self.images, self.images + self._making),
            frames + self.frame + self._adding + (0 if self._cut else self.images),
            frames + self._coming_home(),
        )

    @property
    def pair_seconds(self) -> float:
        """All views of the group there and back, by two cores."""
        slab, views = self.slab, len(self.group.views)
        voxels = slab.slices * slab.plane
        blocks = -(-views // self.views)
        if not self.group.rotated:
            return voxels * (views * _UPRIGHT_PAIR_NS + blocks * _BLOCK_NS) * 1e-9
        pieces = -(-slab.slices // self.piece)
        pixels = slab.plane * views / slab.ranks
        frame = self.group.columns * self.group.width
        turned = pieces * lane_count(self.piece) * frame * _TURN_NS
        streamed = voxels * views * _OBLIQUE_PAIR_NS + slab.slices * frame * blocks * _BLOCK_NS
        return (streamed + pixels * _RESAMPLING_NS + turned) * 1e-9

    @property
    def file_bytes(self) -> int:
        """Read and written of the slab, its gradient, and the detectors of all views, there and back."""
        pieces = -(-self.slab.slices // self.piece)
        return 3 * self.slab.size_bytes + (3 * pieces + 1) * self.held

    @property
    def sent_bytes(self) -> int:
        """Detectors of all views of the group, there and back."""
        return 2 * sent_of(FLOAT * len(self.group.views) * self._detector, self.slab.ranks)

    @property
    def messages(self) -> int:
        """In which they are sent, a block of views at a time."""
        return 2 * -(-len(self.group.views) // self.views) * (self.slab.ranks - 1)


def sent_of(size_bytes: int, ranks: int) -> int:
    """Bytes sent to others of what is dealt out among all."""
    return size_bytes * (ranks - 1) // ranks
