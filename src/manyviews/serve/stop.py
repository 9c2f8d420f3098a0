"""Ask a run to stop: SIGTERM to the process that its lock names, if that is surely the one."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

from manyviews.errors import InputError
from manyviews.runs.lock import LOCK_NAME, is_alive
from manyviews.serve.catalogue import read_owner
from manyviews.serve.inside import open_inside


def stop_run(root: Path, names: tuple[str, ...]) -> None:
    """Let the run ``names`` below ``root`` make a checkpoint and leave.

    The lock is a file that others may have written, and a process number may be used again. So the lock must
    be this user's, and the process too, on this machine, and started when the lock says.

    Raises
    ------
    InputError
        If there is no such process.
    """
    folder = root.joinpath(*names)
    owner = read_owner(root, names)
    if owner is None:
        raise InputError("is held by no process", path=folder)
    if owner.host != socket.gethostname():
        raise InputError("runs on another machine", path=folder, fix="stop it there")
    if _owner_of_file(root, (*names, LOCK_NAME)) != os.getuid():
        raise InputError("is locked by another user", path=folder)
    if owner.process_ticks is None or not hasattr(os, "pidfd_open"):
        raise InputError("cannot be stopped from here on this system", path=folder, fix="press Ctrl-C there")
    if owner.pid == os.getpid():
        raise InputError("names this very process", path=folder)
    try:
        process = os.pidfd_open(owner.pid)  # it stays that process, whatever its number is used for later
    except OSError:
        raise InputError("runs no longer", path=folder) from None
    try:
        if not is_alive(owner):
            raise InputError("runs no longer", path=folder)
        if os.stat(f"/proc/{owner.pid}").st_uid != os.getuid():
            raise InputError("belongs to another user", path=folder)
        signal.pidfd_send_signal(process, signal.SIGTERM)
    except OSError:
        raise InputError("runs no longer", path=folder) from None
    finally:
        os.close(process)


def _owner_of_file(root: Path, names: tuple[str, ...]) -> int | None:
    try:
        descriptor = open_inside(root, names)
    except OSError:
        return None
    try:
        return os.fstat(descriptor).st_uid
    finally:
        os.close(descriptor)
