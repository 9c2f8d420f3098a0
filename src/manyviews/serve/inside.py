"""Files below a folder that others may write to: no link is followed, no pipe or device is opened."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe would wait for its writer


def is_plain(name: str) -> bool:
    """Whether it names something in a folder, neither hidden nor the folder itself or the one above."""
    return bool(name) and not name.startswith(".") and "/" not in name and "\0" not in name


def open_inside(folder: Path, names: Sequence[str]) -> int:
    """A descriptor of the ordinary file that ``names`` lead to from ``folder``, name by name.

    Each name is opened from the folder before it, so that a folder which becomes a link meanwhile leads
    nowhere. ``folder`` itself may be reached over links: it is the one that the user has given.

    Raises
    ------
    OSError
        If there is no such file, or a link, pipe or device on the way to it.
    """
    if not names or not all(map(is_plain, names)):
        raise FileNotFoundError(os.fspath(folder))
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for index, name in enumerate(names):
        try:
            flags = _FILE if index == len(names) - 1 else _FOLDER
            inner = os.open(os.fsencode(name), flags, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = inner
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(names[-1])
    return descriptor


def read_inside(folder: Path, names: Sequence[str], most_bytes: int, *, end: bool = False) -> bytes:
    """At most ``most_bytes`` of a file's beginning, or of its ``end``; empty where it cannot be read."""
    with contextlib.suppress(OSError), os.fdopen(open_inside(folder, names), "rb") as handle:
        if end:
            size = os.fstat(handle.fileno()).st_size
            handle.seek(max(0, size - most_bytes))
        return handle.read(most_bytes)
    return b""


def size_inside(folder: Path, names: Sequence[str]) -> int | None:
    """Bytes of a file; None where there is none that may be read."""
    try:
        descriptor = open_inside(folder, names)
    except OSError:
        return None
    try:
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
