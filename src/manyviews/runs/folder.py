"""The folder of a run: what was asked, what happened, what came out, and whether it can be continued."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

from manyviews.errors import InputError, quoted
from manyviews.io.atomic import atomic_write
from manyviews.io.faults import explain_write_errors
from manyviews.io.shared_file import together
from manyviews.parallel.world import SingleWorld, World
from manyviews.runs.checkpoint import refuse_old_checkpoints, remove_checkpoints
from manyviews.runs.events import EventLog, read_events
from manyviews.runs.interrupt import Interrupted
from manyviews.runs.lock import LOCK_NAME, release_lock, take_lock
from manyviews.runs.record import (
    RUN_FILE,
    changes,
    make_record,
    read_record,
    refuse_other_run,
    round_trip,
)
from manyviews.runs.status import STATUS_FILE
from manyviews.runs.toml import TomlValue, dump_toml

EVENTS_FILE = "events.jsonl"
LOG_FILE = "log.txt"
LOGS_FOLDER = "logs"
SCRATCH_FOLDER = "scratch"
FIGURES_FOLDER = "figures"
# what the frame of a job leaves beside the results that it names
SUMMARY_FILE = "summary.json"
REPORT_FILE = "report.html"
_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")
_CHUNKED = ".zarr"
_RANK_LOG = re.compile(r"rank-\d{4,}\.txt")
_VISIBLE_SECONDS = 10.0  # network file systems may show new files late
_LAST_LINE_BYTES = 4096
_LONGEST_NAME = 255
_MOST_PARTS = 8
_LAST_WORDS = ("ended by ", "finished: ")


def _is_ours(entry: Path) -> bool:
    """Whether a file may lie in a folder whose run was killed before ``run.toml`` was written."""
    if entry.name == SCRATCH_FOLDER:
        # made before the run is; a network file system shows files that have lost their name as .nfs...
        return (
            not entry.is_symlink()
            and entry.is_dir()
            and all(one.name.startswith(".nfs") for one in entry.iterdir())
        )
    return entry.name == LOCK_NAME or _TEMPORARY.fullmatch(entry.name) is not None


def _is_inside(name: object) -> bool:
    """Whether a result's name stays within the run folder."""
    if not isinstance(name, str) or not name:
        return False
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or len(path.parts) > _MOST_PARTS:
        return False
    # what no disk can hold is no file of ours
    return all(len(part.encode("utf-8", "replace")) <= _LONGEST_NAME for part in path.parts)


def _recorded_results(path: Path) -> list[str] | None:
    """The results that the last ``done`` event names, None if there is no such event."""
    done = [event for event in read_events(path / EVENTS_FILE) if event.get("kind") == "done"]
    if not done:
        return None
    names = done[-1].get("results")
    return [str(name) for name in names if _is_inside(name)] if isinstance(names, list) else []


