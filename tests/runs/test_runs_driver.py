import io
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy_run import ToySolver, Watched, open_toy, toy_main

from killed import kill
from manyviews.errors import DivergedError
from manyviews.runs import driver as module
from manyviews.runs.checkpoint import load_checkpoint
from manyviews.runs.driver import drive
from manyviews.runs.events import read_events
from manyviews.runs.interrupt import Interrupt, Interrupted
from manyviews.runs.progress import Progress
from manyviews.solvers.driver import StopReason

SCRIPT = str(Path(__file__).with_name("toy_run.py"))


def run_toy(folder, iterations=20, solver=None, on_state=None, total=None, **options):
    solver = solver or ToySolver()
    with open_toy(folder, total or iterations) as run, Interrupt() as interrupt:
        progress = Progress(stream=io.StringIO())
        return drive(
            solver if on_state is None else Watched(solver, on_state),
            iterations=iterations,
            run=run,
            progress=progress,
            interrupt=interrupt,
            **options,
        )


def story(folder):
    events = read_events(folder / "events.jsonl")
    return [{k: v for k, v in event.items() if k != "time" and not k.endswith("seconds")} for event in events]


def test_plain_run(tmp_path):
    seen = []
    state, reason = run_toy(tmp_path, on_state=lambda state: seen.append(state.iteration))
    assert reason is StopReason.ITERATIONS
    assert state.iteration == 20
    assert seen == list(range(1, 21))
    assert [event["iteration"] for event in story(tmp_path)] == [*range(21), 20]
    # nothing was due in so short a run, but what a stage came to is kept
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["main-000020"]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("tolerance", [0.0, 0.02])
@pytest.mark.parametrize("kill_at", [1, 7, 19])
def test_resumed_is_bit_identical(tmp_path, kill_at, tolerance):
    whole, reason = run_toy(tmp_path / "whole", checkpoint_seconds=0, tolerance=tolerance)

    def kill(state):
        if state.iteration == kill_at:
            raise Killed

    if kill_at < whole.iteration:
        with pytest.raises(Killed):
            run_toy(tmp_path / "killed", checkpoint_seconds=0, tolerance=tolerance, on_state=kill)
    resumed, again = run_toy(tmp_path / "killed", checkpoint_seconds=0, tolerance=tolerance)
    assert torch.equal(whole.iterate, resumed.iterate)
    assert torch.equal(whole.random, resumed.random)
    assert all(map(torch.equal, whole.agents, resumed.agents))
    assert (reason, whole.iteration) == (again, resumed.iteration)
    assert story(tmp_path / "whole") == story(tmp_path / "killed")
    if tolerance:
        assert reason is StopReason.CONVERGED


def test_converged_run_opened_again_makes_no_further_step(tmp_path):
    first, _ = run_toy(tmp_path, checkpoint_seconds=0, tolerance=0.02)
    second, reason = run_toy(tmp_path, checkpoint_seconds=0, tolerance=0.02)
    assert reason is StopReason.CONVERGED
    assert torch.equal(first.iterate, second.iterate)


def test_a_stage_that_has_ended_is_not_run_again(tmp_path):
    class Counting(ToySolver):
        steps = 0

        def step(self, state):
            self.steps += 1
            return super().step(state)

    for stage in ("first", "second"):
        first, _ = run_toy(tmp_path, stage=stage)
    expected = story(tmp_path)
    for stage in ("first", "second"):
        solver = Counting()
        again, reason = run_toy(tmp_path, solver=solver, stage=stage)
        assert solver.steps == 0
        assert reason is StopReason.ITERATIONS
        assert torch.equal(first.iterate, again.iterate)
    assert story(tmp_path) == expected
    assert "second: done before, after iteration 20" in (tmp_path / "log.txt").read_text()


def test_a_stage_goes_on_from_the_one_before(tmp_path):
    whole, _ = run_toy(tmp_path / "whole", iterations=20)
    first, _ = run_toy(tmp_path / "parts", iterations=20, total=30, stage="first")
    more, _ = run_toy(tmp_path / "more", iterations=30)
    second, _ = run_toy(tmp_path / "parts", iterations=30, stage="second", start=lambda: first)
    assert torch.equal(whole.iterate, first.iterate)
    assert torch.equal(more.iterate, second.iterate)
    told = [(event["stage"], event["iteration"]) for event in story(tmp_path / "parts")]
    assert told[-12:] == [("second", n) for n in (*range(20, 31), 30)]


