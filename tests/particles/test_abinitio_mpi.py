"""The same map and the same poses from 1, 2 and 3 ranks; killed and failing ranks."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from em_example import reconstruct, refine_from_truth, solve_example, write_example
from em_ranks import CASES, REFINED, SOLVED, shorten

from manyviews.io.mrc import read_mrc
from manyviews.jobs import run as job
from manyviews.particles.em import plan as em_plan
from manyviews.runs.events import read_events

SCRIPT = Path(__file__).with_name("em_ranks.py")
SHARED = ("plain", "halves", REFINED, SOLVED)


@pytest.fixture(scope="module")
def particles(tmp_path_factory):
    return write_example(tmp_path_factory.mktemp("particles") / "data", count=60)


@pytest.fixture
def alone(particles, tmp_path_factory, one_thread, monkeypatch):
    """``alone(case)``: the folder of a run of this process."""
    monkeypatch.setattr(em_plan, "_START_ITERATIONS", em_plan._START_ITERATIONS)
    monkeypatch.setattr(job, "build_report", job.build_report)
    shorten()
    out = tmp_path_factory.mktemp("alone")

    def run(case: str, folder: Path = out) -> Path:
        if case == REFINED:
            refine_from_truth(particles, folder / case)
        elif case == SOLVED:
            solve_example(particles, folder / case)
        else:
            reconstruct(particles, folder / case, CASES[case])
        return folder / case

    return run


def volume(folder):
    return read_mrc(folder / "volume.mrc")[0].astype(np.float64)


def assert_same(found, expected):
    difference = np.linalg.norm(volume(found) - volume(expected)) / np.linalg.norm(volume(expected))
    assert difference < 1e-5
    assert (found / "particles.star").read_bytes() == (expected / "particles.star").read_bytes()


@pytest.mark.parametrize("ranks", [3])
def test_many_ranks_give_the_map_and_the_poses_of_one(run_warm_ranks, particles, alone, tmp_path, ranks):
    done = run_warm_ranks(ranks, SCRIPT, particles, tmp_path, 30, *SHARED, seconds=200)
    assert done.returncode == 0, done.stderr
    for case in SHARED:
        assert_same(tmp_path / case, alone(case))
        iterations = [e for e in read_events(tmp_path / case / "events.jsonl") if e["kind"] == "iteration"]
        assert all(event["exchanged_bytes"] > 0 for event in iterations)


def iterations_of(folder):
    events = read_events(folder / "events.jsonl") if (folder / "events.jsonl").exists() else []
    return [event["iteration"] for event in events if event["kind"] == "iteration"]


def wait_for_progress(folder, process):
    """Until a new iteration is told, or the job ends."""
    before, limit = len(iterations_of(folder)), time.monotonic() + 60
    while len(iterations_of(folder)) <= before and process.poll() is None:
        assert time.monotonic() < limit
        time.sleep(0.002)


def test_killed_ranks_and_others_that_go_on(run_warm_ranks, particles, alone, tmp_path):
    """One of two ranks is killed; one rank goes on with what both had saved."""
    process = run_warm_ranks.start(2, SCRIPT, particles, tmp_path, 0, "long")
    wait_for_progress(tmp_path / "long", process)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert process.poll() is None
    os.kill(pids[1], signal.SIGKILL)
    assert run_warm_ranks.end(process, seconds=20).returncode != 0
    reference = alone("long")
    done = alone("long", tmp_path)
    assert iterations_of(done) == iterations_of(reference)
    assert_same(done, reference)


def test_a_rank_that_raises_ends_the_job_once(run_warm_ranks, particles, tmp_path):
    done = run_warm_ranks(2, SCRIPT, particles, tmp_path, 30, "plain", seconds=60, EM_RANKS_FAIL="1")
    assert done.returncode != 0
    assert done.stderr.count("RuntimeError: an error made on purpose") == done.stderr.count("Traceback") == 1