class RunFolder:
    """A run folder that this process holds; make one with `RunFolder.open`, give it back with `close`.

    It is ``resumed`` where an earlier run with the same job, options and inputs is continued, and
    ``finished`` where `finish` was called in it, by this run or an earlier one, and the results were still
    there when it was opened. Rank 0 of ``world`` holds the folder and writes; the others may `log`, and know
    what rank 0 found when it was opened.
    """

    def __init__(
        self,
        path: Path,
        *,
        resumed: bool,
        finished: bool,
        world: World,
        begin: Callable[[], list[str]] | None = None,
    ) -> None:
        self.path = path
        self.resumed = resumed
        self.finished = finished
        self.world = world
        self._begin = begin
        self._unsaid: list[str] = []
        self._events: EventLog | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        job: str,
        options: Mapping[str, TomlValue],
        inputs: Mapping[str, str],
        command: Sequence[str],
        seed: int | None = None,
        results: Sequence[str] = (),
        overwrite: bool = False,
        begin: bool = True,
        world: World | None = None,
    ) -> RunFolder:
        """Take a new folder for a run, or continue the same run in an old one; all ranks make this call.

        Parameters
        ----------
        path
            The folder; made if it is not there.
        job
            What runs, as its command is typed.
        options
            Every option as resolved; nested tables are welcome, None means not given.
        inputs
            Fingerprint of every input file by its path (`manyviews.runs.fingerprint.fingerprint`).
        seed
            Of all random numbers, if there are any.
        results
            Names of all files that the run may leave within the folder; ``overwrite`` removes them one day.
        overwrite
            Start anew: remove the files that an earlier run wrote, and only these.
        begin
            Begin at once; else nothing is written or removed before `begin` is called.

        Raises
        ------
        InputError
            On all ranks, if the folder holds another run or something else, is in use, cannot be written, or
            is not the same folder on all of them.
        """
        world = world or SingleWorld()
        record = make_record(job, options, inputs, command, seed, world.size, results)
        run: RunFolder | None = None

        def take() -> dict[str, Any]:
            nonlocal run
            if world.rank > 0:
                return {}
            run = _take_and_open(path, record, overwrite=overwrite, world=world)
            return {"resumed": run.resumed, "finished": run.finished, "token": _token(path)}

        try:
            found = together(world, take)[0]
            together(world, lambda: _wait_to_see(path, found["token"]))
            run = run or cls(
                path, resumed=found["resumed"], finished=found["finished"], world=world, begin=list
            )
            if begin:
                run.begin()
        except BaseException:
            if run is not None and world.rank == 0:
                run.close()
            raise
        return run

    def begin(self) -> None:
        """Write what the folder holds of a run that has begun, once; all ranks make this call.

        Until then a folder is only held: what turns out wrong with the input leaves no trace, and what an
        earlier run left is still there. `InputError` on all ranks, if the folder cannot be written.
        """
        if self._begin is None:
            return
        make, self._begin = self._begin, None
        notes = together(self.world, make)[self.world.rank]
        # it cuts the file, so there is one only
        self._events = EventLog(self.path / EVENTS_FILE) if self.world.rank == 0 else None
        unsaid, self._unsaid = [*notes, *self._unsaid], []
        for text in unsaid:
            self.log(text)

    @property
    def results(self) -> tuple[Path, ...]:
        """The results that `finish` recorded; empty for a run that is not finished."""
        return tuple(self.path / name for name in _recorded_results(self.path) or ())

    def event(self, kind: str, **fields: object) -> None:
        """Add one line to ``events.jsonl``: numbers, texts and lists; null for NaN and infinity.

        A resumed run says the events before its loop again; they are recognised by their content (durations,
        whose names end in ``seconds``, do not count) and not written twice. Rank 0 alone writes.
        """
        if self._events is not None:
            self._events.append(kind, fields)

    def rewind(self, stage: str, iteration: int) -> None:
        """Drop the events after the checkpoint of ``iteration`` of a stage, from which the run goes on."""
        if self._events is not None:
            self._events.rewind(stage, iteration)

    def sync(self) -> None:
        """Bring the events to the disk."""
        if self._events is not None:
            self._events.sync()

    def log(self, text: str) -> None:
        """Add a line with a time stamp to ``log.txt``, or to this rank's own file in ``logs``.

        What is said before the run begins is written when it does.
        """
        if self._begin is not None:
            self._unsaid.append(text)
            return
        stamp = datetime.now(UTC).isoformat(timespec="seconds")
        path = self.path / LOG_FILE
        if self.world.rank > 0:
            path = self.path / LOGS_FOLDER / f"rank-{self.world.rank:04d}.txt"
        with explain_write_errors(path):
            if self.world.rank > 0:
                path.parent.mkdir(exist_ok=True)
            with open(path, "ab") as handle:
                handle.write(f"{stamp} {text}\n".encode("utf-8", "replace"))

    def finish(self, results: Sequence[str]) -> None:
        """Record the run as done and remove its checkpoints; ``results`` are names within the folder.

        Rank 0 alone writes; whether the others call it makes no difference to the folder. `ValueError` if a
        name leaves the folder, `InputError` if the record cannot be written.
        """
        for name in results:
            if not _is_inside(name):
                raise ValueError(f"a result lies within the run folder, not at {name}")
        if self.world.rank == 0:
            self.event("done", results=list(results))
            self.sync()
            with explain_write_errors(self.path):
                remove_checkpoints(self.path)
            with contextlib.suppress(OSError):
                (self.path / SCRATCH_FOLDER).rmdir()  # of a run that was killed; files in use have no name
            self.log(f"finished: {', '.join(results)}")
        self.finished = True

    def close(self) -> None:
        """Give the folder back to others; one that was made for a run that never began goes."""
        if self.world.rank == 0:
            release_lock(self.path)
            if self._begin is not None:
                with contextlib.suppress(OSError):
                    (self.path / SCRATCH_FOLDER).rmdir()
                with contextlib.suppress(OSError):
                    self.path.rmdir()  # which takes empty folders only

    def __enter__(self) -> RunFolder:
        """The run itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Note an error in the log and close."""
        # a request to stop reached all ranks, and rank 0 tells of it
        if error is not None and (self.world.rank == 0 or not isinstance(error, Interrupted)):
            with contextlib.suppress(InputError):
                self.log(f"ended by {type(error).__name__}: {error}")
        self.close()


def _take_and_open(
    path: Path, record: Mapping[str, TomlValue], *, overwrite: bool, world: World
) -> RunFolder:
    """What rank 0 does to open the folder."""
    if path.exists() and not path.is_dir():
        raise InputError("is a file, not a folder", path=path, fix="choose another --out")
    with explain_write_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        takeover = take_lock(path)
    try:
        return _open_locked(path, record, overwrite=overwrite, world=world, takeover=takeover)
    except BaseException:
        release_lock(path)
        raise


