"""What a job gets from the frame alone, shown on a toy."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from toy_job import Halving, toy

from killed import kill
from manyviews.errors import InputError
from manyviews.jobs import live
from manyviews.options import MachineOptions, RunOptions
from manyviews.runs.events import read_events
from manyviews.runs.interrupt import Interrupted

pytestmark = pytest.mark.usefixtures("blank_pictures")

SCRIPT = Path(__file__).with_name("toy_job.py")
ONE = MachineOptions(threads=1)


def quiet(out, **more):
    return RunOptions(out, quiet=True, **more)


def story(run):
    return [
        {name: value for name, value in event.items() if name != "time" and not name.endswith("seconds")}
        for event in read_events(run / "events.jsonl")
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    toy(quiet(out), ONE)
    return out


def test_a_run_leaves_its_results_record_report_and_summary(whole):
    names = {path.name for path in whole.iterdir()}
    assert names == {
        "events.jsonl", "figures", "log.txt", "report.html", "run.toml", "status.json", "summary.json",
        "view.cxc", "volume.mrc",
    }  # fmt: skip
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["goal"] == 3.0
    assert summary["stopped_because"] == "iterations"
    assert summary["wall_seconds"] >= 0
    assert summary["peak_memory_bytes"] > 1 << 20
    assert [(event["stage"], event["iteration"]) for event in story(whole) if event["kind"] == "stop"] == [
        ("coarse", 10),
        ("fine", 20),
    ]


def test_what_it_warned_of_stands_in_console_log_report_and_summary(tmp_path, capsys):
    result = toy(quiet(tmp_path / "run"), ONE)
    words = "the toy is not science"
    assert f"warning: {words}" in capsys.readouterr().err
    assert f"warning: {words}" in (tmp_path / "run/log.txt").read_text()
    assert words in result.report.read_text()
    assert result.summary["warnings"] == [words]


def test_a_finished_run_does_nothing(whole, monkeypatch, capsys):
    kept = [whole / name for name in ("volume.mrc", "summary.json", "events.jsonl", "run.toml")]
    before = {path: path.stat().st_mtime_ns for path in kept}
    monkeypatch.setattr(Halving, "step", None)
    again = toy(RunOptions(whole), ONE)
    assert again.summary == json.loads((whole / "summary.json").read_text())
    assert "finished; nothing to do" in capsys.readouterr().err
    toy(quiet(whole), ONE)
    assert capsys.readouterr().err == ""
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())


def test_other_options_are_refused_by_name(whole):
    with pytest.raises(InputError, match=r"goal was 3\.0, now 4\.0"):
        toy(quiet(whole), ONE, goal=4.0)


def test_bad_input_leaves_no_trace_and_what_was_there(whole, tmp_path):
    with pytest.raises(InputError, match="below zero"):
        toy(quiet(tmp_path / "new"), ONE, goal=-1.0)
    assert not (tmp_path / "new").exists()
    before = {path: path.read_bytes() for path in whole.iterdir() if path.is_file()}
    with pytest.raises(InputError, match="below zero"):
        toy(quiet(whole, overwrite=True), ONE, goal=-1.0)
    assert {path: path.read_bytes() for path in whole.iterdir() if path.is_file()} == before


def test_the_report_is_there_while_it_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(live, "_SECONDS", 0.0)
    seen = []
    step = Halving.step

    def looking(self, state):
        if (tmp_path / "run/report.html").exists():
            seen.append((tmp_path / "run/report.html").read_text())
        return step(self, state)

    monkeypatch.setattr(Halving, "step", looking)
    toy(quiet(tmp_path / "run"), ONE)
    assert "Not finished: so far" in seen[0]
    assert "Central slices" in seen[-1]
    assert "Not finished" not in (tmp_path / "run/report.html").read_text()


def test_a_report_that_fails_does_not_end_the_run(tmp_path, monkeypatch):
    calls = []

    def fail(state):
        calls.append(state)
        raise InputError("no room")

    said = []
    monkeypatch.setattr(live, "_SECONDS", 0.0)
    report = live.LiveReport(fail, lambda: None, said.append)
    assert report.is_due()
    report.show("state")
    assert not report.is_due()
    assert said == ["the report is not refreshed any more until the run is done: no room"]


def test_a_costly_report_is_not_written_again_soon(monkeypatch):
    monkeypatch.setattr(live, "_SECONDS", 0.0)
    report = live.LiveReport(lambda state: time.sleep(0.01), lambda: None, print)
    report.show("state")
    assert not report.is_due()
    report._cost_seconds = 0.0
    assert report.is_due()


def test_a_request_to_stop_is_met_and_the_same_call_goes_on(whole, tmp_path, monkeypatch):
    step = Halving.step

    def stopping(self, state):
        if state.iteration == 14:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, state)

    monkeypatch.setattr(Halving, "step", stopping)
    with pytest.raises(Interrupted) as caught:
        toy(quiet(tmp_path / "run"), ONE)
    assert caught.value.exit_code == 130
    monkeypatch.setattr(Halving, "step", step)
    toy(quiet(tmp_path / "run"), ONE)
    assert story(tmp_path / "run") == story(whole)
    assert (tmp_path / "run/volume.mrc").read_bytes() == (whole / "volume.mrc").read_bytes()


def test_kill_9_and_the_same_command_again(whole, tmp_path, warm):
    out = tmp_path / "run"
    generator = random.Random(1)
    words = [*warm, str(SCRIPT), str(out), "0.02", "0"]
    for _ in range(3):
        process = subprocess.Popen(words, stderr=subprocess.PIPE)
        before = len(read_events(out / "events.jsonl"))
        deadline = time.monotonic() + 60
        while len(read_events(out / "events.jsonl")) <= before + 1 and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(0.1 * generator.random())
        kill(process, out)
    toy(quiet(out), ONE)
    assert story(out) == story(whole)
    assert (out / "volume.mrc").read_bytes() == (whole / "volume.mrc").read_bytes()
    assert not (out / "checkpoint").exists()


def test_ranks_give_the_same_and_one_speaks(whole, tmp_path, run_warm_ranks):
    done = run_warm_ranks(2, SCRIPT, tmp_path / "run", 0, 30)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning: the toy is not science") == 1
    assert (tmp_path / "run/volume.mrc").read_bytes() == (whole / "volume.mrc").read_bytes()
    assert "peak_memory_of_a_rank_bytes" in json.loads((tmp_path / "run/summary.json").read_text())
    again = run_warm_ranks(2, SCRIPT, tmp_path / "run", 0, 30)
    assert again.stderr.count("finished; nothing to do") == 1


def test_a_folder_in_use_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and holds no run"):
        toy(quiet(tmp_path), ONE)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
