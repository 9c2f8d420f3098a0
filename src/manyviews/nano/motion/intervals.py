"""Views in intervals of time, within each of which the specimen is taken to be at rest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# Where nothing moves intervals are not longer than with this share of the mean speed.
_STILL = 0.3


def split_views(times: Float64, knots: Float64, count: int) -> list[Int64]:
    """At most ``count`` intervals of views in the order of acquisition, with about as much motion in each.

    ``times (view, m)`` are of `time_functions`, ``knots (m, 3, kz, ky, kx)`` the motion known so far; where
    that is zero each has as many views.
    """
    views = len(times)
    flat = knots.reshape(len(knots), -1)
    change = np.diff(times, axis=0)
    speed = np.sqrt(np.maximum(np.einsum("vm,mn,vn->v", change, flat @ flat.T, change), 0.0))
    if not speed.any():
        return list(np.array_split(np.arange(views), min(count, views)))
    way = np.concatenate([[0.0], np.cumsum(speed + _STILL * speed.mean())])
    which = np.minimum((way / way[-1] * count).astype(np.int64), count - 1)
    return [np.flatnonzero(which == number) for number in np.unique(which)]
