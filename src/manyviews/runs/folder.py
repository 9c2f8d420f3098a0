"""The folder of a run: what was asked, what happened, what came out, and whether it can be continued."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

from manyviews import __version__
from manyviews.errors import InputError
from manyviews.io.atomic import atomic_write
from manyviews.parallel.world import SingleWorld, World
from manyviews.runs.checkpoint import remove_checkpoints
from manyviews.runs.events import EventLog, read_events
from manyviews.runs.faults import explain_write_errors
from manyviews.runs.lock import LOCK_NAME, release_lock, take_lock
from manyviews.runs.toml import TomlValue, dump_toml

RUN_FILE = "run.toml"
EVENTS_FILE = "events.jsonl"
LOG_FILE = "log.txt"
_LIBRARIES = ("numpy", "torch", "numba", "scipy")
# what the jobs and the report write, beside the results that the "done" event names
_RESULTS = (
    "volume.mrc",
    "ncc.csv",
    "fsc.csv",
    "geometry.csv",
    "summary.json",
    "report.html",
    "figures/slices.png",
    "figures/ncc.png",
    "figures/convergence.png",
    "figures/fsc.png",
)
_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")


def _versions() -> dict[str, TomlValue]:
    found: dict[str, TomlValue] = {"manyviews": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _round_trip(table: Mapping[str, TomlValue]) -> dict[str, Any]:
    """A table as it reads back from a file, so that new and old ones can be compared."""
    return tomllib.loads(dump_toml(table))


def _flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """``name was OLD, now NEW`` for every entry that differs."""
    before, after = _flatten(old), _flatten(new)
    names = sorted(
        name for name in before.keys() | after.keys() if repr(before.get(name)) != repr(after.get(name))
    )

    def shown(table: Mapping[str, Any], name: str) -> str:
        return repr(table[name]) if name in table else "not given"

    return [f"{name} was {shown(before, name)}, now {shown(after, name)}" for name in names]


def _is_ours(name: str) -> bool:
    """Whether a file may lie in a folder whose run was killed before ``run.toml`` was written."""
    return name == LOCK_NAME or _TEMPORARY.fullmatch(name) is not None


def _is_inside(name: object) -> bool:
    """Whether a result's name stays within the run folder."""
    if not isinstance(name, str) or not name:
        return False
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _recorded_results(path: Path) -> list[str] | None:
    """The results that the last ``done`` event names, None if there is no such event."""
    done = [event for event in read_events(path / EVENTS_FILE) if event.get("kind") == "done"]
    if not done:
        return None
    names = done[-1].get("results")
    return [str(name) for name in names if _is_inside(name)] if isinstance(names, list) else []


class RunFolder:
    """A run folder that this process holds; make one with `RunFolder.open`, give it back with `close`.

    Attributes
    ----------
    path
        The folder.
    resumed
        Whether an earlier run with the same job, options and inputs is continued.
    world
        The processes of the run; only rank 0 writes.
    """

    def __init__(self, path: Path, *, resumed: bool, world: World) -> None:
        self.path = path
        self.resumed = resumed
        self.world = world
        self._events = EventLog(path / EVENTS_FILE)

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
        overwrite: bool = False,
        world: World | None = None,
    ) -> RunFolder:
        """Begin a run in a new folder, or continue the same run in an old one.

        Parameters
        ----------
        path
            The folder; made if it is not there.
        job
            What runs, e.g. ``"tilt reconstruct"``.
        options
            Every option as resolved; nested tables are welcome, None means not given.
        inputs
            Fingerprint of every input file by its path (`manyviews.runs.fingerprint.fingerprint`).
        command
            The command line.
        seed
            Seed of all random numbers, if there are any.
        overwrite
            Start anew: remove the files that an earlier run wrote, and only these.
        world
            The processes of the run; left out: this one alone.

        Raises
        ------
        InputError
            If the folder holds another run or something else, is in use, or cannot be written.
        """
        world = world or SingleWorld()
        record: dict[str, TomlValue] = {
            "job": job,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": list(command),
            "options": options,
            "inputs": inputs,
            "seeds": {"main": seed},
            "versions": _versions(),
            "host": {"cpus": os.cpu_count(), "ranks": world.size, "system": platform.platform()},
        }
        if path.exists() and not path.is_dir():
            raise InputError("is a file, not a folder", path=path, fix="choose another --out")
        with explain_write_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            takeover = take_lock(path)
        try:
            return cls._open_locked(path, record, overwrite=overwrite, world=world, takeover=takeover)
        except BaseException:
            release_lock(path)
            raise

    @classmethod
    def _open_locked(
        cls,
        path: Path,
        record: Mapping[str, TomlValue],
        *,
        overwrite: bool,
        world: World,
        takeover: str | None,
    ) -> RunFolder:
        with explain_write_errors(path):
            _refuse_foreign(path)
            if overwrite:
                _remove_run(path)
            _remove_temporary(path)
        old = _read_record(path)
        new = _round_trip(record)
        if old is None:
            atomic_write(path / RUN_FILE, dump_toml(record).encode())
        else:
            _refuse_other_run(path, old, new)
        run = cls(path, resumed=old is not None, world=world)
        run.log(f"{'continued' if run.resumed else 'started'}: {shlex.join(new['command'])}")
        if run.finished:
            # it may have been killed after it was done and before it had tidied up
            with explain_write_errors(path):
                remove_checkpoints(path)
        if takeover:
            run.log(takeover)
        for difference in _differences(old["versions"], new["versions"]) if old else ():
            run.log(f"warning: version of {difference}: the result may differ in the last digits")
        return run

    @property
    def finished(self) -> bool:
        """Whether `finish` was called in this folder and its results are still there."""
        names = _recorded_results(self.path)
        return names is not None and all((self.path / name).exists() for name in names)

    @property
    def results(self) -> tuple[Path, ...]:
        """The results that `finish` recorded; empty for a run that is not finished."""
        return tuple(self.path / name for name in _recorded_results(self.path) or ())

    def event(self, kind: str, **fields: object) -> None:
        """Add one line to ``events.jsonl``: numbers, texts and lists; null for NaN and infinity.

        A resumed run says the events before its loop again; they are recognised by their content (durations,
        whose names end in ``seconds``, do not count) and not written twice.
        """
        if self.world.rank == 0:
            self._events.append(kind, fields)

    def rewind(self, iteration: int) -> None:
        """Drop the events after the checkpoint of ``iteration``, from which the run goes on."""
        if self.world.rank == 0:
            self._events.rewind(iteration)

    def sync(self) -> None:
        """Bring the events to the disk."""
        if self.world.rank == 0:
            self._events.sync()

    def log(self, text: str) -> None:
        """Add a line with a time stamp to ``log.txt``."""
        if self.world.rank != 0:
            return
        stamp = datetime.now(UTC).isoformat(timespec="seconds")
        path = self.path / LOG_FILE
        with explain_write_errors(path), open(path, "ab") as handle:
            handle.write(f"{stamp} {text}\n".encode("utf-8", "replace"))

    def finish(self, results: Sequence[str]) -> None:
        """Record the run as done and remove its checkpoints; ``results`` are names within the folder.

        Raises
        ------
        ValueError
            If a name leaves the folder.
        InputError
            If the record cannot be written.
        """
        for name in results:
            if not _is_inside(name):
                raise ValueError(f"a result lies within the run folder, not at {name}")
        if self.world.rank != 0:
            return
        self.event("done", results=list(results))
        self.sync()
        with explain_write_errors(self.path):
            remove_checkpoints(self.path)
        self.log(f"finished: {', '.join(results)}")

    def close(self) -> None:
        """Give the folder back to others."""
        release_lock(self.path)

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
        if error is not None:
            with contextlib.suppress(InputError):
                self.log(f"ended by {type(error).__name__}: {error}")
        self.close()


