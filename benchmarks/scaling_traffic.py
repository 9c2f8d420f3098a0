"""What ranks tell each other in an outer iteration: the bytes and messages of `scaling.py`, by formulas.

The same divisions and roundings as in the package, but nothing is sent: slabs and rows of frequency by `shares`,
agents dealt out to groups to and fro as by `manyviews.parallel.layout.dealt`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from manyviews.geometry.views import TiltGeometry
from manyviews.operators.axis_groups import AxisGroup, group_by_axis
from manyviews.operators.row_shares import RowShares
from manyviews.operators.slab_projector import usual_block_bytes
from manyviews.operators.view_kernel import padded_shape
from manyviews.parallel.layout import Layout, dealt
from manyviews.parallel.world import shares
from manyviews.tilt.solve.problem import VIEWS_PER_CONVOLUTION
from manyviews.tilt.solve.subsets import Order, make_subsets

AXES = (0.0, 45.0, 90.0, 135.0)
NUMBER_TEXT_BYTES = 25  # a float as JSON has 3 to 25 characters


# --- jobs ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """A reconstruction: sizes, and what its traffic and time depend on."""

    size: int
    depth: int
    tilts: int
    method: str = "consensus"
    subsets: int = 4
    inner: int = 3
    overlap: int = 0
    damped: bool = True  # consensus and cg find a damping in noisy images, cg by frequency

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.depth, self.size, self.size

    def options(self) -> dict[str, Any]:
        chosen: dict[str, Any] = {"method": self.method}
        if self.method in {"consensus", "wang2020"}:
            chosen |= {"subsets": self.subsets, "inner_iterations": self.inner, "overlap": self.overlap}
        return chosen


@cache
def geometry_of(tilts: int) -> TiltGeometry:
    angles = np.linspace(-60.0, 60.0, tilts)
    parts = [TiltGeometry.from_tilt_axis(angles, axis, series=k) for k, axis in enumerate(AXES)]
    return TiltGeometry.concatenate(parts)


@dataclass(frozen=True)
class Views:
    """Some views: their grid if they are convolved, their blocks if they are projected."""

    count: int
    grid: tuple[int, int, int]
    direct: bool
    blocks: tuple[tuple[int, int], ...]  # views and detector bins of every block
    rotated: bool
    axes: int
    side: int  # pixels


@cache
def views_of(job: Job, picked: tuple[int, ...], subset: bool, slabs: int = 1) -> Views:
    """What `TiltProblem.part` makes of a subset (or of all views, which are convolved)."""
    geometry = geometry_of(job.tilts).select(np.array(picked))
    groups = group_by_axis(geometry, job.shape, job.shape[1:], 1.0)
    grid = padded_shape(groups, job.shape)
    rotated = any(group.rotated for group in groups)
    few = len(picked) < VIEWS_PER_CONVOLUTION * math.prod(grid) / math.prod(job.shape)
    blocks = tuple(block for group in groups for block in blocks_of(group, job.size, slabs))
    return Views(len(picked), grid, subset and few and not rotated, blocks, rotated, len(groups), job.size)


def blocks_of(group: AxisGroup, size: int, slabs: int) -> list[tuple[int, int]]:
    """As `SlabProjector` handles views together."""
    pixels = max(group.detector_length * group.width, size * size)
    block = max(1, usual_block_bytes(slabs) // (4 * pixels))
    block -= block % 16 if block > 16 else 0
    count = len(group.views)
    bins = group.detector_length * group.width
    return [(min(block, count - first), bins) for first in range(0, count, block)]


@cache
def agents_of(job: Job) -> tuple[tuple[int, ...], ...]:
    """Views of every agent."""
    order: Order = "adjacent" if job.method == "wang2020" else "interleaved"
    found = make_subsets(geometry_of(job.tilts), job.subsets, job.overlap, order)
    return tuple(tuple(int(view) for view in subset.views) for subset in found)


# --- what ranks tell each other: formulas -------------------------------------------------------------------


@dataclass(frozen=True)
class Calls:
    """Calls of one kind that all ranks of a world make in an outer iteration.

    ``sent`` are the bytes that rank r sends in all of them, ``messages`` those of any rank.
    """

    purpose: str
    kind: str  # "sum" (adds up what comes) or "rows" (does not)
    calls: int
    sent: tuple[int, ...]
    messages: int

    def times(self, count: int) -> Calls:
        sent = tuple(count * size for size in self.sent)
        return replace(self, calls=count * self.calls, sent=sent, messages=count * self.messages)


def reduced(purpose: str, sizes: list[int], ranks: int, steps: int = 2) -> Calls:
    """A sum (2 steps: N - 1 messages each), or a sum_scatter or all_gather (1); ``sizes`` in bytes by rank."""
    sent = tuple(steps * size * (ranks - 1) // ranks for size in sizes)
    return Calls(purpose, "sum", 1, sent, steps * (ranks - 1))


def numbers(purpose: str, ranks: int, calls: int = 1, count: int = 1) -> Calls:
    """Sums of ``count`` float64."""
    return reduced(purpose, [8 * count] * ranks, ranks).times(calls)


def rows(purpose: str, views: Views, depth: int, slabs: int, *, back: bool) -> Calls:
    """Slabs to rows of frequency for the transform along z, a block at a time, and the way back."""
    dealt = RowShares.of(views.grid, slabs)
    row_bytes = 8 * (views.grid[2] // 2 + 1)
    slices = [part.stop - part.start for part in shares(depth, slabs)]
    sent = [0] * slabs
    for block in dealt.blocks:
        length = block.stop - block.start
        for rank, part in enumerate(dealt.shares(block)):
            own = part.stop - part.start
            sent[rank] += row_bytes * slices[rank] * (length - own)
            sent[rank] += row_bytes * own * (depth - slices[rank]) * back
    calls = len(dealt.blocks) * (1 + back)
    return Calls(purpose, "rows", calls, tuple(sent), calls * (slabs - 1))


def normal(views: Views, depth: int, slabs: int) -> list[Calls]:
    """``W' L W x``: a convolution, or upright views by rows, or a pass of the projectors with two energies."""
    if not views.direct:
        return [rows("normal", views, depth, slabs, back=True)]
    if slabs == 1 or views.axes * depth > slabs * views.count:
        return projected("normal", views, slabs)
    return [changed_for_rows("normal", views, depth, slabs).times(views.axes)]


