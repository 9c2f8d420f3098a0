"""Lists of views as users write them, counted from 1."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError, quoted

_RANGE = re.compile(r"^(?P<first>\d{1,9})(-(?P<last>\d{1,9}))?$")


def parse_views(texts: Sequence[str], count: int, where: str) -> NDArray[np.int64]:
    """``"1,4-6"`` as places from 0, each once, in rising order; `InputError` on anything else."""
    found: set[int] = set()
    for word in " ".join(texts).replace(",", " ").split():
        match = _RANGE.match(word)
        if match is None:
            raise InputError(
                f"{quoted(word)} is no view", where=where, fix='give numbers and ranges, e.g. "1,4-6"'
            )
        first, last = int(match["first"]), int(match["last"] or match["first"])
        if not 1 <= first <= last <= count:
            raise InputError(f"there is no view {word}", where=where, fix=f"count from 1 to {count}")
        found.update(range(first - 1, last))
    if len(found) == count:
        raise InputError(f"all {count} views are left out", where=where, fix="leave some")
    return np.array(sorted(found), np.int64)


def listed(numbers: NDArray[np.int64], most: int = 8) -> str:
    """Places from 0 as views from 1, for a sentence."""
    shown = ", ".join(str(number + 1) for number in numbers[:most].tolist())
    return shown if len(numbers) <= most else f"{shown} and {len(numbers) - most} more"
