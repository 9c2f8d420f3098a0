"""Who stands where: layouts, places and shares."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyviews.errors import InputError
from manyviews.parallel.layout import Layout, alone, dealt, take_place, useful_layouts
from manyviews.parallel.world import shares, shares_in_twos

SMALL = st.integers(1, 12)
MANY = st.integers(1, 60)


class Board:
    """Where the threads that play ranks write their colours."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._meetings: dict[str, tuple[dict[int, int], threading.Barrier]] = {}

    def colours(self, name: str, rank: int, size: int, colour: int) -> dict[int, int]:
        with self._lock:
            colours, barrier = self._meetings.setdefault(name, ({}, threading.Barrier(size, timeout=30)))
        colours[rank] = colour
        barrier.wait()
        return colours


class FakeWorld:
    """Has a rank and can be split; ``members`` are numbers in the first world."""

    def __init__(self, board: Board, members: list[int], rank: int, name: str = "all") -> None:
        self._board, self.members, self.rank, self._name = board, members, rank, name
        self.size = len(members)
        self._splits = 0

    def split(self, colour: int) -> FakeWorld:
        self._splits += 1
        name = f"{self._name}/{self._splits}"
        colours = self._board.colours(name, self.rank, self.size, colour)
        same = [rank for rank in range(self.size) if colours[rank] == colour]
        members = [self.members[rank] for rank in same]
        return FakeWorld(self._board, members, same.index(self.rank), f"{name}={colour}")


def places_of(ranks: int, layout: Layout):
    board = Board()
    worlds = [FakeWorld(board, list(range(ranks)), rank) for rank in range(ranks)]
    with ThreadPoolExecutor(ranks) as pool:
        return list(pool.map(lambda world: take_place(world, layout), worlds))


@given(st.integers(0, 1000), st.integers(1, 50))
def test_shares_are_even_and_in_order(count: int, parts: int):
    found = shares(count, parts)
    sizes = [share.stop - share.start for share in found]
    assert len(found) == parts
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) - min(sizes) <= 1
    assert [n for share in found for n in range(share.start, share.stop)] == list(range(count))


@given(st.integers(0, 1000), st.integers(1, 50))
def test_shares_in_twos_begin_at_even_numbers(count: int, parts: int):
    found = shares_in_twos(count, parts)
    assert len(found) == parts
    assert [n for share in found for n in range(share.start, share.stop)] == list(range(count))
    if count >= 2 * parts:
        assert all(share.start % 2 == 0 and share.stop > share.start for share in found)
        sizes = [share.stop - share.start for share in found]
        assert max(sizes) - min(sizes) <= 3


@given(SMALL, SMALL)
def test_a_layout_is_written_as_it_is_read(groups: int, slabs: int):
    layout = Layout(groups, slabs)
    assert Layout.parse(str(layout)) == Layout.parse(f" {groups}X{slabs} ") == layout
    assert layout.ranks == groups * slabs


@pytest.mark.parametrize(
    "text", ["", "4", "x", "4x", "x2", "0x2", "2x0", "-1x2", "2x2x2", "2 x 2", "axb", "1e1x1"]
)
def test_what_is_no_layout(text: str):
    with pytest.raises(InputError, match="is no layout; give GROUPSxSLABS"):
        Layout.parse(text)


def slowest(layout: Layout, agents: int, depth: int) -> int:
    """Agents times slices of the rank that has most to do."""
    most = [
        max(s.stop - s.start for s in shares(n, parts))
        for n, parts in zip((agents, depth), (layout.groups, layout.slabs), strict=True)
    ]
    return most[0] * most[1]


@given(SMALL, SMALL, SMALL)
def test_no_layout_leaves_the_slowest_less(ranks: int, agents: int, depth: int):
    found = useful_layouts(ranks, agents, depth)
    left = [slowest(layout, agents, depth) for layout in found]
    assert left == sorted(left)
    for layout in found:
        assert layout.ranks <= ranks
        assert layout.groups <= agents
        assert layout.slabs <= depth
    grid = itertools.product(range(1, agents + 1), range(1, depth + 1))
    assert left[0] == min(slowest(Layout(g, s), agents, depth) for g, s in grid if g * s <= ranks)


@given(MANY, SMALL, MANY)
def test_useful_layouts_are_for_every_number_of_agents_in_a_group(ranks: int, agents: int, depth: int):
    found = useful_layouts(ranks, agents, depth)
    shares_of = {-(-agents // groups) for groups in range(1, min(ranks, agents) + 1)}
    assert {-(-agents // layout.groups) for layout in found} == shares_of
    assert len({layout.groups for layout in found}) == len(shares_of)
    assert len(found) == len(set(found)) <= 2 * len(shares_of)


@pytest.mark.parametrize(
    ("ranks", "agents", "depth", "expected"),
    [
        (1, 8, 100, "1x1"),
        (4, 8, 100, "4x1"),
        (4, 1, 100, "1x4"),
        (6, 3, 100, "3x2"),
        (4, 3, 100, "1x4"),
        (16, 4, 2, "4x2"),
    ],
)
def test_examples(ranks: int, agents: int, depth: int, expected: str):
    assert str(useful_layouts(ranks, agents, depth)[0]) == expected


@pytest.mark.parametrize("layout", ["1x1", "1x4", "4x1", "2x3", "3x2"])
@pytest.mark.parametrize("idle", [0, 2])
def test_places_form_the_grid(layout: str, idle: int):
    grid = Layout.parse(layout)
    places = places_of(grid.ranks + idle, grid)
    assert places[grid.ranks :] == [None] * idle
    for rank, place in enumerate(places[: grid.ranks]):
        group, slab = divmod(rank, grid.slabs)
        assert place.group == group
        assert place.world.members == list(range(grid.ranks))
        assert place.within.members == [group * grid.slabs + s for s in range(grid.slabs)]
        assert place.across.members == [g * grid.slabs + slab for g in range(grid.groups)]
        assert place.slab(11) == shares(11, grid.slabs)[slab]
    working = places[: grid.ranks]
    slices = [n for place in working if place.group == 0 for n in range(11)[place.slab(11)]]
    agents = [n for place in working if place.slab(11).start == 0 for n in place.own(7)]
    assert slices == list(range(11))
    assert sorted(agents) == list(range(7))


def test_a_layout_for_more_ranks_than_there_are():
    world = FakeWorld(Board(), [0, 1], 0)
    with pytest.raises(InputError, match=r"2x3 needs 6 ranks and there are 2; start it with mpiexec -n 6"):
        take_place(world, Layout(2, 3))


def test_alone():
    place = alone()
    assert (place.group, place.slab(5), place.own(3)) == (0, slice(0, 5), (0, 1, 2))


@pytest.mark.parametrize(("agents", "groups"), [(4, 2), (32, 4), (32, 16), (7, 3), (2, 3), (0, 2)])
def test_agents_are_dealt_out_once_and_evenly(agents, groups):
    hands = dealt(agents, groups)
    assert sorted(agent for hand in hands for agent in hand) == list(range(agents))
    assert max(map(len, hands)) - min(map(len, hands)) <= 1
    assert all(list(hand) == sorted(hand) for hand in hands)


def test_no_group_gets_one_kind_only():
    """Four axes in turn, every other one oblique: each of two groups gets one of each kind."""
    assert dealt(4, 2) == [(0, 3), (1, 2)]
