"""A folder of results that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from manyviews.errors import InputError


@contextmanager
def staged_folder(out: Path, own_files: Sequence[str], *, overwrite: bool = False) -> Iterator[Path]:
    """A folder beside ``out`` whose files become those of ``out`` when the block ends well, else vanish.

    ``own_files`` are patterns of file names that an earlier result may have left; with ``overwrite`` they are
    removed before the new ones come. Other files in ``out`` stay.

    Raises
    ------
    InputError
        If ``out`` is a file, holds files and ``overwrite`` is false, or cannot be written.
    """
    staging = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        if out.exists() and not out.is_dir():
            raise InputError("is a file", path=out, fix="choose another name for the folder")
        if out.exists() and not overwrite and any(out.iterdir()):
            raise InputError("exists already", path=out, fix="choose another name or give --overwrite")
        staging.mkdir(parents=True)
        yield staging
        _deliver(staging, out, own_files)
    except OSError as error:
        raise InputError(
            f"cannot be written ({error.strerror or error})",
            path=out,
            fix="check that the place is writable and has free space",
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _deliver(staging: Path, out: Path, own_files: Sequence[str]) -> None:
    if not out.exists():
        staging.rename(out)
        return
    for pattern in own_files:
        for old in out.glob(pattern):
            old.unlink()
    for new in sorted(staging.rglob("*")):
        place = out / new.relative_to(staging)
        if new.is_dir():
            place.mkdir(exist_ok=True)
        else:
            os.replace(new, place)