def changed_for_rows(purpose: str, views: Views, depth: int, slabs: int) -> Calls:
    """Slices for all slices of own rows, and back: as `manyviews.operators.row_normal` has it."""
    slices, own = ([part.stop - part.start for part in shares(count, slabs)] for count in (depth, views.side))
    sent = tuple(
        4 * views.side * (mine * (views.side - row) + row * (depth - mine))
        for mine, row in zip(slices, own, strict=True)
    )
    return Calls(purpose, "rows", 2, sent, 2 * (slabs - 1))


def projected(purpose: str, views: Views, slabs: int) -> list[Calls]:
    """Detectors added up and dealt out, then told to all."""
    one_way = [reduced(purpose, [4 * k * bins] * slabs, slabs, steps=1) for k, bins in views.blocks]
    return [*one_way, *one_way, numbers(purpose, slabs, count=2)]


def objective(views: Views, depth: int, slabs: int) -> list[Calls]:
    """By Parseval's theorem one way is enough; two inner products."""
    return [rows("objective", views, depth, slabs, back=False), numbers("objective", slabs, 2)]


@dataclass(frozen=True)
class Traffic:
    """Calls of an outer iteration: inside each group before the mean, across groups, inside each group after."""

    agents: tuple[tuple[Calls, ...], ...]
    across: tuple[Calls, ...]
    after: tuple[tuple[Calls, ...], ...]
    layout: Layout

    def total(self) -> tuple[int, int]:
        """Bytes and messages of all ranks, but for the texts of the check of the volume."""
        groups, slabs = self.layout.groups, self.layout.slabs
        inside = [call for calls in (*self.agents, *self.after) for call in calls]
        sent = sum(sum(call.sent) for call in inside) + groups * sum(sum(call.sent) for call in self.across)
        messages = slabs * sum(call.messages for call in inside)
        messages += groups * slabs * sum(call.messages for call in self.across)
        return sent, messages

    def text_bytes(self) -> int:
        """At most so many in the check of the volume: two numbers, told to all of a group."""
        return 2 * NUMBER_TEXT_BYTES * self.layout.groups * self.layout.slabs * (self.layout.slabs - 1)


