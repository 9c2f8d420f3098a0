"""Sums over slices of two volumes ``(z, y, x)``, without room for a third."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["slice_distances", "slice_products"]

_FAST = {"contract", "reassoc", "nsz", "arcp", "afn"}


@njit(fastmath=_FAST, nogil=True, cache=True)
def slice_products(u, v, sums):  # type: ignore[no-untyped-def]
    """Sums of products of all pixels of each slice, added up in float64, into ``sums (z,)``."""
    for z in range(u.shape[0]):
        whole = 0.0
        for y in range(u.shape[1]):
            row, other = u[z, y], v[z, y]
            for x in range(len(row)):
                whole += np.float64(row[x]) * np.float64(other[x])
        sums[z] = whole


@njit(fastmath=_FAST, nogil=True, cache=True)
def slice_distances(u, v, sums):  # type: ignore[no-untyped-def]
    """Sums of squared differences of all pixels of each slice, in float64, into ``sums (z,)``."""
    for z in range(u.shape[0]):
        whole = 0.0
        for y in range(u.shape[1]):
            row, other = u[z, y], v[z, y]
            for x in range(len(row)):
                difference = np.float64(row[x]) - np.float64(other[x])
                whole += difference * difference
        sums[z] = whole
