"""What projecting and convolving with some views costs a rank: work space, time and messages.

The counts follow `manyviews.operators` line by line. A rank holds a slab of the slices of every volume
and, of every block of views, its share of the images. Volumes themselves are counted by the methods.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import prod

import numpy as np
from numpy.typing import NDArray

from manyviews.operators.axis_groups import AxisGroup
from manyviews.operators.row_shares import RowShares
from manyviews.operators.tiling import Tiling, choose_tiling, kernel_bytes, planes_bytes, work_bytes
from manyviews.operators.view_kernel import lateral_reach, padded_shape
from manyviews.tilt.cost.blocks import FLOAT, Shape3, Slab, ViewBlock, sent_of
from manyviews.tilt.cost.transfer import TransferCosts
from manyviews.tilt.solve.problem import VIEWS_PER_CONVOLUTION

_COMPLEX = 8
# Many subsets have the same grid, and with many ranks these take milliseconds.
_kernel_bytes = lru_cache(4096)(kernel_bytes)
_work_bytes = lru_cache(4096)(work_bytes)
# Rates of two cores, nanoseconds.
_CONVOLUTION_NS = 5.5  # a point of the padded grid
_ROD_NS = 400.0  # a view and slice, drawing the kernel of an oblique group
_TRANSFER_ROD_NS = 6.0  # a view, slice and frequency, drawing rods with a transfer


class _Reaching:
    """Groups of views, equal where their kernels reach equally far: these have the same tiles."""

    def __init__(self, groups: list[AxisGroup], volume_shape: Shape3, beyond: int) -> None:
        self.groups = groups
        self.volume_shape = volume_shape
        self.beyond = beyond
        self._key = lateral_reach(groups, volume_shape[0]), volume_shape, beyond

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Reaching) and self._key == other._key


@lru_cache(4096)
def _streamed_tiling(views: _Reaching, ranks: int, work_bytes: int) -> Tiling:
    return choose_tiling(views.groups, views.volume_shape, ranks, work_bytes, beyond=views.beyond)


@dataclass(frozen=True)
class Load:
    """Work of a rank: seconds on two cores, bytes and messages to others, bytes read and written in files."""

    seconds: float = 0.0
    sent_bytes: float = 0.0
    file_bytes: float = 0.0
    messages: float = 0.0

    def __add__(self, other: Load) -> Load:
        return Load(
            self.seconds + other.seconds,
            self.sent_bytes + other.sent_bytes,
            self.file_bytes + other.file_bytes,
            self.messages + other.messages,
        )

    def times(self, count: float) -> Load:
        """The same so many times."""
        return Load(
            count * self.seconds, count * self.sent_bytes, count * self.file_bytes, count * self.messages
        )


@dataclass(frozen=True)
class ViewCosts:
    """What some views, by tilt axis, cost a rank that holds a slab.

    Where a convolution is wanted, few views of a subset are projected all the same, and few with a transfer.
    ``weighed``: single pixels have weights.
    """

    groups: tuple[AxisGroup, ...]
    slab: Slab
    convolution_wanted: bool
    is_subset: bool = False
    weighed: bool = False
    transfer: TransferCosts | None = None

    @cached_property
    def views(self) -> int:
        """How many there are."""
        return sum(len(group.views) for group in self.groups)

    @cached_property
    def rotated(self) -> bool:
        """Whether slices are turned."""
        return any(group.rotated for group in self.groups)

    @cached_property
    def convolve(self) -> bool:
        """Whether their normal operator is the convolution."""
        room = prod(self._padded) / prod(self.slab.volume_shape)
        may_project = (self.is_subset or self._layered is not None) and not self.rotated
        few = may_project and self.views < VIEWS_PER_CONVOLUTION * room
        return self.convolution_wanted and not few

    @property
    def _layered(self) -> TransferCosts | None:
        """The transfer that is a part of the projection."""
        return self.transfer if self.transfer is not None and self.transfer.layers else None

    @property
    def _beyond(self) -> int:
        return 0 if self.transfer is None else self.transfer.beyond

    @cached_property
    def _padded(self) -> Shape3:
        return padded_shape(list(self.groups), self.slab.volume_shape, self._beyond)

    @cached_property
    def tiling(self) -> Tiling:
        """Tiles of the convolution, as `Storage.tiling` has them; `InputError` if small ones do not fit."""
        shape, stream, groups = self.slab.volume_shape, self.slab.stream, list(self.groups)
        if stream is None:
            return Tiling.whole(shape, self._padded)
        return _streamed_tiling(_Reaching(groups, shape, self._beyond), self.slab.ranks, stream.work_bytes)

    # --- work space ---

    @cached_property
    def spectrum_bytes(self) -> int:
        """Own rows of the kernel."""
        return _kernel_bytes(self.tiling, self.slab.ranks)

    @cached_property
    def circulant_bytes(self) -> int:
        """The tapered kernel, whole."""
        return _kernel_bytes(self.tiling, 1)

    @cached_property
    def _periodic(self) -> Tiling:
        """The whole lateral plane, without room along z: the grid of a preconditioner."""
        shape = self.slab.volume_shape
        return Tiling.whole(shape, (shape[0], *self._padded[1:]))

    @cached_property
    def periodic_bytes(self) -> int:
        """Own rows of the kernel with the depth as its period, or of a preconditioner made of it."""
        return _kernel_bytes(self._periodic, self.slab.ranks)

    @cached_property
    def transforms_bytes(self) -> int:
        """Transforms of own slices that a preconditioner works on."""
        return planes_bytes(self._periodic, self.slab.ranks)

    @cached_property
    def preconditioner_bytes(self) -> int:
        """What else it works in; of transforms in files some rows at a time are copied."""
        work = _work_bytes(self._periodic, self.slab.ranks, 0) - self.transforms_bytes
        if self.slab.stream is None or self.slab.ranks > 1:
            return work
        return (
            work + self.transforms_bytes * RowShares.of(self._periodic.grid).block // self._periodic.grid[1]
        )

    @cached_property
    def making_bytes(self) -> int:
        """Work space in which the kernel is made, the kernel included."""
        return _work_bytes(self.tiling, self.slab.ranks, 1)

    @cached_property
    def convolution_bytes(self) -> int:
        """Work space of a convolution, argument and result left out."""
        return _work_bytes(self.tiling, self.slab.ranks, 0)

    @cached_property
    def pass_bytes(self) -> int:
        """Work space of `residual_gradient`, the result left out."""
        return max(block.passing(self._kept) for block in self._blocks)

    @cached_property
    def back_bytes(self) -> int:
        """Work space of `back_project`, the result left out."""
        return max(block.backward() for block in self._blocks)

    @cached_property
    def weighting_bytes(self) -> int:
        """The same with images that wbp weights."""
        return max(block.weighting() for block in self._blocks)

    @cached_property
    def forward_bytes(self) -> int:
        """Work space of `project_blocks`."""
        return max(block.forward(self._kept) for block in self._blocks)

    @cached_property
    def held_bytes(self) -> int:
        """Detectors in a file, of the tilt axis that has most, while they are projected in pieces."""
        return max(block.held for block in self._blocks)

    @property
    def by_rows(self) -> bool:
        """Whether ranks change slices for rows to project there and back: `RowNormal`."""
        upright = (
            all(
                not group.rotated and group.camera_maps is None and group.camera_shift == 0
                for group in self.groups
            )
            and not self._layered
        )
        fewer = len(self.groups) * self.slab.volume_shape[0] <= self.slab.ranks * self.views
        return self.slab.ranks > 1 and self.slab.stream is None and upright and fewer

    @property
    def normal_bytes(self) -> int:
        """Work space of the normal operator, the result left out."""
        if self.convolve:
            return self.convolution_bytes
        if self.by_rows:  # all slices of own rows, packed, and what comes back; tables of all slices
            return 3 * self.slab.size_bytes + self.slab.ranks * max(block.tables for block in self._blocks)
        return self.pass_bytes

    @property
    def wants_kernel(self) -> bool:
        """Whether one is made, if only for its largest value: not worth it for views with a transfer."""
        return self.convolve or self._layered is None

    @property
    def wanted_spectrum_bytes(self) -> int:
        """Of the kernel, if one is made."""
        return self.spectrum_bytes if self.wants_kernel else 0

    @property
    def wanted_making_bytes(self) -> int:
        """The same of making it."""
        return self.making_bytes if self.wants_kernel else 0

    @property
    def held_spectrum_bytes(self) -> int:
        """A kernel of which only the largest value is wanted is dropped again."""
        return self.spectrum_bytes if self.convolve else 0

    @cached_property
    def _blocks(self) -> list[ViewBlock]:
        return [ViewBlock(group, self.slab, self.weighed, self._layered) for group in self.groups]

    @property
    def _kept(self) -> int:
        """Spline coefficients of a whole slab are kept for all groups."""
        blocks = self._blocks
        whole = all(block.piece == self.slab.slices for block in blocks)
        return max(block.coefficients for block in blocks) if whole else 0

    # --- time, messages, files ---

    @cached_property
    def convolution_load(self) -> Load:
        """A convolution: what it transforms, transposes among the ranks, and reads for every tile."""
        tiling, slab = self.tiling, self.slab
        points = tiling.count * prod(tiling.grid)
        planes = _COMPLEX * slab.slices * tiling.grid[1] * (tiling.grid[2] // 2 + 1)
        windows = sum(
            (tile.window_y.stop - tile.window_y.start) * (tile.window_x.stop - tile.window_x.start)
            for tile in tiling.tiles()
        )
        files = FLOAT * slab.slices * (windows + slab.plane) + tiling.count * self.spectrum_bytes
        return Load(
            seconds=points * _CONVOLUTION_NS * 1e-9 / slab.ranks,
            sent_bytes=2 * tiling.count * sent_of(planes, slab.ranks),
            file_bytes=files,
            messages=tiling.count * _row_messages(tiling, slab.ranks),
        )

    @cached_property
    def preconditioner_load(self) -> Load:
        """A preconditioner; where volumes are in files its transforms are written and read twice."""
        files = 2 * self.slab.size_bytes + 4 * self.transforms_bytes + self.periodic_bytes
        return Load(
            seconds=prod(self._periodic.grid) * _CONVOLUTION_NS * 1e-9 / self.slab.ranks,
            sent_bytes=2 * sent_of(self.transforms_bytes, self.slab.ranks),
            file_bytes=files,
            messages=_row_messages(self._periodic, self.slab.ranks),
        )

    @cached_property
    def pass_load(self) -> Load:
        """Projection and its adjoint."""
        filters = 0.0 if self.transfer is None else self.transfer.pass_seconds(self.slab.ranks)
        return Load(
            seconds=sum(block.pair_seconds for block in self._blocks) + filters,
            sent_bytes=sum(block.sent_bytes for block in self._blocks),
            file_bytes=sum(block.file_bytes for block in self._blocks),
            messages=sum(block.messages for block in self._blocks),
        )

    @property
    def normal_load(self) -> Load:
        """The normal operator."""
        if self.convolve:
            return self.convolution_load
        if not self.by_rows:
            return self.pass_load
        slabs = 2 * len(self.groups) * (self.slab.ranks - 1) * self.slab.size_bytes // self.slab.ranks
        messages = 2 * len(self.groups) * (self.slab.ranks - 1)
        return replace(self.pass_load, sent_bytes=slabs, messages=messages)

    @property
    def kernel_load(self) -> Load:
        """Making the kernel."""
        if self._layered is not None:
            drawn = self.views * self.slab.slices * self.tiling.grid[1] * (self.tiling.grid[2] // 2 + 1)
            return Load(drawn * _TRANSFER_ROD_NS * 1e-9)
        rods = sum(len(group.views) for group in self.groups if group.rotated) * self.slab.slices
        points = prod(self.tiling.grid) / self.slab.ranks
        return Load((rods * _ROD_NS + points * _CONVOLUTION_NS) * 1e-9)


def _row_messages(tiling: Tiling, ranks: int) -> int:
    """Of a convolution of one tile: rows of frequencies to every other rank and back, block by block."""
    rows = tiling.grid[1]
    return 2 * -(-rows // RowShares.of(tiling.grid, ranks).block) * (ranks - 1)


def choose_views(groups: list[AxisGroup], views: NDArray[np.int64]) -> tuple[AxisGroup, ...]:
    """The groups of some views alone, near enough for an estimate: detectors stay as long as for all."""
    chosen = []
    for group in groups:
        mine = np.isin(group.views, views)
        if not mine.any():
            continue
        maps = group.camera_maps
        own_maps = maps[mine] if maps is not None and len(maps) == len(group.views) else maps
        chosen.append(
            replace(
                group,
                views=group.views[mine],
                cosines=group.cosines[mine],
                sines=group.sines[mine],
                offsets=group.offsets[mine],
                sharpening=group.sharpening[mine],
                camera_maps=own_maps,
            )
        )
    return tuple(chosen)
