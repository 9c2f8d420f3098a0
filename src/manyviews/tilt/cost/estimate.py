"""What a reconstruction will cost each rank: peak memory and time, told before anything is read.

Memory is the greatest of a few phases, each a sum of named parts; the counts of volumes follow the solvers
line by line and are held against measured peaks by ``benchmarks/memory_estimate.py`` and
``benchmarks/estimate_per_rank.py``. Time is voxel-updates over measured rates, good to a factor of about two.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from manyviews.geometry.views import TiltGeometry
from manyviews.operators.axis_groups import group_by_axis
from manyviews.parallel.layout import Layout, dealt
from manyviews.parallel.world import shares
from manyviews.tilt.cost.blocks import FLOAT, Slab, Stream
from manyviews.tilt.cost.methods import IN_FILES, Parts, Work, correction, iteration, iterations, once, phases
from manyviews.tilt.cost.transfer import TransferCosts
from manyviews.tilt.cost.views import Load, ViewCosts, choose_views
from manyviews.tilt.options import SUBSET_METHODS
from manyviews.tilt.pixels.lines import SAMPLED
from manyviews.tilt.plan import Plan
from manyviews.tilt.solve.storage import GIVEN_BACK_BYTES
from manyviews.tilt.solve.subsets import Subset, make_subsets

_PRIORS = ("non_negative", "total_variation", "smoothness")

# Python with torch, numba and scipy, and the code that numba loads; more of it where slices are turned.
_BASE_BYTES = 365 * 2**20
_ROTATION_BYTES = 30 * 2**20
# The library, and the pieces in which sums arrive.
_MPI_BYTES = 16 * 2**20
# What the C library keeps of arrays given back: arrays below 32 MiB come from its heap, which gets holes;
# larger ones are given back to the system; where ranks share a volume those of `GIVEN_BACK_BYTES` too.
# Measured against runs in which all were, with MALLOC_MMAP_THRESHOLD_=1000000.
_HEAP_LIMIT_BYTES = 32 * 2**20
_KEPT_OF_SMALL, _KEPT_OF_LARGE = 0.3, 0.1
# Where volumes are in files all that is left comes and goes, and holes are most of the heap.
_KEPT_OF_SMALL_WORK = 0.5
_CORES = 2
_START_SECONDS = 2.0
# Of a pixel of an image that is searched for faults, on one core, of every line of which some are looked at.
_SEARCHED_SECONDS = 1.05e-7
_COMPARING_SECONDS = 2e-8  # of a pixel of an image and its reprojection, on one core
# What a rank sends, packing and waiting included, and seconds of a message: measured between two ranks of a
# machine (docs/scaling.md). What the disk of a host reads and writes was 0.7 to 1.1 GB/s in a run of
# 4096 x 4096 x 96 voxels (benchmarks/results/large_job.md), that of its cache 3 to 4 GB/s in smaller ones
# (benchmarks/results/memory_estimate.json).
_SENT_BYTES_A_SECOND, _MESSAGE_SECONDS = 1e9, 8e-5
_FILE_BYTES_A_SECOND, _CACHED_BYTES_A_SECOND = 600e6, 4e9


@dataclass(frozen=True)
class Pace:
    """Seconds, as of `Estimate.wall_seconds`.

    Of looking for pixels that do not count, of what else is done once before the iterations, of one of them,
    of what one that is corrected takes longer than others, of projecting a volume once and comparing the
    images, and of an iteration that fills pixels which do not count.
    """

    looking: float = 0.0
    beginning: float = 0.0
    iteration: float = 0.0
    correction: float = 0.0
    projection: float = 0.0
    filling: float = 0.0


@dataclass(frozen=True)
class Estimate:
    """What a reconstruction needs, of the rank that needs most.

    Attributes
    ----------
    memory_bytes
        Peak of the resident memory, meant to be within 25 % of what a run measures. Files that are mapped
        into memory do not count: the system takes their room back when it needs it.
    wall_seconds
        Time, within a factor of about two, on the cores that the plan allows.
    parts
        What the memory is made of at its peak, bytes by name.
    file_bytes
        Scratch files of all ranks together, where volumes are in files.
    tile
        Voxels ``(y, x)`` of the tiles of a convolution of volumes in files; None: the plane is not divided.
    pace
        What of the time the parts of a run take.
    """

    memory_bytes: int
    wall_seconds: float
    parts: dict[str, int] = field(default_factory=dict)
    file_bytes: int = 0
    tile: tuple[int, int] | None = None
    pace: Pace = Pace()


class Estimator:
    """Peak memory and time of one reconstruction on the CPU, in several layouts.

    ``geometry`` has the views, binned if the images are. ``data_bytes`` is the size of the stacks as stored,
    which are mapped one section at a time, so that only one is in memory. ``weighed``: single pixels have
    weights. ``transfer``: filters of the views.
    """

    def __init__(
        self,
        plan: Plan,
        geometry: TiltGeometry,
        data_bytes: int,
        *,
        weighed: bool = False,
        transfer: TransferCosts | None = None,
    ) -> None:
        self.plan = plan
        self.transfer = transfer
        self.weighed = weighed
        self.views = len(geometry)
        self._section = data_bytes // max(1, self.views)
        shape = plan.volume_shape
        self._groups = group_by_axis(geometry, shape, shape[1:], plan.pixel_size)
        self._subsets = _subsets(plan, geometry)
        self._known: dict[tuple[Slab, bool, bytes], ViewCosts] = {}

    def estimate(
        self, layout: Layout | None = None, stream: Stream | None = None, ranks_per_host: int | None = None
    ) -> Estimate:
        """What the rank that needs most needs.

        Without a ``layout`` it is alone; without a ``stream`` volumes are in memory. ``ranks_per_host`` share
        the cores and the disk of a host; None: all ranks.

        Raises
        ------
        InputError
            If a convolution cannot work in what ``stream`` allows.
        """
        layout = layout or Layout()
        local = ranks_per_host or layout.ranks
        found = [self._of_group(work, layout, local) for work in self._works(layout, stream)]
        most = max(found, key=lambda one: one.memory_bytes)
        return Estimate(
            memory_bytes=most.memory_bytes,
            wall_seconds=max(one.wall_seconds for one in found),
            pace=max((one.pace for one in found), key=lambda pace: pace.iteration),
            parts=most.parts,
            file_bytes=layout.slabs * sum(one.file_bytes for one in found),
            tile=found[0].tile,
        )

    def room(self, limit_bytes: int, slabs: int) -> int:
        """What is left of a limit for the work space of a streamed run; may be below zero."""
        fixed = self._base_bytes + _MPI_BYTES + self._section
        slab = Slab(self.plan.volume_shape, slabs)
        return int((limit_bytes - fixed) / (1.0 + _kept(slab, streamed=True)))

    @property
    def _base_bytes(self) -> int:
        return _BASE_BYTES + (_ROTATION_BYTES if any(group.rotated for group in self._groups) else 0)

    def _of_group(self, work: Work, layout: Layout, local: int) -> Estimate:
        """What its first rank needs."""
        streamed = work.slab.stream is not None
        every = phases(work)
        greatest = max((_in_memory(parts, streamed) for parts in every), key=lambda p: sum(p.values()))
        kept = _kept(work.slab, streamed)
        parts = {
            "Python and libraries": self._base_bytes,
            "MPI": _MPI_BYTES if layout.ranks > 1 else 0,
            "a section of the stack": self._section,
            **greatest,
            "kept by the C library": round(kept * (sum(greatest.values()) + _filling(work, streamed))),
        }
        pace = replace(_pace(work, local), looking=self._looking_seconds(layout, local))
        files = max(sum(parts.get(name, 0) for name in IN_FILES) for parts in every) if streamed else 0
        return Estimate(
            memory_bytes=sum(parts.values()),
            wall_seconds=_wall_seconds(self.plan, pace),
            pace=pace,
            parts={name: size for name, size in parts.items() if size},
            file_bytes=files,
            tile=_tile(work) if streamed else None,
        )

    def _looking_seconds(self, layout: Layout, local: int) -> float:
        """All ranks share the images."""
        if "auto" not in (self.plan.edges, self.plan.mask_detector, self.plan.mask_borders):
            return 0.0
        rows, columns = (side * self.plan.bin for side in self.plan.volume_shape[1:])
        pixels = rows * columns * min(1.0, SAMPLED / max(rows, columns))
        return _SEARCHED_SECONDS * pixels * -(-self.views // layout.ranks) / _cores(self.plan, local)

    def _works(self, layout: Layout, stream: Stream | None) -> Iterator[Work]:
        """What every group of ranks does."""
        slab = Slab(self.plan.volume_shape, layout.slabs, stream)
        everything = np.arange(self.views)
        whole = self._costs(slab, everything)
        priors = [name for name in _PRIORS if getattr(self.plan, name)]
        agents = dealt(len(self._subsets) + len(priors), layout.groups)
        for group, own in enumerate(shares(self.views, layout.groups)):
            mine = agents[group]
            subsets = [self._subsets[number] for number in mine if number < len(self._subsets)]
            yield Work(
                plan=self.plan,
                slab=slab,
                weighed=self.weighed,
                groups=layout.groups,
                whole=whole,
                own=self._costs(slab, everything[own] if own.start < own.stop else everything[:1]),
                parts=tuple(self._costs(slab, subset.views, is_subset=True) for subset in subsets),
                union=self._union(slab, subsets),
                priors=tuple(priors[number - len(self._subsets)] for number in mine[len(subsets) :]),
            )

    def _union(self, slab: Slab, subsets: list[Subset]) -> ViewCosts | None:
        """All views of a group's subsets, where the objective needs more than the one problem there is."""
        adds_up = self.plan.method == "consensus" or self.plan.overlap == 0
        if not subsets or (len(subsets) == 1 and adds_up):
            return None
        return self._costs(slab, np.unique(np.concatenate([subset.views for subset in subsets])))

    def _costs(self, slab: Slab, views: NDArray[np.int64], *, is_subset: bool = False) -> ViewCosts:
        key = slab, is_subset, views.tobytes()
        if key not in self._known:
            groups = choose_views(self._groups, views)
            wanted = self.plan.normal == "convolution"
            filters = None if self.transfer is None else self.transfer.select(views)
            self._known[key] = ViewCosts(groups, slab, wanted, is_subset, self.weighed, filters)
        return self._known[key]


