"""Failures of the file system, told in one sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from manyviews.errors import InputError


@contextlib.contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` of the block into an `InputError` about ``path``: full disk, read-only folder, ..."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot be written ({error.strerror or error})",
            path=path,
            fix="check that the folder is writable and has free space, then give the same command again",
        ) from error