def _read_record(path: Path) -> dict[str, Any] | None:
    file = path / RUN_FILE
    if not file.exists():
        return None
    try:
        record = tomllib.loads(file.read_text(encoding="utf-8"))
        tables = [record[name] for name in ("options", "inputs", "versions")]
        if not isinstance(record["job"], str) or not all(isinstance(table, dict) for table in tables):
            raise ValueError("an entry of the wrong kind")
    except (ValueError, KeyError, OSError) as error:
        raise InputError(
            f"is not the record of a run ({error})", path=file, fix="choose another --out or give --overwrite"
        ) from error
    return record


def _refuse_foreign(path: Path) -> None:
    names = sorted(entry.name for entry in path.iterdir())
    foreign = [name for name in names if not _is_ours(name)]
    if foreign and RUN_FILE not in names:
        raise InputError(
            f"is not empty and holds no run ({RUN_FILE} is missing, {foreign[0]!r} is there)",
            path=path,
            fix="choose another --out",
        )


def _refuse_other_run(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    fix = "choose another --out or give --overwrite"
    if old["job"] != new["job"]:
        raise InputError(
            f"holds a run of another job ({old['job']!r}, now {new['job']!r})", path=path, fix=fix
        )
    differences = _differences(old["options"], new["options"])
    if differences:
        raise InputError(f"holds a run with other options: {', '.join(differences)}", path=path, fix=fix)
    changed = [
        name
        for name in sorted(old["inputs"].keys() | new["inputs"].keys())
        if old["inputs"].get(name) != new["inputs"].get(name)
    ]
    if changed:
        raise InputError(
            f"holds a run with other input files: {', '.join(changed)} changed since it started",
            path=path,
            fix=fix,
        )
    if old.get("seeds") != new.get("seeds"):
        raise InputError("holds a run with another seed", path=path, fix=fix)


def _remove_temporary(path: Path) -> None:
    """Files that a killed run left half written; the lock says that nobody writes them now."""
    figures = path / "figures"
    for folder in (path, figures) if figures.is_dir() and not figures.is_symlink() else (path,):
        for entry in folder.iterdir():
            if _TEMPORARY.fullmatch(entry.name) and entry.is_file():
                entry.unlink()


def _remove_run(path: Path) -> None:
    """Remove what a run wrote; ``run.toml`` last, so that a kill in between leaves a run's folder."""
    names = [*(_recorded_results(path) or ()), *_RESULTS, EVENTS_FILE, LOG_FILE]
    remove_checkpoints(path)
    for name in names:
        file = path / name
        # a folder on the way that is a link leads out of the run
        if file.parent.resolve().is_relative_to(path.resolve()) and (file.is_file() or file.is_symlink()):
            file.unlink()
    with contextlib.suppress(OSError):
        (path / "figures").rmdir()
    (path / RUN_FILE).unlink(missing_ok=True)
