"""How a run is spread over its ranks and what it keeps in memory, settled before anything is read."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry
from manyviews.io.sizes import format_bytes
from manyviews.kernels.lanes import WIDTH
from manyviews.parallel.layout import Layout, layouts_of_few_slabs, useful_layouts
from manyviews.runs.checkpoint import KEPT
from manyviews.runs.memory import available_memory_bytes
from manyviews.tilt.cost.blocks import Stream
from manyviews.tilt.cost.estimate import Estimate, Estimator, checkpoint_bytes
from manyviews.tilt.cost.transfer import TransferCosts
from manyviews.tilt.methods import agent_count
from manyviews.tilt.options import SUBSET_METHODS
from manyviews.tilt.plan import Plan
from manyviews.tilt.solve.storage import STREAMED_CHECKPOINTS_KEPT

_GIBIBYTE = 1 << 30
# Share of the memory that a streamed convolution gets at most: in the rest the system keeps what it can of
# the files.
_WORK_SHARE = 0.5
# Shares of the memory that a block of images may take: back-projections want many views at a time.
_BLOCK_SHARES = (4, 6, 8, 12, 16, 24, 48)
_LEAST_LIMIT = 256 << 20
# How much longer an iteration is told to take in a layout that is left for another.
_CLEARLY = 1.1
_SMALLER = "give a smaller --thickness or a larger --bin"


@dataclass(frozen=True)
class Schedule:
    """How a run is spread over its ranks, and what it keeps in memory.

    Attributes
    ----------
    layout, estimate
        How the ranks stand, and what the rank that needs most needs.
    memory_limit_bytes
        What each rank may use; None where nobody tells.
    streamed, work_bytes
        Whether volumes and kernels are in files, and the most memory that a convolution may work in then.
    piece_slices, block_bytes
        Slices of a slab that are projected at a time, None: all; images at a time then, None: as many as
        ever.
    disk_bytes
        Scratch files of all ranks, checkpoints and the result.
    idle_ranks
        Ranks that no layout has use for.
    by_subsets
        Whether groups of ranks divide the view subsets; else they share out the views of a pass.
    depth
        Slices of the volume.
    """

    layout: Layout
    estimate: Estimate
    memory_limit_bytes: int | None
    streamed: bool
    work_bytes: int
    piece_slices: int | None
    block_bytes: int | None
    disk_bytes: int
    idle_ranks: int
    by_subsets: bool
    depth: int

    def lines(self) -> list[str]:
        """The plan in words, for a terminal and the log."""
        memory = f"about {format_bytes(self.estimate.memory_bytes)}"
        each = " a rank" if self.layout.ranks > 1 else ""
        if not self.streamed:
            return [f"{self._ranks()}; {memory}{each} in memory", *self._idle(), *self._doubt()]
        files = format_bytes(self.estimate.file_bytes)
        tile = self.estimate.tile
        tiles = "" if tile is None else f"tiles of {tile[1]} x {tile[0]}; "
        return [
            self._ranks(),
            f"streamed: volumes in files, {files}; {tiles}{memory} of memory{each}",
            *self._idle(),
        ]

    def _ranks(self) -> str:
        groups, slabs = self.layout.groups, self.layout.slabs
        if self.layout.ranks == 1:
            return "1 rank"
        slices = -(-self.depth // slabs)
        slab = f"a slab of {slices} slice{'s' if slices > 1 else ''}"
        shared = "view subsets" if self.by_subsets else "views"
        if groups == 1:
            what = f"each with {slab}"
        elif slabs == 1:
            what = f"they share the {shared}"
        else:
            what = f"{groups} groups share the {shared}, each of {slabs} ranks with {slab}"
        return f"{self.layout.ranks} ranks as {self.layout}: {what}"

    def _doubt(self) -> list[str]:
        """Where GPUs are tried whose memory is told not to suffice."""
        limit = self.memory_limit_bytes
        if limit is None or self.estimate.memory_bytes <= limit:
            return []
        return [f"only {format_bytes(limit)} are free on a GPU, which may not suffice"]

    def _idle(self) -> list[str]:
        if not self.idle_ranks:
            return []
        which = "1 rank stays" if self.idle_ranks == 1 else f"{self.idle_ranks} ranks stay"
        return [f"{which} idle"]


def make_schedule(
    plan: Plan,
    geometry: TiltGeometry,
    data_bytes: int,
    *,
    ranks: int = 1,
    ranks_per_host: int = 1,
    layout: str | None = None,
    memory_gib: float | None = None,
    available_bytes: int | None = None,
    weighed: bool = False,
    transfer: TransferCosts | None = None,
) -> Schedule:
    """Choose a layout, and whether volumes are kept in memory.

    Parameters
    ----------
    plan, geometry, data_bytes
        As of `manyviews.tilt.cost.estimate.Estimator`.
    ranks, ranks_per_host
        Processes there are, and how many of them share a machine at most.
    layout
        ``GROUPSxSLABS`` as the user wants it; None: see `_Planner.choose`.
    memory_gib
        What each rank may use; None: what is available, divided among the ranks of a machine.
    available_bytes
        Memory that is free on the machine that has least, of its GPUs if these are meant; None: ask the
        system, which does not tell of GPUs.
    weighed
        Whether single pixels have weights.
    transfer
        Filters of the views.

    Raises
    ------
    InputError
        If the layout cannot be, or the run fits in no way.
    """
    if available_bytes is None and plan.device != "cuda":
        available_bytes = available_memory_bytes()
    limit = _limit(memory_gib, available_bytes, ranks_per_host)
    return _Planner(
        Estimator(plan, geometry, data_bytes, weighed=weighed, transfer=transfer),
        plan,
        ranks,
        min(ranks_per_host, ranks),
        None if layout is None else _wanted(layout, plan, ranks),
        limit,
        memory_gib is not None,
        available_bytes,
    ).choose()


def _limit(memory_gib: float | None, available_bytes: int | None, ranks_per_host: int) -> int | None:
    if memory_gib is not None:
        return int(memory_gib * _GIBIBYTE)
    return None if available_bytes is None else available_bytes // max(1, ranks_per_host)


def _wanted(text: str, plan: Plan, ranks: int) -> Layout:
    """The layout that the user gave, if it can be."""
    layout = Layout.parse(text)
    depth = plan.volume_shape[0]
    if layout.ranks > ranks:
        raise InputError(
            f"{layout} needs {layout.ranks} ranks and there are {ranks}",
            where="--layout",
            fix=f"start it with mpiexec -n {layout.ranks}, or leave --layout out",
        )
    if layout.slabs > depth:
        raise InputError(
            f"{layout} divides {depth} slices among {layout.slabs} ranks",
            where="--layout",
            fix=f"give {depth} slabs at most",
        )
    return layout


@dataclass(frozen=True)
class _Planner:
    """Tries layouts, best first."""

    estimator: Estimator
    plan: Plan
    ranks: int
    ranks_per_host: int
    wanted: Layout | None
    limit: int | None
    limit_is_given: bool
    available: int | None

    def choose(self) -> Schedule:
        """The best layout with volumes in memory; where they fit in none, the best with volumes in files."""
        layouts = self._layouts()
        found = {layout: self._in_memory(layout) for layout in layouts}
        if self.plan.device == "cuda":
            return self._on_gpus(found)
        # as `useful_layouts` has them, but for those that are told to be clearly slower than others
        least = min(one.pace.iteration for one in found.values())
        layouts.sort(key=lambda layout: math.floor(math.log(found[layout].pace.iteration / least, _CLEARLY)))
        for layout in layouts:
            if self._fits(found[layout]):
                return self._schedule(layout, found[layout], None)
        first, plain = layouts[0], found[layouts[0]]
        for layout in layouts:
            streamed = self._streamed(layout)
            if streamed is not None:
                return self._schedule(layout, *streamed)
        raise self._too_large(
            plain,
            f"with its volumes in files it needs about {format_bytes(self._least_streamed(first, plain))}",
            f"allow more memory, {_SMALLER}, or use more ranks",
        )

    def _on_gpus(self, found: dict[Layout, Estimate]) -> Schedule:
        """Whole volumes where they fit, since slabs have to change transforms; else the fewest slabs that do.

        Where none is told to fit, and the user gave no limit, that which needs least is tried: what is told
        was measured on processors.
        """
        for layout, estimate in found.items():
            if self._fits(estimate):
                return self._schedule(layout, estimate, None)
        least = min(found, key=lambda one: found[one].memory_bytes)
        if self.limit_is_given:
            raise self._too_large(
                found[least],
                "a GPU cannot have its volumes in files instead",
                f"{_SMALLER}, use more ranks, or use --device cpu",
            )
        return self._schedule(least, found[least], None)

    def _least_streamed(self, layout: Layout, plain: Estimate) -> int:
        """About the least memory in which a layout does with volumes in files."""
        assert self.limit is not None
        limit = max(self.limit, _LEAST_LIMIT)
        while limit < plain.memory_bytes:
            found = replace(self, limit=limit)._streamed(layout)
            if found is not None:
                return found[0].memory_bytes
            limit += limit // 4
        return plain.memory_bytes

    def _layouts(self) -> list[Layout]:
        """Layouts worth trying."""
        if self.wanted is not None:
            return [self.wanted]
        depth, agents = self.plan.volume_shape[0], agent_count(self.plan)
        on_gpus = self.plan.device == "cuda"
        if agents == 1:
            # groups share the passes over the views out; where these are most of the work, or slices do not
            # suffice
            layered = self.estimator.transfer is not None and self.estimator.transfer.layers > 0
            shared = self.ranks if on_gpus or layered else self.ranks // depth
            agents = max(1, min(shared, self.estimator.views))
        return (layouts_of_few_slabs if on_gpus else useful_layouts)(self.ranks, agents, depth)

    def _in_memory(self, layout: Layout) -> Estimate:
        return self.estimator.estimate(layout, None, self.ranks_per_host)

    def _streamed(self, layout: Layout) -> tuple[Estimate, Stream] | None:
        """The run with volumes in files; None if it does not fit."""
        assert self.limit is not None
        room = self.estimator.room(self.limit, layout.slabs)
        enough = int(_WORK_SHARE * self.limit)
        tries = (self._in_pieces(layout, work) for work in (enough, room) if 0 < work <= room)
        return next((found for found in tries if found is not None), None)

    def _in_pieces(self, layout: Layout, work_bytes: int) -> tuple[Estimate, Stream] | None:
        """The same with so much for a convolution; projected whole if that fits, else in what is quickest."""
        assert self.limit is not None
        slices = -(-self.plan.volume_shape[0] // layout.slabs)
        blocks = {self.limit // share for share in _BLOCK_SHARES}
        pieces = [Stream(work_bytes, piece, block) for piece in _thinner(slices) for block in sorted(blocks)]
        try:
            whole = Stream(work_bytes, slices)
            found = self.estimator.estimate(layout, whole, self.ranks_per_host)
            if self._fits(found):
                return found, whole
            tries = [(self.estimator.estimate(layout, one, self.ranks_per_host), one) for one in pieces]
        except InputError:  # no tile is small enough
            return None
        fitting = [one for one in tries if self._fits(one[0])]
        return min(fitting, key=lambda one: one[0].wall_seconds) if fitting else None

    def _fits(self, found: Estimate) -> bool:
        return self.limit is None or found.memory_bytes <= self.limit

    def _too_large(self, plain: Estimate, reason: str, fix: str) -> InputError:
        each = " a rank" if self.ranks > 1 else ""
        needed, limit = format_bytes(plain.memory_bytes), format_bytes(self.limit or 0)
        there = f"--memory allows {limit}" if self.limit_is_given else f"{limit} are free"
        return InputError(
            f"the reconstruction needs about {needed} of memory{each} and {there}; {reason}",
            where="--thickness",
            fix=fix,
        )

    def _in_cache(self, layout: Layout, estimate: Estimate) -> bool:
        """Whether a host has room in memory for the files of its ranks, too."""
        if self.available is None:
            return False
        files = estimate.file_bytes * self.ranks_per_host // layout.ranks
        return self.ranks_per_host * estimate.memory_bytes + files <= self.available

    def _schedule(self, layout: Layout, estimate: Estimate, stream: Stream | None) -> Schedule:
        if stream is not None and self._in_cache(layout, estimate):
            # pieces are chosen for a disk, since others may want the room
            cached = replace(stream, in_cache=True)
            estimate = self.estimator.estimate(layout, cached, self.ranks_per_host)
        kept = KEPT if stream is None else STREAMED_CHECKPOINTS_KEPT
        slices = -(-self.plan.volume_shape[0] // layout.slabs)
        cut = stream is not None and stream.piece_slices < slices
        return Schedule(
            layout=layout,
            estimate=estimate,
            memory_limit_bytes=self.limit,
            streamed=stream is not None,
            work_bytes=0 if stream is None else stream.work_bytes,
            piece_slices=stream.piece_slices if stream is not None and cut else None,
            block_bytes=stream.block_bytes if stream is not None and cut else None,
            disk_bytes=estimate.file_bytes + checkpoint_bytes(self.plan, kept),
            idle_ranks=self.ranks - layout.ranks,
            by_subsets=self.plan.method in SUBSET_METHODS,
            depth=self.plan.volume_shape[0],
        )


def _thinner(slices: int) -> list[int]:
    """Halves of a slab, their halves and so on; whole SIMD lanes where there is room for them."""
    pieces = [slices]
    while pieces[-1] > 1:
        half = -(-pieces[-1] // 2)
        whole = -(-half // WIDTH) * WIDTH
        pieces.append(whole if half > WIDTH and whole < pieces[-1] else half)
    return pieces[1:]
