"""What every run folder holds for its report, whatever ran; a run that is not done yet holds less."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError, shortened
from manyviews.io.nested import parse_json, parse_toml
from manyviews.runs.events import Event, read_events
from manyviews.runs.folder import EVENTS_FILE, LOG_FILE, SUMMARY_FILE
from manyviews.runs.record import RUN_FILE, flatten
from manyviews.runs.status import FINISHED, Status, read_status

Float64 = NDArray[np.float64]

_MEASURES = ("objective", "residual", "relative_residual", "relative_change")
_WARNING = " warning: "
_LARGEST_NUMBER = 1e30


@dataclass(frozen=True)
class RunData:
    """What ``run.toml``, ``events.jsonl`` and ``summary.json`` hold, empty where they are not there yet.

    ``warnings`` are what ``log.txt`` warns of, once each, as sentences; ``faults`` tell which of these files
    could not be read, and why. ``status`` is how the run said that it was, None where it did not.
    """

    path: Path
    record: Mapping[str, Any]
    events: Sequence[Event]
    summary: Mapping[str, Any]
    warnings: tuple[str, ...]
    faults: tuple[str, ...] = ()
    status: Status | None = None

    @property
    def job(self) -> str:
        """What ran, e.g. the words of its command."""
        return str(self.record.get("job", "run"))

    @property
    def options(self) -> Mapping[str, Any]:
        """The options by their names, ``section.name`` where they are in sections."""
        found = self.record.get("options")
        return flatten(found) if isinstance(found, Mapping) else {}

    @property
    def method(self) -> str:
        """The method among the options, empty if there is none."""
        found = [value for name, value in self.options.items() if name.rpartition(".")[2] == "method"]
        return str(found[0]) if found else ""

    @property
    def done(self) -> bool:
        """Whether the run says that it is complete."""
        return bool(self.told("done"))

    def told(self, *kinds: str) -> list[Event]:
        """The events of some kinds, in their order."""
        return [event for event in self.events if event.get("kind") in kinds]


@dataclass(frozen=True)
class Convergence:
    """How a measure, mostly ``objective``, fell: ``(iteration,)``, an objective relative to its start.

    ``passes`` are over the data, or iterations where ``in_passes`` is false.
    """

    name: str
    passes: Float64
    values: Float64
    in_passes: bool


def read_run(path: Path) -> RunData:
    """Read a run folder, as much of it as can be read; `InputError` if it is none."""
    if not (path / RUN_FILE).is_file():
        raise InputError(
            f"is not a run folder ({RUN_FILE} is missing)", path=path, fix="give the folder of a run"
        )
    faults: list[str] = []
    record = _read(path / RUN_FILE, parse_toml, faults)
    events: list[Event] = []
    try:
        events = read_events(path / EVENTS_FILE)
    except InputError as error:
        faults.append(fault(error))
    return RunData(
        path=path,
        record=record,
        events=events,
        summary=_read(path / SUMMARY_FILE, parse_json, faults),
        warnings=_warnings(path / LOG_FILE),
        faults=tuple(faults),
        status=_status(path, events),
    )


def _status(path: Path, events: Sequence[Event]) -> Status | None:
    """What the run said last; that it is done counts more, for a killed run may not have said it."""
    said = read_status(path)
    if said is not None and any(event.get("kind") == "done" for event in events):
        return replace(said, state=FINISHED)
    return said


def fault(error: InputError) -> str:
    """What could not be read, as a sentence for the page; the file is told by its name alone."""
    name = "" if error.path is None else f"{Path(error.path).name} "
    place = f", {error.where}" if error.where else ""
    return f"{name}could not be read{place}: {shortened(error.what, 200)}."


def _read(path: Path, parse: Callable[[str], Any], faults: list[str]) -> Mapping[str, Any]:
    """The table in a file, empty if there is none; what is wrong with it goes to ``faults``."""
    if not path.exists():
        return {}
    try:
        found = parse(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it is no table of names and values")
    except (ValueError, OSError) as error:
        faults.append(f"{path.name} could not be read: {shortened(error)}.")
        return {}
    return found


def _warnings(path: Path) -> tuple[str, ...]:
    """Sentences after ``warning:`` in a log, in its order."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    said = (line.partition(_WARNING)[2].strip() for line in lines if _WARNING in line)
    sentences = dict.fromkeys(text[:1].upper() + text[1:] for text in said if text)
    return tuple(text if text.endswith((".", "!", "?")) else f"{text}." for text in sentences)


def as_number(value: object) -> float:
    """A number of an event, NaN for anything else and for what no run comes to, which cannot be drawn."""
    ordinary = isinstance(value, int | float) and abs(value) <= _LARGEST_NUMBER
    return float(value) if ordinary else math.nan  # type: ignore[arg-type]


def convergence(run: RunData) -> Convergence | None:
    """The first known measure of the iterations, relative to its start; None before there are two."""
    for name in _MEASURES:
        rows = [row for row in run.told("start", "iteration") if math.isfinite(as_number(row.get(name)))]
        if len(rows) < 2:
            continue
        values = np.array([as_number(row[name]) for row in rows])
        in_passes = all("data_passes" in row for row in rows)
        key = "data_passes" if in_passes else "iteration"
        passes = np.array([as_number(row.get(key, 0)) for row in rows])
        start = values[values > 0][0] if name == "objective" and (values > 0).any() else 1.0
        return Convergence(name, passes, values / start, in_passes)
    return None
