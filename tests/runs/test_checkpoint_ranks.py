"""Checkpoints that several ranks write and read together."""

import errno
import os
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fake_world import in_layout, outcomes
from manyviews.errors import InputError
from manyviews.parallel.layout import Layout, take_place
from manyviews.runs import checkpoint as module
from manyviews.runs import npy
from manyviews.runs.checkpoint import load_checkpoint, save_checkpoint
from manyviews.runs.placement import Placement
from manyviews.runs.state import state_from_arrays, state_to_arrays

DEPTH, AGENTS = 7, 5
LAYOUTS = [Layout(1, 1), Layout(1, 3), Layout(2, 1), Layout(2, 2), Layout(5, 1), Layout(1, 7), Layout(3, 2)]
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@dataclass(frozen=True)
class State:
    """One array of each kind."""

    iteration: int
    iterate: torch.Tensor
    states: tuple[torch.Tensor, ...]
    answers: tuple[torch.Tensor, ...]
    random: torch.Tensor
    weight: torch.Tensor
    objective: float
    history: tuple[float, ...] = (1.0, 2.0)


def whole(seed=0, depth=DEPTH, agents=AGENTS):
    generator = torch.Generator().manual_seed(seed)

    def volume():
        return torch.randn((depth, 4, 3), generator=generator)

    return State(
        iteration=seed,
        volume=volume(),
        states=tuple(volume() for _ in range(agents)),
        answers=(),
        random=generator.get_state(),
        weight=torch.tensor(0.1 + seed, dtype=torch.float64),
        objective=1 / (3 + seed),
    )


def part(state, placement):
    return State(
        iteration=state.iteration,
        volume=state.iterate[placement.slab],
        states=tuple(state.states[agent][placement.slab] for agent in placement.agents),
        answers=(),
        random=state.random,
        weight=state.weight,
        objective=state.objective,
    )


def same(one, other):
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def assert_equal(a, b):
    for name in a.__dataclass_fields__:
        one, other = getattr(a, name), getattr(b, name)
        if isinstance(one, tuple):
            assert len(one) == len(other)
            assert all(map(same, one, other))
        else:
            assert same(one, other)


def save(place, folder, state, depth=DEPTH, agents=AGENTS, **options):
    placement = Placement.at(place, depth, agents)
    values = state_to_arrays(part(state, placement))
    return save_checkpoint(folder, values, state.iteration, placement=placement, **options)


def load(place, folder, depth=DEPTH, agents=AGENTS, **options):
    placement = Placement.at(place, depth, agents)
    said = []
    found = load_checkpoint(folder, said.append, placement=placement, **options)
    return (None if found is None else state_from_arrays(State, found[0])), said, placement


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_the_files_are_the_same_whatever_ranks_wrote_them(tmp_path, layout):
    state = whole(3)
    written = in_layout(layout, lambda place: save(place, tmp_path, state))
    (tmp_path / "alone").mkdir()
    save_checkpoint(tmp_path / "alone", state_to_arrays(state), 3)
    expected = content(tmp_path / "alone/checkpoint/000003")
    found = content(tmp_path / "checkpoint/000003")
    assert {name: found[name] for name in found if name.endswith("npy")} == {
        name: expected[name] for name in expected if name.endswith("npy")
    }
    assert set(written) == {sum(map(len, found.values()))}
    assert np.array_equal(np.load(tmp_path / "checkpoint/000003/states.4.npy"), state.states[4].numpy())


@pytest.mark.parametrize("writer", LAYOUTS, ids=str)
@pytest.mark.parametrize("reader", [Layout(1, 1), Layout(2, 1), Layout(1, 3), Layout(3, 2)], ids=str)
def test_any_layout_reads_what_any_other_wrote(tmp_path, writer, reader):
    state = whole(5)
    in_layout(writer, lambda place: save(place, tmp_path, state))
    for found, said, placement in in_layout(reader, lambda place: load(place, tmp_path)):
        assert_equal(found, part(state, placement))
        assert not said


