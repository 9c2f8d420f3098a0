"""One file written by several processes: each writes its part, and all of them are told if one fails."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from manyviews.errors import InputError
from manyviews.parallel.world import World

T = TypeVar("T")
Span = tuple[int, int]

_CANNOT_RESERVE = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)


def together(ranks: World, action: Callable[[], T]) -> list[T]:
    """What ``action`` gives on each rank, known to all; none goes on before all are done.

    An `InputError` of one rank is raised on all; it tells which, unless that is the first.
    """
    failure: InputError | None = None
    value: Any = None
    try:
        value = action()
    except InputError as error:
        failure = error
    record = None if failure is None else [failure.what, failure.path, failure.where, failure.fix]
    outcomes = ranks.gather([record, value])
    for rank, (told, _) in enumerate(outcomes):
        if told is not None:
            what, path, where, fix = told
            place = ", ".join(part for part in (where, f"rank {rank}" if rank else None) if part)
            raise InputError(what, path=path, where=place or None, fix=fix) from failure
    return [value for _, value in outcomes]


def writes_span(spans: Sequence[Span | None], rank: int) -> bool:
    """Whether a rank writes its span ``(first, end)`` of a file: the first of those that hold the same does.

    None stands for a rank that holds nothing of it.
    """
    own = spans[rank]
    return own is not None and own[0] < own[1] and spans.index(own) == rank


def require_cover(spans: Sequence[Span | None], total: int) -> None:
    """Check that the spans of all ranks are parts ``0 ... total`` one after another, some held by several.

    `ValueError` if something is missing or held twice in part.
    """
    end = 0
    for first, last in sorted({span for span in spans if span is not None and span[0] < span[1]}):
        if first != end:
            raise ValueError(f"parts {end} and {first} of {total} do not follow each other")
        end = last
    if end != total:
        raise ValueError(f"{end} of {total} parts are held by any rank")


def reserve(descriptor: int, size_bytes: int) -> None:
    """Give a file its size and its room on the disk: a full disk is an `OSError` now and no crash later.

    Where the file system or the system cannot promise room, the file gets its size alone.
    """
    if size_bytes == 0:
        return
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size_bytes)
            return
        except OSError as error:
            if error.errno not in _CANNOT_RESERVE:
                raise
    os.ftruncate(descriptor, size_bytes)


def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of ``data`` at byte ``offset`` of a file."""
    left = memoryview(data).cast("B")
    while left:
        written = os.pwrite(descriptor, left, offset)
        left, offset = left[written:], offset + written
