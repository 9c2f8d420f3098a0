"""The multitree of Wang et al. 2020, section 3.3: ranks in groups for view subsets, slabs inside a group.

Ranks stand in a grid. A row is a *group*: it works on its own view subsets, and each of its ranks holds one
slab of z slices. A column holds the same slab in all groups; the mean over all subsets is one sum along each
column, so that no control process has to gather whole volumes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from manyviews.errors import InputError, quoted
from manyviews.parallel.world import SingleWorld, World, shares

_PATTERN = re.compile(r"(\d{1,6})x(\d{1,6})")
_MANY_SLABS = 16


@dataclass(frozen=True)
class Layout:
    """``groups`` of ranks, each of ``slabs`` ranks."""

    groups: int = 1
    slabs: int = 1

    @property
    def ranks(self) -> int:
        """Ranks at work."""
        return self.groups * self.slabs

    def __str__(self) -> str:
        return f"{self.groups}x{self.slabs}"

    @classmethod
    def parse(cls, text: str) -> Layout:
        """From ``GROUPSxSLABS``, e.g. ``4x2``; `InputError` if it is something else, or either is zero."""
        found = _PATTERN.fullmatch(text.strip().lower())
        if not found or 0 in (layout := (int(found[1]), int(found[2]))):
            raise InputError(
                f"{quoted(text)} is no layout",
                where="--layout",
                fix="give GROUPSxSLABS, e.g. 4x2 for 8 ranks",
            )
        return cls(*layout)


def useful_layouts(ranks: int, agents: int, depth: int) -> list[Layout]:
    """For every number of groups that is of use, as many slabs as are of use, and of many half as many.

    Other ranks stay idle: many slabs have much to say to each other. Those first that leave the slowest rank
    the least to do, if all agents are alike. ``agents`` are view subsets and priors that can be worked on at
    once, 1 for methods without; ``depth`` is in slices.
    """
    found = []
    for most in range(1, min(ranks, agents) + 1):
        groups = _as_few(agents, most)
        slabs = min(ranks // groups, depth)
        halves = [-(-slabs // 2)] if slabs > _MANY_SLABS else []
        found += [Layout(groups, _as_few(depth, parts)) for parts in (slabs, *halves)]

    def work(layout: Layout) -> tuple[float, int]:
        share = -(-agents // layout.groups) * -(-depth // layout.slabs)
        return share, layout.slabs  # fewer slabs where it is a draw: groups say less to each other

    return sorted(dict.fromkeys(found), key=work)


def layouts_of_few_slabs(ranks: int, agents: int, depth: int) -> list[Layout]:
    """For every number of slabs, fewest first, as many groups as are of use.

    For ranks that work quickly and have slow messages, as GPUs do. Arguments are as of `useful_layouts`.
    """
    counts = dict.fromkeys(_as_few(depth, parts) for parts in range(1, min(ranks, depth) + 1))
    return [Layout(_as_few(agents, min(agents, ranks // slabs)), slabs) for slabs in counts]


def _as_few(count: int, parts: int) -> int:
    """The least number of parts of which none is larger than the largest of so many."""
    return -(-count // -(-count // parts))


def dealt(agents: int, groups: int) -> list[tuple[int, ...]]:
    """Agents of every group, dealt out in turn, to and fro.

    Neighbours are alike, and kinds that take longer come in periods: so that no group gets one kind only.
    """
    hands: list[list[int]] = [[] for _ in range(groups)]
    for agent in range(agents):
        turn, place = divmod(agent, groups)
        hands[place if turn % 2 == 0 else groups - 1 - place].append(agent)
    return [tuple(hand) for hand in hands]


@dataclass(frozen=True)
class Place:
    """Where this rank stands: ``within`` its group, and ``across`` the groups, with the same slab in each."""

    layout: Layout
    world: World
    within: World
    across: World

    @property
    def group(self) -> int:
        """Number of this rank's group."""
        return self.across.rank

    def group_alone(self) -> Place:
        """The place of a rank whose group works by itself."""
        return Place(Layout(1, self.layout.slabs), self.within, self.within, SingleWorld())

    def slab(self, depth: int) -> slice:
        """This rank's slices of ``depth``."""
        return shares(depth, self.layout.slabs)[self.within.rank]

    def own(self, agents: int) -> tuple[int, ...]:
        """This group's agents."""
        return dealt(agents, self.layout.groups)[self.group]


def take_place(world: World, layout: Layout) -> Place | None:
    """This rank's place, or None for one that has nothing to do; `InputError` if there are too few ranks."""
    if layout.ranks > world.size:
        raise InputError(
            f"{layout} needs {layout.ranks} ranks and there are {world.size}",
            where="--layout",
            fix=f"start it with mpiexec -n {layout.ranks}, or leave --layout out",
        )
    working = world.split(int(world.rank >= layout.ranks))
    if world.rank >= layout.ranks:
        return None
    group, slab = divmod(world.rank, layout.slabs)
    return Place(layout, working, working.split(group), working.split(slab))


def alone() -> Place:
    """The place of a process that works by itself."""
    world = SingleWorld()
    return Place(Layout(), world, world, world)