def checkpoint_bytes(plan: Plan, kept: int = 2) -> int:
    """Most that checkpoints and the result take on disk: those kept, another being written, the volume."""
    subsets = plan.subsets
    agents = subsets + sum(bool(getattr(plan, name)) for name in _PRIORS)
    tensors = {
        "cg": 6,
        "admm": 8,
        "direct-combine": 1 + subsets,
        "wang2020": 1 + subsets,
        "consensus": 1 + 2 * agents,
    }.get(plan.method, 1)
    return FLOAT * prod(plan.volume_shape) * (1 + (kept + 1) * tensors)


def _kept(slab: Slab, streamed: bool) -> float:
    """What the C library keeps, as a fraction of all arrays."""
    limit = GIVEN_BACK_BYTES if slab.ranks > 1 else _HEAP_LIMIT_BYTES
    small_blocks = slab.stream is not None and slab.piece < slab.slices and slab.stream.block_bytes < limit
    if slab.size_bytes >= limit and not small_blocks:
        return _KEPT_OF_LARGE
    return _KEPT_OF_SMALL_WORK if streamed else _KEPT_OF_SMALL


def _tile(work: Work) -> tuple[int, int] | None:
    """Of the kernel of most views."""
    views = work.objective if work.plan.method in SUBSET_METHODS else work.whole
    if views is None or not views.convolve or views.tiling.count == 1:
        return None
    return views.tiling.tile


