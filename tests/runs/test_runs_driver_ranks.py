"""The loop under several ranks."""

import io
import signal
import weakref

import pytest
import torch
from spread_run import DEPTH, ITERATIONS, SpreadSolver, run_at
from toy_run import ToySolver

from fake_world import in_layout, outcomes
from manyviews.errors import DivergedError, InputError
from manyviews.parallel.layout import Layout, take_place
from manyviews.runs import driver as module
from manyviews.runs.driver import drive
from manyviews.runs.events import read_events
from manyviews.runs.folder import RunFolder
from manyviews.runs.interrupt import Interrupt, Interrupted
from manyviews.runs.progress import Progress
from manyviews.solvers.driver import StopReason

LAYOUTS = [Layout(1, 1), Layout(1, 2), Layout(2, 1), Layout(3, 2)]


def assembled(ends):
    """The volume of the first group, from what all its ranks ended with."""
    return torch.cat([state.iterate for state, _ in ends])


def story(folder):
    events = read_events(folder / "events.jsonl")
    return [{k: v for k, v in event.items() if k != "time" and not k.endswith("seconds")} for event in events]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    return assembled(in_layout(Layout(1, 1), lambda place: run_at(place, folder)))


class Killed(BaseException):
    pass


def kill_at(iteration):
    def look(state):
        if state.iteration == iteration:
            raise Killed

    return look


@pytest.mark.parametrize("tolerance", [0.0, 0.1])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_killed_and_resumed_by_the_same_ranks_is_bit_identical(tmp_path, layout, tolerance):
    def go(place, name, **options):
        return run_at(place, tmp_path / name, tolerance=tolerance, **options)

    expected = in_layout(layout, lambda place: go(place, "whole"))

    def killed(world):
        go(take_place(world, layout), "killed", on_state=kill_at(5))

    assert all(isinstance(end, Killed) for end in outcomes(layout.ranks, killed))
    for (found, why), (state, reason) in zip(
        in_layout(layout, lambda place: go(place, "killed")), expected, strict=True
    ):
        assert torch.equal(found.iterate, state.iterate)
        assert all(map(torch.equal, found.states, state.states))
        assert (found.iteration, why) == (state.iteration, reason)
        assert reason is (StopReason.CONVERGED if tolerance else StopReason.ITERATIONS)
    assert story(tmp_path / "whole") == story(tmp_path / "killed")


@pytest.mark.parametrize("after", LAYOUTS, ids=str)
@pytest.mark.parametrize("before", LAYOUTS, ids=str)
def test_resumed_by_other_ranks(tmp_path, alone, before, after):
    def killed(world):
        run_at(take_place(world, before), tmp_path, on_state=kill_at(7))

    assert all(isinstance(end, Killed) for end in outcomes(before.ranks, killed))
    seen = []
    ends = in_layout(
        after, lambda place: run_at(place, tmp_path, on_state=lambda state: seen.append(state.iteration))
    )
    assert min(seen) == 7
    assert torch.allclose(assembled(ends[: after.slabs]), alone, rtol=1e-12)
    log = (tmp_path / "log.txt").read_text()
    assert ("ranks: started with" in log) == (before.ranks != after.ranks)
    assert log.count("going on after iteration 6") == 1


def test_a_request_to_one_rank_stops_all_with_a_checkpoint(tmp_path, alone):
    layout = Layout(1, 3)

    def stopped(world):
        interrupt = Interrupt()

        def look(state):
            if state.iteration == 4 and world.rank == 2:
                interrupt._signal_number = signal.SIGTERM

        run_at(take_place(world, layout), tmp_path, seconds=1000, interrupt=interrupt, on_state=look)

    for end in outcomes(3, stopped):
        assert isinstance(end, Interrupted)
        assert end.exit_code == 143
        assert "after iteration 4" in str(end)
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["000004"]
    assert not (tmp_path / "logs").exists()
    assert not (tmp_path / "lock").exists()
    assert torch.allclose(assembled(in_layout(layout, lambda place: run_at(place, tmp_path))), alone)


