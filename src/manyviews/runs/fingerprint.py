"""A short text that tells whether an input file is still the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

from manyviews.errors import InputError


def fingerprint(path: Path) -> str:
    """``sha256:...`` of a whole file, read in blocks.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    try:
        with open(path, "rb") as handle:
            return f"sha256:{hashlib.file_digest(handle, 'sha256').hexdigest()}"
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror or error})", path=path, fix="check the name and its permissions"
        ) from error
