"""Killed at random moments and started again, a run ends with the same bytes as one that was let be."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from em_example import QUICK, reconstruct, write_example
from em_ranks import SHORT, shorten

from manyviews.errors import InputError
from manyviews.jobs import run as job
from manyviews.particles import methods
from manyviews.particles.em import plan as em_plan
from manyviews.particles.sagd.sagd import Sagd
from manyviews.runs.events import read_events

SAME = ("volume.mrc", "particles.star", "fsc.csv", "directions.csv")
KILLS = 4

# Imports everything once, then forks a process for every line "folder" it reads: what is killed is a process
# of its own, without the seconds that importing takes.
DRIVER = """
import gc, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from em_example import reconstruct
from em_ranks import SHORT, shorten

gc.freeze()
shorten()
particles = Path(sys.argv[1])
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            reconstruct(particles, Path(line.rstrip()), SHORT, checkpoint_seconds=0)
        except BaseException as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


@pytest.fixture(scope="module")
def particles(tmp_path_factory):
    return write_example(tmp_path_factory.mktemp("particles") / "data", count=60)


class Driver:
    """Starts runs one after the other and can kill them."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def run(self, out: Path, kill_after: float | None = None) -> int:
        """The exit code of one run; ``kill_after`` seconds from its first new event."""
        self.process.stdin.write(f"{out}\n")
        self.process.stdin.flush()
        child = int(self.process.stdout.readline())
        if kill_after is not None:
            events, before = out / "events.jsonl", size_of(out / "events.jsonl")
            limit = time.monotonic() + 60
            while size_of(events) <= before and time.monotonic() < limit:
                time.sleep(0.001)
            time.sleep(kill_after)
            with contextlib.suppress(ProcessLookupError):  # it may have come to its end
                os.kill(child, signal.SIGKILL)
        return int(self.process.stdout.readline())


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@pytest.fixture(scope="module")
def driver(particles, warm):
    process = subprocess.Popen(
        [*warm, "-c", DRIVER, str(particles), str(Path(__file__).parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    yield Driver(process)
    process.stdin.close()
    process.wait(timeout=60)
    process.stdout.close()


def story(run: Path) -> list[dict[str, object]]:
    """The events without what depends on the clock."""
    return [
        {name: value for name, value in event.items() if name != "time" and not name.endswith("seconds")}
        for event in read_events(run / "events.jsonl")
    ]


def assert_same(run: Path, reference: Path) -> None:
    for name in SAME:
        assert (run / name).read_bytes() == (reference / name).read_bytes(), name
    assert story(run) == story(reference)
    assert not (run / "checkpoint").exists()
    assert not [path.name for path in run.iterdir() if path.name.endswith(".tmp")]


def test_kills_at_random_moments_change_nothing(driver, tmp_path):
    reference, run = tmp_path / "reference", tmp_path / "run"
    assert driver.run(tmp_path / "warm-up") == 0
    began = time.monotonic()
    assert driver.run(reference) == 0
    whole_seconds = time.monotonic() - began
    delays = np.random.default_rng(3).uniform(0.0, 0.15, KILLS) * whole_seconds
    codes = []
    for delay in delays:
        codes.append(driver.run(run, delay))
        if codes[-1] == 0:
            break
    assert codes[:2] == [-signal.SIGKILL] * 2
    assert driver.run(run) == 0
    assert_same(run, reference)


@pytest.fixture
def _short(monkeypatch, one_thread):
    monkeypatch.setattr(em_plan, "_START_ITERATIONS", em_plan._START_ITERATIONS)
    monkeypatch.setattr(job, "build_report", job.build_report)
    shorten()


@pytest.mark.usefixtures("_short")
def test_a_finished_run_does_nothing_and_other_options_are_refused(particles, tmp_path):
    out = tmp_path / "run"
    first = reconstruct(particles, out, SHORT)
    made = {name: (out / name).stat().st_mtime_ns for name in SAME}
    assert reconstruct(particles, out, SHORT).summary == first.summary
    assert {name: (out / name).stat().st_mtime_ns for name in SAME} == made
    assert reconstruct(particles, out, replace(SHORT, memory=3.0)).summary == first.summary
    for change in ({"seed": 5}, {"batch": 30}, {"symmetry": "C3"}, {"independent_halves": True}):
        with pytest.raises(InputError, match=next(iter(change))):
            reconstruct(particles, out, replace(SHORT, **change))
    again = reconstruct(particles, out, replace(SHORT, seed=5), overwrite=True)
    assert again.summary != first.summary


@pytest.mark.usefixtures("_short")
def test_trial_starts_are_saved_and_not_run_again(particles, tmp_path, monkeypatch):
    monkeypatch.setattr(methods, "_TRIAL_ITERATIONS", 2)
    options = replace(SHORT, refinements=8, method="sagd", starts=2, iterations=6)
    steps = []
    step = Sagd.step

    def counting(self, state):
        steps.append(self.options.seed)
        if len(steps) == 6:
            raise KeyboardInterrupt  # in the descent, after both trials
        return step(self, state)

    monkeypatch.setattr(Sagd, "step", counting)
    with pytest.raises(KeyboardInterrupt):
        reconstruct(particles, tmp_path / "run", options, checkpoint_seconds=0)
    kept = sorted(path.name for path in (tmp_path / "run/checkpoint").iterdir())
    assert [name for name in kept if name.startswith("trial")] == [
        "trial-1-000001", "trial-1-000002", "trial-2-000001", "trial-2-000002",
    ]  # fmt: skip
    reconstruct(particles, tmp_path / "run", options, checkpoint_seconds=0)
    assert len(steps) == 6 + 3  # of the descent alone
    assert [event["stage"] for event in story(tmp_path / "run") if event["kind"] == "stop"] == [
        "trial-1", "trial-2", "descent", "poses",
    ]  # fmt: skip


@pytest.mark.usefixtures("_short")
def test_changed_particles_are_refused(particles, tmp_path):
    copy = tmp_path / "particles.star"
    copy.write_bytes(particles.read_bytes())
    shutil.copy(particles.with_name("particles.mrcs"), tmp_path)
    reconstruct(copy, tmp_path / "run", SHORT)
    copy.write_bytes(particles.read_bytes() + b"\n# changed\n")
    with pytest.raises(InputError, match=r"particles\.star"):
        reconstruct(copy, tmp_path / "run", SHORT)


@pytest.mark.usefixtures("blank_pictures")
def test_control_c_saves_and_the_same_command_goes_on(particles, tmp_path, warm):
    out = tmp_path / "run"
    words = [
        *warm, "-m", "manyviews.cli", "particles", "abinitio", str(particles), "--out", str(out),
        "--starts", "1", "--batch", "40", "--refinements", "3", "--resolution", "26.6", "--threads", "1",
        "--quiet",
    ]  # fmt: skip
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 90
    while len(read_events(out / "events.jsonl")) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in err.splitlines()[-1]
    assert "Traceback" not in err
    saved = sorted((out / "checkpoint").glob("*-*"))
    assert len(saved) == 1
    assert not (out / "particles.star").exists()
    done = reconstruct(particles, out, replace(QUICK, refinements=3))
    iterations = [event["iteration"] for event in story(out) if event["kind"] == "iteration"]
    assert iterations == list(range(1, len(iterations) + 1))
    assert int(saved[0].name[-6:]) < len(iterations)
    assert done.summary["particles"] == 60