@pytest.mark.parametrize("first_is_due", [False, True])
def test_the_clock_of_the_first_rank_decides(tmp_path, first_is_due):
    def work(place):
        run_at(place, tmp_path, seconds=0 if (place.world.rank == 0) == first_is_due else 1000)

    in_layout(Layout(1, 2), work)
    assert (tmp_path / "checkpoint").exists() == first_is_due


def test_events_tell_what_was_exchanged(tmp_path):
    in_layout(Layout(1, 3), lambda place: run_at(place, tmp_path / "many", seconds=1000))
    in_layout(Layout(1, 1), lambda place: run_at(place, tmp_path / "one"))
    many, one = (
        [event for event in read_events(tmp_path / name / "events.jsonl") if event["kind"] == "iteration"]
        for name in ("many", "one")
    )
    assert [event["iteration"] for event in many] == list(range(1, ITERATIONS + 1))
    for event in many:
        assert event["exchanged_bytes"] == 3 * 8 * (DEPTH * 12 + 1)
        assert event["messages"] == 3 * 2
        assert event["exchange_seconds"] == 0.5
    assert not {"exchanged_bytes", "messages", "exchange_seconds"} & one[0].keys()
    assert all(a["objective"] == pytest.approx(b["objective"]) for a, b in zip(many, one, strict=True))


def test_the_first_rank_alone_speaks(tmp_path):
    def work(place):
        stream = io.StringIO()
        run_at(place, tmp_path, stream=stream)
        return stream.getvalue()

    first, *others = in_layout(Layout(2, 2), work)
    assert others == [""] * 3
    assert first.splitlines()[0] == f"2x2 ranks, reconstruct: {ITERATIONS} steps"
    assert "disagreement 0.5, data passes 2" in first
    alone = in_layout(Layout(1, 1), work)[0]
    assert alone.splitlines()[0] == "going on after iteration 12"
    assert "ranks" not in alone


def test_divergence_in_one_slab_ends_all_ranks(tmp_path):
    def work(world):
        place = take_place(world, Layout(1, 3))
        run_at(place, tmp_path, solver=SpreadSolver(place, wrong_at=3))

    for end in outcomes(3, work):
        assert isinstance(end, DivergedError)
        assert "iteration 3" in str(end)
    last = story(tmp_path)[-1]
    assert (last["kind"], last["iteration"], last["reason"]) == ("stop", 3, "diverged")


def test_a_failed_checkpoint_ends_all_ranks(tmp_path, monkeypatch):
    def fail(*arguments):
        raise InputError("no room")

    monkeypatch.setattr("manyviews.runs.checkpoint._complete", fail)
    errors = outcomes(3, lambda world: run_at(take_place(world, Layout(3, 1)), tmp_path))
    assert [str(error) for error in errors] == ["no room"] * 3
    assert "ended by InputError: no room" in (tmp_path / "log.txt").read_text()


def test_several_ranks_need_a_placement(tmp_path):
    def work(world):
        place = take_place(world, Layout(1, 2))
        opened = RunFolder.open(tmp_path, job="toy", options={}, inputs={}, command=[], world=world)
        solver = SpreadSolver(place)
        drive(solver, solver.init(), iterations=1, run=opened, progress=Progress(), interrupt=Interrupt())

    assert all("needs a placement" in str(error) for error in outcomes(2, work))


def test_one_state_is_in_memory_while_another_is_read(tmp_path, monkeypatch):
    alive = []

    class Watched(ToySolver):
        def init(self):
            state = super().init()
            alive.append(weakref.ref(state.iterate))
            return state

    def work():
        solver = Watched()
        opened = RunFolder.open(tmp_path, job="toy", options={}, inputs={}, command=[])
        with opened as run, Progress(quiet=True, stream=io.StringIO()) as progress:
            return drive(
                solver,
                solver.init(),
                iterations=3,
                run=run,
                progress=progress,
                interrupt=Interrupt(),
                checkpoint_seconds=0,
            )

    first, _ = work()
    real = module.load_checkpoint

    def load(*arguments, **options):
        assert alive[-1]() is None
        return real(*arguments, **options)

    monkeypatch.setattr(module, "load_checkpoint", load)
    second, _ = work()
    assert len(alive) == 2
    assert torch.equal(first.iterate, second.iterate)
