"""A short text that tells whether an input file is still the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from manyviews.errors import InputError

_SAMPLE_BYTES = 2**20


def sampled_fingerprint(path: Path) -> str:
    """``size:... sha256:...`` of the size, the beginning and the end of a file too large to be read whole.

    `InputError` if it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        size = path.stat().st_size
        with open(path, "rb") as handle:
            digest.update(handle.read(_SAMPLE_BYTES))
            handle.seek(max(0, size - _SAMPLE_BYTES))
            digest.update(handle.read(_SAMPLE_BYTES))
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror or error})", path=path, fix="check the name and its permissions"
        ) from error
    return f"size:{size} sha256:{digest.hexdigest()}"


def files_fingerprint(paths: Sequence[Path]) -> str:
    """`sampled_fingerprint` of one file; of several, in this order: ``files:... sha256:...`` of theirs."""
    prints = [sampled_fingerprint(path) for path in paths]
    if len(prints) == 1:
        return prints[0]
    return f"files:{len(prints)} sha256:{hashlib.sha256(chr(10).join(prints).encode()).hexdigest()}"


def fingerprint(path: Path) -> str:
    """``sha256:...`` of a whole file, read in blocks; `InputError` if it cannot be read."""
    try:
        with open(path, "rb") as handle:
            return f"sha256:{hashlib.file_digest(handle, 'sha256').hexdigest()}"
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror or error})", path=path, fix="check the name and its permissions"
        ) from error