@QUICK
@given(
    depth=st.integers(1, 6),
    agents=st.integers(1, 5),
    writer=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    reader=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    seed=st.integers(0, 99),
)
def test_round_trip_of_any_sizes(tmp_path, depth, agents, writer, reader, seed):
    """More slabs than slices and more groups than agents, too."""
    state = whole(seed, depth, agents)
    in_layout(Layout(*writer), lambda place: save(place, tmp_path, state, depth, agents))
    for found, said, placement in in_layout(
        Layout(*reader), lambda place: load(place, tmp_path, depth, agents)
    ):
        assert_equal(found, part(state, placement))
        assert not said


def test_each_rank_reads_its_own_part_only(tmp_path, monkeypatch):
    in_layout(Layout(1, 1), lambda place: save(place, tmp_path, whole(1)))
    read = []
    real = npy._fill
    monkeypatch.setattr(npy, "_fill", lambda handle, block: (read.append(len(block)), real(handle, block)))
    in_layout(Layout(5, 1), lambda place: load(place, tmp_path))
    slice_bytes = 4 * 3 * 4
    # one volume and one agent's state on each of five ranks, and what is the same on all of them
    assert sum(size for size in read if size == slice_bytes) == 5 * 2 * DEPTH * slice_bytes


@pytest.mark.parametrize("layout", [Layout(1, 3), Layout(2, 2)], ids=str)
def test_damage_that_one_rank_sees_makes_all_pass_over(tmp_path, layout):
    for iteration in (1, 2):
        in_layout(layout, lambda place, n=iteration: save(place, tmp_path, whole(n)))
    path = tmp_path / "checkpoint/000002/volume.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # in the last slice
    path.write_bytes(data)
    for found, said, placement in in_layout(layout, lambda place: load(place, tmp_path)):
        assert_equal(found, part(whole(1), placement))
        assert len(said) == 1
        assert f"000002 is damaged and passed over: rank {layout.slabs - 1}: volume.npy: its bytes" in said[0]


def test_one_rank_does_not_mind_damage_in_what_it_does_not_need(tmp_path):
    in_layout(Layout(1, 1), lambda place: save(place, tmp_path, whole(1)))
    path = tmp_path / "checkpoint/000001/states.0.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    place = Placement(Placement.alone().world, DEPTH, slice(0, DEPTH), [1], AGENTS)
    assert load_checkpoint(tmp_path, placement=place) is not None
    assert load_checkpoint(tmp_path) is None


def test_nothing_there(tmp_path):
    assert [found for found, *_ in in_layout(Layout(1, 2), lambda place: load(place, tmp_path))] == [None] * 2


class Failing:
    """One call fails on the thread of one rank."""

    def __init__(self, rank, real):
        self.rank = rank
        self.real = real
        self.thread = None

    def __call__(self, *arguments):
        if threading.get_ident() == self.thread:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.real(*arguments)

    def here(self, rank):
        if rank == self.rank:
            self.thread = threading.get_ident()


@pytest.mark.parametrize("layout", [Layout(1, 3), Layout(3, 1)], ids=str)
@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("call", ["write_at", "fsync"])
def test_a_full_disk_on_one_rank_is_told_on_all(tmp_path, monkeypatch, layout, rank, call):
    in_layout(layout, lambda place: save(place, tmp_path, whole(1)))
    failing = Failing(rank, getattr(npy, call) if call == "write_at" else os.fsync)
    owner = npy if call == "write_at" else npy.os
    monkeypatch.setattr(owner, call, failing)

    def work(world):
        failing.here(world.rank)
        return save(take_place(world, layout), tmp_path, whole(2))

    for error in outcomes(layout.ranks, work):
        assert isinstance(error, InputError)
        assert "cannot be written (No space left on device)" in str(error)
        assert (f"rank {rank}" in str(error)) == (rank > 0)
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["000001"]
    monkeypatch.undo()
    for found, _, placement in in_layout(layout, lambda place: load(place, tmp_path)):
        assert_equal(found, part(whole(1), placement))
    in_layout(layout, lambda place: save(place, tmp_path, whole(2)))
    assert load_checkpoint(tmp_path)[1] == 2


