"""Runs of several processes: what they leave, what a kill leaves, and who may go on."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from spread_run import run_at

from fake_world import in_layout
from manyviews.parallel.layout import Layout
from manyviews.runs.checkpoint import load_checkpoint
from manyviews.runs.events import read_events

SCRIPT = Path(__file__).with_name("spread_run.py")
SLOW = 0.03  # seconds of a step, to be met in one


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    out = tmp_path_factory.mktemp("alone")
    ((state, _),) = in_layout(Layout(1, 1), lambda place: run_at(place, out))
    return state.iterate.numpy()


def wait_for(condition, process):
    limit = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, "the run ended too early"
        assert time.monotonic() < limit
        time.sleep(0.005)


def told(out):
    return [event["iteration"] for event in read_events(out / "events.jsonl") if event["kind"] == "iteration"]


def test_ranks_give_what_one_gives(run_warm_ranks, alone, tmp_path):
    out = tmp_path / "run"
    done = run_warm_ranks(4, SCRIPT, out, "2x2", 0, 0)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(out.with_suffix(".npy")), alone, rtol=1e-12)
    assert done.stderr.splitlines()[0] == "2x2 ranks, main: 12 steps"
    iterations = [event for event in read_events(out / "events.jsonl") if event["kind"] == "iteration"]
    assert all(event["exchanged_bytes"] > 0 and event["messages"] > 0 for event in iterations)
    assert sorted(path.name for path in out.iterdir()) == [
        "checkpoint",
        "events.jsonl",
        "log.txt",
        "run.toml",
    ]


@pytest.mark.parametrize(("before", "after", "victim"), [("1x3", "2x1", -1), ("2x1", "1x2", 0)])
def test_a_killed_rank_and_other_ranks_that_go_on(run_warm_ranks, alone, tmp_path, before, after, victim):
    out = tmp_path / "run"
    process = run_warm_ranks.start(Layout.parse(before).ranks, SCRIPT, out, before, SLOW, 0)
    wait_for(lambda: len(told(out)) > 3, process)
    pids = [int(pid) for pid in out.with_suffix(".pids").read_text().split()]
    os.kill(pids[victim], signal.SIGKILL)
    assert run_warm_ranks.end(process, seconds=20).returncode != 0
    assert load_checkpoint(out)[1] >= 3
    done = run_warm_ranks(Layout.parse(after).ranks, SCRIPT, out, after, 0, 0)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("main: going on after iteration ")
    np.testing.assert_allclose(np.load(out.with_suffix(".npy")), alone, rtol=1e-12)
    assert told(out) == list(range(1, 13))
    assert "took over the lock" in (out / "log.txt").read_text()


def test_a_request_to_stop_is_met_by_all(run_warm_ranks, alone, tmp_path):
    out = tmp_path / "run"
    process = run_warm_ranks.start(3, SCRIPT, out, "1x3", SLOW, 1000)
    wait_for(lambda: len(told(out)) > 2, process)
    process.send_signal(signal.SIGTERM)
    done = run_warm_ranks.end(process, seconds=20)
    assert done.returncode == 143
    last = told(out)[-1]
    assert done.stderr.splitlines()[-1] == (
        f"stopped by SIGTERM after iteration {last}; the same command goes on from there"
    )
    assert load_checkpoint(out)[1] == last
    assert not (out / "lock").exists()
    assert not (out / "logs").exists()
    assert run_warm_ranks(3, SCRIPT, out, "1x3", 0, 0).returncode == 0
    np.testing.assert_allclose(np.load(out.with_suffix(".npy")), alone, rtol=1e-12)


def test_a_full_disk_is_told_once(run_warm_ranks, small_disk):
    (small_disk / "fill").write_bytes(bytes((1 << 20) - (1 << 15)))
    done = run_warm_ranks(2, SCRIPT, small_disk / "run", "1x2", 0, 0)
    assert done.returncode == 2
    assert "cannot be written (No space left on device)" in done.stderr.splitlines()[-1]
    assert done.stderr.count("No space left") == 1