def _filling(work: Work, streamed: bool) -> int:
    """Most arrays of the stage that fills pixels, which leaves holes as well."""
    if work.filling is None:
        return 0
    return max(sum(_in_memory(parts, streamed).values()) for parts in phases(work.filling))


def _in_memory(parts: Parts, streamed: bool) -> Parts:
    return {name: size for name, size in parts.items() if not (streamed and name in IN_FILES)}


def _subsets(plan: Plan, geometry: TiltGeometry) -> tuple[Subset, ...]:
    if plan.method not in SUBSET_METHODS:
        return ()
    order = "adjacent" if plan.subset_order == "adjacent" else "interleaved"
    return make_subsets(geometry, plan.subsets, plan.overlap, order)  # type: ignore[arg-type]


def _wall_seconds(plan: Plan, pace: Pace) -> float:
    each = iterations(plan) * pace.iteration
    return _START_SECONDS + pace.looking + pace.beginning + each + pace.projection


def _pace(work: Work, local: int) -> Pace:
    beginning, serial = once(work)
    projection = _seconds(work.pass_load.times(0.5), work, local)
    comparing = work.own_image_bytes / FLOAT * _COMPARING_SECONDS
    return Pace(
        beginning=serial + _seconds(beginning, work, local),
        iteration=_seconds(iteration(work), work, local),
        correction=_seconds(correction(work), work, local) if work.plan.method == "cg" else 0.0,
        projection=projection + comparing,
        filling=_seconds(iteration(work.as_filling), work, local),
    )


def _cores(plan: Plan, local: int) -> float:
    """Of each of the ranks of a host."""
    here = (os.cpu_count() or 1) / local
    return min(plan.threads or here, here)


def _seconds(load: Load, work: Work, local: int) -> float:
    """With the cores, links and disk that a rank has."""
    found = load.seconds * _CORES / _cores(work.plan, local)
    found += load.sent_bytes / _SENT_BYTES_A_SECOND + load.messages * _MESSAGE_SECONDS
    stream = work.slab.stream
    if stream is not None:
        rate = _CACHED_BYTES_A_SECOND if stream.in_cache else _FILE_BYTES_A_SECOND
        found += load.file_bytes * local / rate
    return found
