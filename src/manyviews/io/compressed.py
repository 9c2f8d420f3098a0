"""Files compressed by gzip or bzip2, whatever their name: read as if they were not.

A file is decompressed once in a process, into a file without a name in the folder for temporary files
(``TMPDIR``), and no further than its reader says it goes on: one that would grow without end does no harm.
"""

from __future__ import annotations

import bz2
import contextlib
import functools
import gzip
import mmap
import os
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from manyviews.errors import InputError
from manyviews.io.sizes import format_bytes

_SIGNATURES = {"gzip": b"\x1f\x8b\x08", "bzip2": b"BZh"}
_BLOCK_BYTES = 1 << 20
_KEPT_FILES = 64  # decompressed at a time; the others are decompressed again when they are read


def compression_of(start: bytes) -> str:
    """``"gzip"``, ``"bzip2"`` or nothing, by the first bytes of a file."""
    return next((name for name, mark in _SIGNATURES.items() if start.startswith(mark)), "")


@contextlib.contextmanager
def open_plain(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file from its beginning, decompressed if need be.

    `InputError` if it cannot be read or the compressed data are damaged, also while it is read.
    """
    try:
        with open(path, "rb") as handle:
            compression = compression_of(handle.peek(3)[:3])
            if not compression:
                yield handle
                return
            with gzip.GzipFile(fileobj=handle) if compression == "gzip" else bz2.BZ2File(handle) as plain:
                yield cast(BinaryIO, plain)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(path, error) from error
    except OSError as error:
        if error.errno is None:  # what bz2 raises on data that are not its own
            raise _damaged(path, error) from error
        raise InputError(
            f"cannot be read ({error.strerror or error})", path=path, fix="check the name and the permissions"
        ) from error


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"the compressed data are damaged or cut off ({error})", path=path, fix="copy it again")


def decompressed(path: Path, most_bytes: int) -> mmap.mmap:
    """The first ``most_bytes`` of a compressed file, fewer if it ends before; not to be written to.

    `InputError` as of `open_plain`, or if there is no room for them.
    """
    status = os.stat(path)
    return _decompressed(os.path.abspath(path), most_bytes, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=_KEPT_FILES)
def _decompressed(path: str, most_bytes: int, size: int, changed: int) -> mmap.mmap:
    """``size`` and ``changed`` are the file's: another file of the same name is decompressed anew."""
    try:
        with tempfile.TemporaryFile(prefix=".manyviews-") as handle:
            for block in _blocks(Path(path), most_bytes):
                handle.write(block)
            handle.flush()
            return mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise _no_room(Path(path), most_bytes, error) from error


def _blocks(path: Path, most_bytes: int) -> Iterator[bytes]:
    left = most_bytes
    with open_plain(path) as plain:
        while left > 0 and (block := plain.read(min(left, _BLOCK_BYTES))):
            yield block
            left -= len(block)


def _no_room(path: Path, most_bytes: int, error: OSError) -> InputError:
    return InputError(
        f"cannot be decompressed to {format_bytes(most_bytes)} in {tempfile.gettempdir()}"
        f" ({error.strerror or error})",
        path=path,
        fix="decompress it yourself, or set TMPDIR to a folder with more room",
    )