@pytest.mark.parametrize("step", ["_prepare", "_complete"])
def test_a_failure_of_the_first_rank_alone_is_told_on_all(tmp_path, monkeypatch, step):
    in_layout(Layout(2, 2), lambda place: save(place, tmp_path, whole(1)))

    def fail(*arguments):
        raise InputError("no", path="x", fix="y")

    monkeypatch.setattr(module, step, fail)
    errors = outcomes(4, lambda world: save(take_place(world, Layout(2, 2)), tmp_path, whole(2)))
    assert [str(error) for error in errors] == ["x: no; y"] * 4
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["000001"]


def test_a_really_full_disk(small_disk):
    def volume(place, iteration, size):
        values = {"volume": np.zeros((10, size, size), np.float32)[place.slab(10)], "n": iteration}
        return save_checkpoint(small_disk, values, iteration, placement=Placement.at(place, 10))

    in_layout(Layout(1, 2), lambda place: volume(place, 1, 80))
    errors = outcomes(2, lambda world: volume(take_place(world, Layout(1, 2)), 2, 150))
    assert all("No space left on device" in str(error) for error in errors)
    assert [path.name for path in (small_disk / "checkpoint").iterdir()] == ["000001"]


def test_ranks_that_do_not_fit_together_are_refused(tmp_path):
    def other_kind(world):
        place = Placement.at(take_place(world, Layout(1, 2)), 4)
        array = np.zeros((2, 3, 3), "f4" if world.rank else "f8")
        save_checkpoint(tmp_path, {"volume": array}, 1, placement=place)

    def gap(world):
        place = Placement(world, 6, slice(4 * world.rank, 4 * world.rank + 2), (), 0)
        save_checkpoint(tmp_path, {"volume": np.zeros((2, 3, 3))}, 1, placement=place)

    def missing(world):
        place = Placement.at(take_place(world, Layout(1, 2)), 4)
        save_checkpoint(tmp_path, {"volume": np.zeros((2, 3, 3))} if world.rank else {}, 1, placement=place)

    for work, words in (
        (other_kind, "different kinds of volume"),
        (gap, "do not follow"),
        (missing, "follow"),
    ):
        assert all(isinstance(error, ValueError) and words in str(error) for error in outcomes(2, work))
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize("keep", [1, 3])
def test_fewer_or_more_are_kept(tmp_path, keep):
    for iteration in range(1, 6):
        in_layout(Layout(1, 2), lambda place, n=iteration: save(place, tmp_path, whole(n), keep=keep))
    names = sorted(path.name for path in (tmp_path / "checkpoint").iterdir())
    assert names == [f"{iteration:06d}" for iteration in range(6 - keep, 6)]


def test_slabs_are_read_into_the_room_that_is_given(tmp_path):
    in_layout(Layout(1, 1), lambda place: save(place, tmp_path, whole(1)))

    def work(place):
        given = []

        def allocate():
            slab = place.slab(DEPTH)
            given.append(np.empty((slab.stop - slab.start, 4, 3), np.float32))
            return given[-1]

        found, _, placement = load(place, tmp_path, allocate=allocate)
        assert len(given) == 1 + len(placement.agents)
        assert found.iterate.data_ptr() in {array.ctypes.data for array in given}
        assert_equal(found, part(whole(1), placement))

    in_layout(Layout(2, 2), work)


def test_a_checkpoint_of_another_depth_is_passed_over(tmp_path):
    in_layout(Layout(1, 2), lambda place: save(place, tmp_path, whole(1)))
    found, said, _ = in_layout(Layout(1, 2), lambda place: load(place, tmp_path, depth=8))[0]
    assert found is None
    assert "no volume of 8 slices" in said[0]


def test_no_rank_but_the_first_lists_or_removes(tmp_path, monkeypatch):
    threads = set()
    real = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: (threads.add(threading.get_ident()), real(path))[1])
    idents = in_layout(
        Layout(1, 3), lambda place: (save(place, tmp_path, whole(1)), threading.get_ident())[1]
    )
    assert threads == {idents[0]}
