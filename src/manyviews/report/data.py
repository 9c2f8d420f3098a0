"""What every run folder holds for its report, whatever ran; a run that is not done yet holds less."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.runs.events import Event, read_events
from manyviews.runs.folder import EVENTS_FILE, LOG_FILE
from manyviews.runs.record import RUN_FILE, flatten

Float64 = NDArray[np.float64]

_MEASURES = ("objective", "residual", "relative_residual", "relative_change")
_WARNING = " warning: "


@dataclass(frozen=True)
class RunData:
    """What ``run.toml``, ``events.jsonl`` and ``summary.json`` hold, empty where they are not there yet.

    ``warnings`` are what ``log.txt`` warns of, once each, as sentences.
    """

    path: Path
    record: Mapping[str, Any]
    events: Sequence[Event]
    summary: Mapping[str, Any]
    warnings: tuple[str, ...]

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
    """Read a run folder; `InputError` if it is none, or its record or summary is damaged."""
    if not (path / RUN_FILE).is_file():
        raise InputError(
            f"is not a run folder ({RUN_FILE} is missing)", path=path, fix="give the folder of a run"
        )
    return RunData(
        path=path,
        record=_read(path / RUN_FILE, tomllib.loads),
        events=read_events(path / EVENTS_FILE),
        summary=_read_summary(path / "summary.json"),
        warnings=_warnings(path / LOG_FILE),
    )


def _read(path: Path, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"cannot be read ({error})", path=path) from error


def _read_summary(path: Path) -> Mapping[str, Any]:
    summary = _read(path, json.loads) if path.exists() else {}
    if not isinstance(summary, dict):
        raise InputError("is not a JSON object", path=path)
    return summary


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
    """A number of an event, NaN for anything else."""
    return float(value) if isinstance(value, int | float) else math.nan


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
