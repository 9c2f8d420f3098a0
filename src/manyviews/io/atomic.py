"""Files appear whole or not at all: temporary file beside the target, fsync, rename, fsync the folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from manyviews.errors import InputError


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_absent(*paths: Path, overwrite: bool = False) -> None:
    """Refuse to go on where one of ``paths`` exists, unless ``overwrite``: `InputError` names the first.

    For work that writes at its end, which would otherwise be refused then.
    """
    for path in () if overwrite else paths:
        if path.exists():
            raise InputError("exists already", path=path, fix="choose another name or give --overwrite")


@contextlib.contextmanager
def atomic_path(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path beside ``path``; when the block ends well it becomes ``path``, else it vanishes.

    Raises
    ------
    InputError
        If ``path`` exists and ``overwrite`` is false, or the folder cannot be written, or the disk is full.
    """
    require_absent(path, overwrite=overwrite)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise InputError(
            f"cannot be written ({error.strerror or error})",
            path=path,
            fix="check that the folder exists, is writable and has free space",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def atomic_write(path: Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write ``data`` to ``path`` atomically; errors as in `atomic_path`."""
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(data)
