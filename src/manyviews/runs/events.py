"""``events.jsonl``: one JSON object a line, the story of a run that a viewer can follow.

A run that is killed and resumed tells the same story as one that was not, but for time stamps: what a resumed
run says again is recognised and not written twice, and what came after the checkpoint is dropped.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from manyviews.errors import InputError
from manyviews.io.faults import explain_write_errors
from manyviews.io.nested import parse_json

EventValue: TypeAlias = str | int | float | bool | list["EventValue"] | dict[str, "EventValue"] | None
Event: TypeAlias = dict[str, EventValue]


def _parse(line: bytes) -> Event | None:
    try:
        event = parse_json(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def read_events(path: Path) -> list[Event]:
    """All whole events of a file; a torn line (crash, or just being written) is passed over.

    `InputError` if the file is there and cannot be read.
    """
    if not path.exists():
        return []
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", path=path) from error
    return parse_events(data)


def parse_events(data: bytes) -> list[Event]:
    """All whole events of some lines."""
    events = map(_parse, data.splitlines())
    return [event for event in events if event is not None]


def _plain(value: object) -> EventValue:
    """A value as JSON holds it: NumPy and torch scalars as numbers, NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str | bool | int | float) or value is None:
        return value
    raise TypeError(f"an event cannot hold a {type(value).__name__}")


def _is_timing(name: str) -> bool:
    return name == "time" or name.endswith("seconds")


def _content(event: Event) -> str:
    """An event without its time stamp and without durations (names that end in ``seconds``)."""
    return json.dumps({key: item for key, item in event.items() if not _is_timing(key)}, sort_keys=True)


def _line(event: Event) -> str:
    return json.dumps(event, allow_nan=False) + "\n"


def _whole_lines(data: bytes, stage: str, iteration: float) -> tuple[list[Event], int]:
    """The events before a torn line or one of a stage's later iteration, and the number of their bytes."""
    events: list[Event] = []
    size = 0
    for line in data.splitlines(keepends=True):
        event = _parse(line)
        if event is None or not line.endswith(b"\n"):
            break
        number = event.get("iteration")
        if event.get("stage") == stage and isinstance(number, int | float) and number > iteration:
            break
        events.append(event)
        size += len(line)
    return events, size


class EventLog:
    """Appends events to a file, each flushed as it comes; a torn last line in it is removed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._said: Counter[str] = Counter()
        self._keep("", math.inf)

    def _keep(self, stage: str, iteration: float) -> None:
        """Cut the file before a torn line and before the first event of a stage's later iteration."""
        with explain_write_errors(self.path), open(self.path, "ab+") as handle:
            handle.seek(0)
            data = handle.read()
            events, size = _whole_lines(data, stage, iteration)
            if size < len(data):
                handle.truncate(size)
        self._told = Counter(map(_content, events)) - self._said

    def append(self, kind: str, fields: Mapping[str, object]) -> None:
        """Add one event, unless it stands there from before a crash; `InputError` if it cannot be written."""
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        event: Event = {"time": stamp, "kind": kind}
        event.update({key: _plain(item) for key, item in fields.items()})
        content = _content(event)
        self._said[content] += 1
        if self._told[content] > 0:
            self._told[content] -= 1
            return
        with explain_write_errors(self.path), open(self.path, "ab") as handle:
            handle.write(_line(event).encode())

    def rewind(self, stage: str, iteration: int) -> None:
        """Drop what came after ``iteration`` of a stage; what remains is not written a second time."""
        self._keep(stage, iteration)

    def sync(self) -> None:
        """Bring the file to the disk."""
        with explain_write_errors(self.path), open(self.path, "rb+") as handle:
            os.fsync(handle.fileno())