def test_states_are_shown_when_it_is_time(tmp_path):
    class Viewer:
        def __init__(self):
            self.seen, self.asked = [], 0

        def is_due(self):
            self.asked += 1
            return self.asked % 3 == 0

        def show(self, state):
            self.seen.append(state.iteration)

    viewer = Viewer()
    run_toy(tmp_path, viewer=viewer)
    assert viewer.seen == [3, 6, 9, 12, 15, 18]


def test_damaged_checkpoint_falls_back_to_the_same_result(tmp_path):
    whole, _ = run_toy(tmp_path, checkpoint_seconds=0)
    expected = story(tmp_path)
    newest = tmp_path / "checkpoint/main-000020/iterate.npy"
    newest.write_bytes(newest.read_bytes()[:-1])
    again, _ = run_toy(tmp_path, checkpoint_seconds=0)
    assert torch.equal(whole.iterate, again.iterate)
    assert "000020 is damaged" in (tmp_path / "log.txt").read_text()
    assert story(tmp_path) == expected


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 0.0])
def test_diverged_is_told(tmp_path, wrong):
    class Wrong(ToySolver):
        def step(self, state):
            state = super().step(state)
            if state.iteration < 3:
                return state
            return replace(state, iterate=state.iterate * 0 + wrong)

    with pytest.raises(DivergedError, match="iteration 3 produced"):
        run_toy(tmp_path, solver=Wrong())
    last = story(tmp_path)[-1]
    assert (last["kind"], last["iteration"], last["reason"]) == ("stop", 3, "diverged")


def test_request_to_stop_saves_and_leaves(tmp_path):
    def stop(state):
        if state.iteration == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted) as caught:
        run_toy(tmp_path, on_state=stop)
    assert caught.value.exit_code == 143
    assert load_checkpoint(tmp_path)[1] == 4
    resumed, _ = run_toy(tmp_path)
    whole, _ = run_toy(tmp_path / "whole")
    assert torch.equal(whole.iterate, resumed.iterate)
    assert story(tmp_path) == story(tmp_path / "whole")


def test_saving_takes_a_tenth_of_the_time_at_most(tmp_path, monkeypatch):
    saved = []

    def slow_save(folder, values, iteration, **options):
        saved.append(iteration)
        time.sleep(0.02)

    monkeypatch.setattr(module, "save_checkpoint", slow_save)
    run_toy(tmp_path, iterations=40, solver=ToySolver(0.01), checkpoint_seconds=0.001)
    assert 2 <= len(saved) <= 4


@pytest.mark.parametrize("tolerance", [0.0, 0.02])
def test_the_last_state_is_written_once(tmp_path, monkeypatch, tolerance):
    """It may be as large as the disk has room for."""
    saved = []
    monkeypatch.setattr(module, "save_checkpoint", lambda folder, values, at, **options: saved.append(at))
    state, _ = run_toy(tmp_path, iterations=20, checkpoint_seconds=0, tolerance=tolerance)
    assert saved == list(range(1, state.iteration + 1))


def start(python, folder, iterations, step_seconds, checkpoint_seconds):
    command = [*python, SCRIPT, str(folder), *map(str, (iterations, step_seconds, checkpoint_seconds))]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def wait_for(condition, process):
    limit = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, "the run ended too early"
        assert time.monotonic() < limit
        time.sleep(0.005)


def iterations_told(folder):
    return len(read_events(folder / "events.jsonl"))


def test_killed_process_and_same_command_again(tmp_path, warm):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert toy_main(whole, 30, 0, 1000) == 0
    generator = random.Random(3)
    for _ in range(2):
        process = start(warm, killed, 30, 0.05, 0)
        before = iterations_told(killed) if killed.exists() else 0
        wait_for(lambda before=before: iterations_told(killed) > before + 2, process)
        time.sleep(generator.random() * 0.05)
        kill(process, killed)
    assert not (killed / "volume.mrc").exists()
    assert toy_main(killed, 30, 0, 0) == 0
    assert (whole / "volume.mrc").read_bytes() == (killed / "volume.mrc").read_bytes()
    assert story(whole) == story(killed)
    before = (killed / "events.jsonl").read_bytes()
    assert toy_main(killed, 30, 0, 0) == 0
    assert (killed / "events.jsonl").read_bytes() == before


def test_signal_to_a_process(tmp_path):
    process = start([sys.executable], tmp_path, 1000, 0.02, 1000)
    wait_for(lambda: iterations_told(tmp_path) > 3, process)
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 143
    assert time.monotonic() - asked < 10
    last = story(tmp_path)[-1]
    assert load_checkpoint(tmp_path)[1] == last["iteration"]
    assert not (tmp_path / "lock").exists()