def _open_locked(
    path: Path,
    record: Mapping[str, TomlValue],
    *,
    overwrite: bool,
    world: World,
    takeover: str | None,
) -> RunFolder:
    with explain_write_errors(path):
        _refuse_foreign(path)
    old = None if overwrite else read_record(path)
    new = round_trip(record)
    if old is not None:
        refuse_other_run(path, old, new)
        refuse_old_checkpoints(path)
    finished = old is not None and is_finished(path)
    silent = old is not None and takeover is None and _ended_without_a_word(path)

    def begin() -> list[str]:
        with explain_write_errors(path):
            if overwrite:
                _remove_run(path)
            _remove_temporary(path)
            if finished:  # it may have been killed after it was done and before it had tidied up
                remove_checkpoints(path)
        if old is None:
            atomic_write(path / RUN_FILE, dump_toml(record).encode())
        return [
            f"{'started' if old is None else 'continued'}: {shlex.join(new['command'])}",
            *([takeover] if takeover else []),
            *(["the run before ended without a word; it may have been killed"] if silent else []),
            *(changes(old, new) if old else ()),
        ]

    return RunFolder(path, resumed=old is not None, finished=finished, world=world, begin=begin)


def is_finished(path: Path) -> bool:
    """Whether a run was recorded as done and its results are still there."""
    names = _recorded_results(path)
    return names is not None and all((path / name).exists() for name in names)


def _ended_without_a_word(path: Path) -> bool:
    """Whether a run began and neither its events nor its log tell how it ended."""
    events = read_events(path / EVENTS_FILE)
    if not events or events[-1].get("kind") in ("stop", "done"):
        return False
    return not _last_line(path / LOG_FILE).partition(" ")[2].startswith(_LAST_WORDS)


def _last_line(path: Path) -> str:
    try:
        with open(path, "rb") as handle:
            handle.seek(max(0, os.fstat(handle.fileno()).st_size - _LAST_LINE_BYTES))
            lines = handle.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""


def _token(path: Path) -> str:
    """Content of the lock: no two folders have the same at a time."""
    try:
        return (path / LOCK_NAME).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _wait_to_see(path: Path, token: str) -> None:
    """Make sure that this rank sees the folder that rank 0 holds."""
    deadline = time.monotonic() + _VISIBLE_SECONDS
    while _token(path) != token:
        if time.monotonic() > deadline:
            raise InputError(
                f"is not the folder that the first rank has opened (seen from {socket.gethostname()})",
                path=path,
                fix="choose an --out on a disk that all machines share",
            )
        time.sleep(_VISIBLE_SECONDS / 100)


def _refuse_foreign(path: Path) -> None:
    entries = sorted(path.iterdir())
    foreign = [entry.name for entry in entries if not _is_ours(entry)]
    if foreign and RUN_FILE not in (entry.name for entry in entries):
        raise InputError(
            f"is not empty and holds no run ({RUN_FILE} is missing, {quoted(foreign[0])} is there)",
            path=path,
            fix="choose another --out",
        )


def _remove_temporary(path: Path) -> None:
    """Files that a killed run left half written; the lock says that nobody writes them now."""
    figures = path / FIGURES_FOLDER
    for folder in (path, figures) if figures.is_dir() and not figures.is_symlink() else (path,):
        for entry in folder.iterdir():
            if _TEMPORARY.fullmatch(entry.name):
                _remove_result(entry)


def _remove_run(path: Path) -> None:
    """Remove what a run wrote; ``run.toml`` last, so that a kill in between leaves a run's folder."""
    remove_checkpoints(path)
    names = [*_named_results(path), *(_recorded_results(path) or ()), SUMMARY_FILE, REPORT_FILE]
    for name in [*names, STATUS_FILE, EVENTS_FILE, LOG_FILE]:
        file = path / name
        # a folder on the way that is a link leads out of the run
        if file.parent.resolve().is_relative_to(path.resolve()):
            _remove_result(file)
    logs = path / LOGS_FOLDER
    if logs.is_dir() and not logs.is_symlink():
        for file in logs.iterdir():
            if _RANK_LOG.fullmatch(file.name) and (file.is_file() or file.is_symlink()):
                file.unlink()
    for folder in (FIGURES_FOLDER, LOGS_FOLDER, SCRATCH_FOLDER):
        with contextlib.suppress(OSError):
            (path / folder).rmdir()
    (path / RUN_FILE).unlink(missing_ok=True)


def _remove_result(place: Path) -> None:
    """A file, a link, or a volume that is a folder of chunks; other folders stay."""
    if place.is_file() or place.is_symlink():
        place.unlink()
    elif place.is_dir() and _CHUNKED in place.suffixes:
        shutil.rmtree(place)


def _named_results(path: Path) -> list[str]:
    """The files that a run said it might leave; none where its record cannot be read."""
    try:
        names = (read_record(path) or {}).get("results", [])
    except InputError:
        return []
    return [name for name in names if _is_inside(name)] if isinstance(names, list) else []
