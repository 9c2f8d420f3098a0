"""One process at a time in a run folder: a file that names its owner.

No ``flock``, which network file systems answer in different ways: the file is made with ``O_EXCL``, and an
owner that is no longer alive on this host has lost its claim.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from manyviews.errors import InputError, shortened
from manyviews.io.nested import parse_json

LOCK_NAME = "lock"
_WRITING_SECONDS = 1.0
_ATTEMPTS = 20
_MOST_BYTES = 4096
_LARGEST_PID = 2**31 - 1


@dataclass(frozen=True)
class LockOwner:
    """Who holds a lock: a process, its machine, and when it took the lock, UTC.

    ``process_ticks``, the start of the process in clock ticks since boot, is None where the system does not
    tell; with it a process number that is used again is not taken for the owner.
    """

    pid: int
    host: str
    started: str
    process_ticks: int | None


def _process_state(pid: int) -> tuple[str, int] | None:
    """State letter and start ticks of a process from Linux's /proc, None where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return fields[0], int(fields[19])


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def this_process() -> LockOwner:
    """This process as an owner."""
    state = _process_state(os.getpid())
    return LockOwner(
        pid=os.getpid(),
        host=socket.gethostname(),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        process_ticks=None if state is None else state[1],
    )


def is_alive(owner: LockOwner) -> bool:
    """Whether the owner may still run; one on another host always may."""
    if owner.host != socket.gethostname():
        return True
    if not _exists(owner.pid):
        return False
    state = _process_state(owner.pid)
    if state is None:
        return True
    letter, ticks = state
    return letter not in "ZX" and owner.process_ticks in (None, ticks)


def _read(path: Path) -> LockOwner | None:
    """The owner, or None if the file is empty or damaged (its writer was killed, or is just writing it)."""
    with open(path, "rb") as handle:
        return parse_owner(handle.read(_MOST_BYTES))


def parse_owner(data: bytes) -> LockOwner | None:
    """The owner that a lock names; None if it is empty or damaged."""
    try:
        values = parse_json(data)
        pid, ticks = values["pid"], values["process_ticks"]
        if not _is_count(pid) or not 0 < pid <= _LARGEST_PID or not (ticks is None or _is_count(ticks)):
            return None
        return LockOwner(pid, str(values["host"]), str(values["started"]), ticks)
    except (ValueError, KeyError, TypeError):
        return None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_stale(path: Path) -> tuple[bool, LockOwner | None]:
    owner = _read(path)
    if owner is not None:
        return not is_alive(owner), owner
    return time.time() - path.stat().st_mtime > _WRITING_SECONDS, None


def _remove_stale(path: Path) -> bool:
    """Remove a dead owner's lock, one process at a time; False where another is at it.

    Else two that found the same dead owner might remove the lock that one of them has just taken.
    """
    gate = path.with_name(f".{path.name}.0.tmp")
    if not _create(gate):
        if time.time() - gate.stat().st_mtime > _WRITING_SECONDS:  # it was killed in between
            gate.unlink()
        return False
    try:
        if _is_stale(path)[0]:
            path.unlink()
    finally:
        gate.unlink(missing_ok=True)
    return True


def _create(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    try:
        os.write(descriptor, json.dumps(asdict(this_process())).encode())
    finally:
        os.close(descriptor)
    return True


def take_lock(folder: Path) -> str | None:
    """Take the folder for this process; the text tells of a dead owner whose lock was taken over, if any.

    Raises
    ------
    InputError
        If a live process, or one on another host, holds it.
    OSError
        If the file cannot be written.
    """
    path = folder / LOCK_NAME
    told = None
    for _ in range(_ATTEMPTS):
        if _create(path):
            return told
        with contextlib.suppress(FileNotFoundError):  # released meanwhile
            stale, owner = _is_stale(path)
            if stale and _remove_stale(path):
                told = "took over the lock of " + (
                    f"process {owner.pid}, which is gone"
                    if owner
                    else "a process that was killed as it took it"
                )
            elif not stale and owner is not None:
                raise _in_use(folder, owner)
            else:
                time.sleep(_WRITING_SECONDS / 8)
    raise InputError("is being opened by another process", path=folder, fix="try again")


def _in_use(folder: Path, owner: LockOwner) -> InputError:
    return InputError(
        f"is in use by process {owner.pid} on host {shortened(owner.host)} since {shortened(owner.started)}",
        path=folder,
        fix=f"wait for it, choose another --out, or remove {LOCK_NAME} if that process is gone",
    )


def release_lock(folder: Path) -> None:
    """Give the folder back, if the lock is still this process's."""
    path = folder / LOCK_NAME
    with contextlib.suppress(OSError):
        owner = _read(path)
        if owner is not None and (owner.pid, owner.host) == (os.getpid(), socket.gethostname()):
            path.unlink()
