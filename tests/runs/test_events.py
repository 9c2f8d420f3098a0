import json

import numpy as np
import pytest
import torch

from manyviews.runs.events import EventLog, read_events


def told(path):
    return [{k: v for k, v in event.items() if k != "time"} for event in read_events(path)]


def test_values_become_plain_json(tmp_path):
    path = tmp_path / "events.jsonl"
    EventLog(path).append(
        "a",
        {"x": np.float32(0.5), "y": torch.tensor(2.0), "z": float("nan"), "l": (1, None), "d": {"k": True}},
    )
    expected = {"kind": "a", "x": 0.5, "y": 2.0, "z": None, "l": [1, None], "d": {"k": True}}
    assert told(path) == [expected]
    assert "time" in json.loads(path.read_text())


def test_torn_line_is_trimmed(tmp_path):
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    log.append("a", {"n": 1})
    with open(path, "a") as handle:
        handle.write('{"kind": "b", "n')
    assert len(read_events(path)) == 1
    EventLog(path).append("b", {"n": 2})
    assert [event["n"] for event in map(json.loads, path.read_text().splitlines())] == [1, 2]


def story(log, start, stop):
    """What a run says; ``start`` is the checkpoint it goes on from, ``stop`` where it is killed."""
    log.append("geometry", {"views": 3, "load_seconds": np.random.default_rng().random()})
    log.append("note", {"text": "same"})
    log.rewind("solve", start)
    for iteration in range(start + 1, 6):
        if iteration > stop:
            return
        log.append("iteration", {"stage": "solve", "iteration": iteration, "objective": 1 / iteration})
    log.append("stop", {"stage": "solve", "iteration": 5, "reason": "iterations"})
    log.append("note", {"text": "same"})
    log.append("done", {"results": ["volume.mrc"]})


@pytest.mark.parametrize(
    "kills", [[(0, 0)], [(0, 3)], [(0, 3), (2, 4)], [(0, 5), (5, 9)], [(0, 9)], [(0, 2), (0, 1)]]
)
def test_killed_and_resumed_tells_the_same_story(tmp_path, kills):
    story(EventLog(tmp_path / "whole.jsonl"), 0, 9)
    path = tmp_path / "killed.jsonl"
    checkpoint = 0
    for start, stop in kills:
        story(EventLog(path), start, stop)
        checkpoint = min(stop, 5) if start or stop == 5 else max(0, min(stop, 5) - 1)
    story(EventLog(path), checkpoint, 9)

    def plain(file):
        return [{k: v for k, v in event.items() if not k.endswith("seconds")} for event in told(file)]

    assert plain(path) == plain(tmp_path / "whole.jsonl")


def test_a_rewind_spares_the_stages_before_and_drops_those_after(tmp_path):
    log = EventLog(tmp_path / "events.jsonl")
    for stage in ("first", "second", "third"):
        for iteration in (1, 2, 3):
            log.append("iteration", {"stage": stage, "iteration": iteration})
    EventLog(tmp_path / "events.jsonl").rewind("second", 2)
    kept = [(event["stage"], event["iteration"]) for event in told(tmp_path / "events.jsonl")]
    assert kept == [("first", 1), ("first", 2), ("first", 3), ("second", 1), ("second", 2)]
