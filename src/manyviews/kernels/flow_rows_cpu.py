"""What the rows of flows have in common with functions of the height, on the CPU: sums, and taking them away.

Flows are ``(n, 2, z, x)`` in float32, in pixels along x, then along z. Views are in parallel.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from manyviews.parallel.threads import each_in_threads

__all__ = ["row_means", "subtract_from_rows"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_FAST = {"contract", "reassoc", "nsz", "arcp", "afn"}


@njit(fastmath=_FAST, nogil=True, cache=True)
def _means(flow, places, out):  # type: ignore[no-untyped-def]
    rows, columns = flow.shape[1:]
    for z in range(rows):
        along, turned, up = 0.0, 0.0, 0.0
        for x in range(columns):
            along += np.float64(flow[0, z, x])
            turned += np.float64(flow[0, z, x]) * places[x]
            up += np.float64(flow[1, z, x])
        out[0, z], out[1, z], out[2, z] = along / columns, turned / columns, up / columns


@njit(fastmath=_FAST, nogil=True, cache=True)
def _subtract(flow, along, dilation, vertical, places):  # type: ignore[no-untyped-def]
    rows, columns = flow.shape[1:]
    for z in range(rows):
        shift, slope, up = np.float32(along[z]), np.float32(dilation[z]), np.float32(vertical[z])
        for x in range(columns):
            flow[0, z, x] -= shift + slope * np.float32(places[x])
            flow[1, z, x] -= up


def row_means(flow: Float32, places: Float64) -> Float64:
    """``(n, 3, z)`` the means over a row of f_x, of f_x times ``places (x,)``, and of f_z, in float64."""
    own = np.ascontiguousarray(flow, dtype=np.float32)
    found = np.empty((len(own), 3, own.shape[2]))
    each_in_threads(lambda n: _means(own[n], places, found[n]), len(own))
    return found


def subtract_from_rows(
    flow: Float32, along: Float64, dilation: Float64, vertical: Float64, places: Float64
) -> None:
    """Take ``along (n, z) + dilation (z,) places (x,)`` from f_x and ``vertical (z,)`` from f_z, in place."""
    each_in_threads(lambda n: _subtract(flow[n], along[n], dilation, vertical, places), len(flow))
