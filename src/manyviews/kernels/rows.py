"""Rows of a table as kernels take them: one after another in memory, or apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.floating[Any]]


def in_a_row(rows: Real) -> tuple[Real, int]:
    """Rows ``(N, n)``, which may be the beginnings of longer ones, as one row, and how far apart they begin.

    Numba would compile a kernel for rows that lie apart and another one for rows that do not.
    """
    if rows.strides[1] != rows.itemsize or rows.strides[0] % rows.itemsize:
        rows = np.ascontiguousarray(rows)
    step = rows.strides[0] // rows.itemsize if len(rows) > 1 else rows.shape[1]
    size = (len(rows) - 1) * step + rows.shape[1] if len(rows) else 0
    flat = np.lib.stride_tricks.as_strided(rows, (size,), (rows.itemsize,), writeable=False)
    return flat, step