def traffic_of(job: Job, layout: Layout, *, exact_pass: bool = False) -> Traffic:
    """Of one outer iteration; ``exact_pass``: the one of cg that corrects the convolution."""
    depth, slabs, groups = job.depth, layout.slabs, layout.groups
    slab_bytes = [4 * (part.stop - part.start) * job.size**2 for part in shares(depth, slabs)]
    mean = reduced("mean", slab_bytes, groups)
    mean = replace(mean, sent=tuple(2 * size * (groups - 1) // groups for size in slab_bytes))
    check = Calls("check", "rows", 2, (0,) * slabs, 2 * (slabs - 1))
    everything = tuple(range(len(AXES) * job.tilts))
    if job.method in {"cg", "sirt"}:
        whole = views_of(job, everything, False, slabs)
        calls = [*normal(whole, depth, slabs), numbers("scalars", slabs, 5 if job.method == "cg" else 2)]
        damped = job.method == "cg" and job.damped
        # half the grid and as much to send: the transform along z is shorter, slices and rows are the same
        nearly = [rows("preconditioner", whole, depth, slabs, back=True)] if damped else []
        calls += nearly
        across: list[Calls] = []
        if exact_pass:
            calls += [*normal(whole, depth, slabs), *nearly, numbers("scalars", slabs, 9)]
            if damped:  # damping by frequency of the volume, and its energy
                calls += [rows("damping", whole, depth, slabs, back=True), numbers("scalars", slabs)]
            across = [mean, replace(numbers("scalars", groups), sent=(16 * (groups - 1) // groups,) * slabs)]
        passes = []
        for part in shares(len(everything), groups):
            own = views_of(job, everything[part], False, slabs)
            passes.append((*calls, *(projected("pass", own, slabs) if exact_pass else []), check))
        return Traffic(tuple(passes), tuple(across), ((),) * groups, layout)
    agents, after = [], []
    for group in range(groups):
        own_views = own_agents(job, layout, group)
        some: list[Calls] = []
        for picked in own_views:
            one = views_of(job, picked, True, slabs)
            normals, inners = (
                (job.inner + 1, 2 * job.inner + 1) if job.method == "consensus" else (job.inner, 1)
            )
            some += [call.times(normals) for call in normal(one, depth, slabs)]
            some.append(numbers("scalars", slabs, inners))
        agents.append(tuple(some))
        union = measured_by(job, own_views)
        after.append((numbers("scalars", slabs), *objective(union, depth, slabs), check))
    scalars = replace(numbers("scalars", groups, 2), sent=(2 * (16 * (groups - 1) // groups),) * slabs)
    return Traffic(tuple(agents), (mean, scalars), tuple(after), layout)


def own_agents(job: Job, layout: Layout, group: int) -> tuple[tuple[int, ...], ...]:
    """Views of every agent of a group, as `dealt` deals them out."""
    every = agents_of(job)
    return tuple(every[agent] for agent in dealt(len(every), layout.groups)[group])


def measured_by(job: Job, own: tuple[tuple[int, ...], ...]) -> Views:
    """Views of a group's agents together, by which the objective is found."""
    union = sorted({view for picked in own for view in picked})
    return views_of(job, tuple(union), False)
