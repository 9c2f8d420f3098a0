"""The runs below a folder, each as the facts of its card."""

from __future__ import annotations

import math
import os
import shlex
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from manyviews.errors import shortened
from manyviews.io.nested import parse_json, parse_toml
from manyviews.report.build import FIGURES_FOLDER, REPORT_NAME
from manyviews.report.data import RunData, as_number, convergence
from manyviews.report.words import summary_entry
from manyviews.runs.events import parse_events
from manyviews.runs.folder import EVENTS_FILE, LOG_FILE, SUMMARY_FILE
from manyviews.runs.lock import LOCK_NAME, LockOwner, is_alive, parse_owner
from manyviews.runs.record import RUN_FILE, flatten
from manyviews.runs.status import (
    FINISHED,
    RUNNING,
    STATUS_FILE,
    STOPPED,
    Status,
    counted_down,
    parse_status,
)
from manyviews.serve.inside import is_plain, read_inside, size_inside

LOST = "lost"
"""State of a run that says it is running and is not: no sign of life for a minute, or its process is gone."""

MOST_RUNS = 500
MOST_FOLDERS = 5000
MOST_LEVELS = 8
SILENT_SECONDS = 60.0
_MOST_BYTES = 1 << 20
_MOST_EVENTS_BYTES = 4 << 20
_MOST_POINTS = 120
_SMALL_BYTES = 16384
_KEY_FIGURES = ("resolution", "fsc0143", "fsc143", "ncc", "correlation", "residual")  # the first there is
_PICTURES = ("surface", "slices", "resolution", "fsc", "ncc", "convergence")  # the first there is


@dataclass(frozen=True)
class Card:
    """What is told of a run.

    Attributes
    ----------
    path
        Its folder.
    names
        The way to it from the folder that was searched; empty where it is that folder.
    job, method
        What ran.
    state
        ``running``, ``finished``, ``stopped``, ``failed``, or `LOST`.
    task, done, total, seconds_left
        What it is at or why it ended; steps of it and time left, None if not known.
    updated
        Last sign of life, seconds since 1970; 0 if there is none.
    figure
        Name and value of the figure that tells most of it; None before there is one.
    curve
        How its measure fell, relative to its start; empty before there are two iterations.
    picture
        Name in its folder of pictures, empty if there is none, and ``picture_time`` when it was written.
    has_report, has_log
        Whether it has a page of its own, and a log.
    command
        What does it again, for a shell.
    """

    path: Path
    names: tuple[str, ...]
    job: str
    method: str
    state: str
    task: str
    done: int | None
    total: int | None
    seconds_left: float | None
    updated: float
    figure: tuple[str, str] | None
    curve: tuple[float, ...]
    picture: str
    picture_time: int
    has_report: bool
    has_log: bool
    command: str

    @property
    def title(self) -> str:
        """The way to it in one line, what cannot be printed written as escapes."""
        return shortened("/".join(self.names) or self.path.name, 200)


@dataclass(frozen=True)
class Catalogue:
    """The cards, newest sign of life first; ``cut`` where there was more than is looked at."""

    cards: tuple[Card, ...]
    cut: bool


def find_runs(folder: Path, now: float | None = None) -> Catalogue:
    """The runs in a folder and below it; links are not followed.

    At most `MOST_RUNS` runs in `MOST_FOLDERS` folders of `MOST_LEVELS` levels; what cannot be read is left
    out.
    """
    when = time.time() if now is None else now
    cards: list[Card] = []
    waiting: list[tuple[str, ...]] = [()]
    looked, cut = 0, False
    while waiting:
        names = waiting.pop(0)
        if looked == MOST_FOLDERS or len(cards) == MOST_RUNS:
            cut = True
            break
        looked += 1
        is_run, inner = _entries(folder.joinpath(*names))
        if is_run:
            cards.append(read_card(folder, names, when))
            inner = [name for name in inner if name not in ("checkpoint", FIGURES_FOLDER)]
        if len(names) < MOST_LEVELS:
            waiting += [(*names, name) for name in inner]
        else:
            cut |= bool(inner)
    cards.sort(key=lambda card: (-card.updated, card.names))
    return Catalogue(tuple(cards), cut)


def _entries(folder: Path) -> tuple[bool, list[str]]:
    """Whether it is a run's, and the folders in it."""
    is_run, inner = False, []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name == RUN_FILE and entry.is_file(follow_symlinks=False):
                    is_run = True
                elif is_plain(entry.name) and entry.is_dir(follow_symlinks=False):
                    inner.append(entry.name)
                if len(inner) > MOST_FOLDERS:
                    break
    except OSError:
        pass
    return is_run, sorted(inner)


