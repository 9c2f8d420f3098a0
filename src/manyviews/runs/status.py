"""How a run is, in a small file of its folder that is written every few seconds while it lives."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from manyviews.io.nested import parse_json

STATUS_FILE = "status.json"
RUNNING, FINISHED, STOPPED, FAILED = "running", "finished", "stopped", "failed"
_STATES = (RUNNING, FINISHED, STOPPED, FAILED)
_MOST_BYTES = 16384
_LONGEST = 2000
_LARGEST = 1e13
OVERDUE = 0.1
"""Of the time that something took longer than it was told: so much more is told then."""


@dataclass(frozen=True)
class Status:
    """How a run is.

    Attributes
    ----------
    state
        ``running``, ``finished``, ``stopped`` (it can go on) or ``failed``.
    updated
        When it was so, seconds since 1970: the last sign of life of a run that does not end itself.
    task
        What it is at, or why it ended.
    done, total
        Steps of the task; None where they are not counted.
    note
        How the task goes, in a few words.
    task_seconds_left, seconds_left
        Of the task, and of all that is known to follow; None if not known.
    """

    state: str
    updated: float
    task: str = ""
    done: int | None = None
    total: int | None = None
    note: str = ""
    task_seconds_left: float | None = None
    seconds_left: float | None = None


def counted_down(seconds_left: float | None, age_seconds: float) -> float | None:
    """What is left so long after it was told.

    It does not come to nothing while the task goes on: what takes longer than it was told takes some more.
    """
    if seconds_left is None:
        return None
    return max(seconds_left - age_seconds, min(OVERDUE * age_seconds, seconds_left))


def write_status(folder: Path, status: Status) -> None:
    """Replace the status of a run; `OSError` if that is not possible. Nothing waits for the disk."""
    temporary = folder / f".{STATUS_FILE}.{os.getpid()}.tmp"
    try:
        temporary.write_text(json.dumps(asdict(status)), encoding="utf-8")
        os.replace(temporary, folder / STATUS_FILE)
    finally:
        temporary.unlink(missing_ok=True)


def read_status(folder: Path) -> Status | None:
    """The status of a run; None where there is none or it cannot be read."""
    try:
        with open(folder / STATUS_FILE, "rb") as handle:
            return parse_status(handle.read(_MOST_BYTES))
    except OSError:
        return None


def parse_status(data: bytes) -> Status | None:
    """The status that a file holds; None where it cannot be read."""
    try:
        values = parse_json(data.decode("utf-8", "replace"))
    except ValueError:
        return None
    if not isinstance(values, dict) or values.get("state") not in _STATES:
        return None
    updated = _number(values, "updated")
    if updated is None:
        return None
    done, total = _number(values, "done"), _number(values, "total")
    return Status(
        state=str(values["state"]),
        updated=updated,
        task=str(values.get("task", ""))[:_LONGEST],
        done=None if done is None else int(done),
        total=None if total is None else int(total),
        note=str(values.get("note", ""))[:_LONGEST],
        task_seconds_left=_number(values, "task_seconds_left"),
        seconds_left=_number(values, "seconds_left"),
    )


def _number(values: Mapping[str, Any], name: str) -> float | None:
    """A number from 0 on that a run comes to."""
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= _LARGEST else None  # NaN is not
