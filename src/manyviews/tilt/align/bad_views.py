"""Views that the others do not explain: blocked, elsewhere, blurred."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manyviews.geometry.views import TiltGeometry

Float64 = NDArray[np.float64]

_WINDOW = 13  # views that one is compared with, those nearest in tilt
_DEVIATIONS = 8.0  # robust standard deviations of what is left of their likes
_RELATIVE, _LEAST = 1.0, 0.02  # of what is left of its likes, and of all: less is never bad
_APART = 2.0  # times as much is allowed a view that the volume does not hold
_MOST = 0.34  # of the views of a series


def judged(correlation: Float64, weights: Float64, geometry: TiltGeometry) -> Float64:
    """New weights ``(view,)``, 0 for views that are explained far worse than those around them, else 1.

    ``correlation (view,)`` is of images and projections; a view of weight 0 has no part in the volume.
    """
    found = np.ones(len(weights))
    for series in np.unique(geometry.series):
        mine = np.flatnonzero(geometry.series == series)
        mine = mine[np.argsort(geometry.tilt_degrees[mine], kind="stable")]
        excess = _excess(1.0 - correlation[mine], weights[mine] > 0)
        bad = mine[excess > 1.0]
        most = int(_MOST * len(mine))
        if len(bad) > most:
            bad = mine[np.argsort(-excess)[:most]]
        found[bad] = 0.0
    return found


def _excess(left: Float64, counted: NDArray[np.bool_]) -> Float64:
    """What is left of each view of a series, in units of what is allowed; above 1 it is bad."""
    known = left[counted] if counted.any() else left
    found = np.empty(len(left))
    for view, value in enumerate(left):
        nearest = np.argsort(np.abs(np.flatnonzero(counted) - view), kind="stable")[:_WINDOW]
        likes = known[nearest] if counted.any() else known
        middle = float(np.median(likes))
        spread = 1.4826 * float(np.median(np.abs(likes - middle)))
        allowed = max(_DEVIATIONS * spread, _RELATIVE * middle, _LEAST)
        found[view] = (value - middle) / (allowed if counted[view] else _APART * allowed)
    return found