def read_card(root: Path, names: tuple[str, ...], now: float) -> Card:
    """The card of one run folder, ``names`` below ``root``, from what of it can be read."""
    run = _read_run(root, names)
    owner = read_owner(root, names)
    state = _state(run, owner, now)
    status = run.status
    told = status is not None and state != FINISHED
    lives = status is not None and state == RUNNING
    picture, written = _picture(root.joinpath(*names, FIGURES_FOLDER))
    command = run.record.get("command")
    return Card(
        path=root.joinpath(*names),
        names=names,
        job=shortened(run.job),
        method=shortened(run.method),
        state=state,
        task=shortened(status.task, 300) if told and status else "",
        done=status.done if lives and status else None,
        total=status.total if lives and status else None,
        seconds_left=counted_down(status.seconds_left, now - status.updated) if lives and status else None,
        updated=status.updated if status else 0.0,
        figure=_key_figure(run.summary),
        curve=_curve(run),
        picture=picture,
        picture_time=written,
        has_report=size_inside(root, (*names, REPORT_NAME)) is not None,
        has_log=size_inside(root, (*names, LOG_FILE)) is not None,
        command=shlex.join(map(str, command)) if isinstance(command, list) else "",
    )


def read_owner(root: Path, names: tuple[str, ...]) -> LockOwner | None:
    """Who holds a run folder; None where nobody does."""
    return parse_owner(read_inside(root, (*names, LOCK_NAME), _SMALL_BYTES))


def _read_run(root: Path, names: tuple[str, ...]) -> RunData:
    def table(name: str, parse: Any) -> Mapping[str, Any]:
        try:
            found = parse(read_inside(root, (*names, name), _MOST_BYTES).decode("utf-8", "replace"))
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    return RunData(
        path=root.joinpath(*names),
        record=table(RUN_FILE, parse_toml),
        events=parse_events(read_inside(root, (*names, EVENTS_FILE), _MOST_EVENTS_BYTES, end=True)),
        summary=table(SUMMARY_FILE, parse_json),
        warnings=(),
        status=parse_status(read_inside(root, (*names, STATUS_FILE), _SMALL_BYTES)),
    )


def _state(run: RunData, owner: LockOwner | None, now: float) -> str:
    """That it is done counts more than what it said before; that it lives must show."""
    status: Status | None = run.status
    if run.done:
        return FINISHED
    if status is None:
        return RUNNING if owner is not None and is_alive(owner) else STOPPED
    if status.state != RUNNING:
        return status.state
    gone = owner is not None and owner.host == socket.gethostname() and not is_alive(owner)
    return LOST if gone or now - status.updated > SILENT_SECONDS else RUNNING


def _key_figure(summary: Mapping[str, Any]) -> tuple[str, str] | None:
    figures = {
        name: value
        for name, value in flatten(summary).items()
        if not isinstance(value, bool) and math.isfinite(as_number(value))
    }
    for word in _KEY_FIGURES:
        for name, value in figures.items():
            if word in name:
                shown, text = summary_entry(name, value)
                return shortened(shown), shortened(text)
    return None


def _curve(run: RunData) -> tuple[float, ...]:
    with np.errstate(over="ignore"):
        curve = convergence(run)
    values = [] if curve is None else [float(value) for value in curve.values if np.isfinite(value)]
    if not values:
        return ()
    step = math.ceil(len(values) / _MOST_POINTS)
    return tuple(values[(len(values) - 1) % step :: step])  # the last is among them


def _picture(folder: Path) -> tuple[str, int]:
    """Name of the picture that shows most, and when it was written, in whole milliseconds; empty without."""

    def rank(name: str) -> tuple[int, str]:
        found = [index for index, word in enumerate(_PICTURES) if name.startswith(word)]
        return (found[0] if found else len(_PICTURES), name)

    pictures = dict(_pictures(folder))
    name = min(pictures, key=rank, default="")
    return name, pictures.get(name, 0)


def _pictures(folder: Path) -> Iterator[tuple[str, int]]:
    try:
        if folder.is_symlink():
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                named = is_plain(entry.name) and entry.name.endswith(".png")
                if named and entry.is_file(follow_symlinks=False):
                    yield entry.name, entry.stat(follow_symlinks=False).st_mtime_ns // 1_000_000
    except OSError:
        return
