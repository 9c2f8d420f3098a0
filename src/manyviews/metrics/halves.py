"""Halves of a data set whose maps are compared: what is the same must not lie in both."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]


def together(half: Int64, of: Int64) -> Int64:
    """Halves ``(K,)``, 0 or 1, as they are given, but that copies are in one.

    ``of`` is the first that each is a copy of, itself mostly. Those whose copies are in both go to the half
    that has fewer so far, one after another.
    """
    first, group = np.unique(of, return_inverse=True)
    size, ones = np.bincount(group), np.bincount(group, half)
    chosen = (ones > 0).astype(np.int64)
    split = (ones > 0) & (ones < size)
    filled = [int(size[~split & (chosen == number)].sum()) for number in range(2)]
    for one in np.flatnonzero(split).tolist():
        chosen[one] = int(half[first[one]]) if filled[0] == filled[1] else int(filled[1] < filled[0])
        filled[chosen[one]] += int(size[one])
    return np.asarray(chosen[group], dtype=np.int64)
