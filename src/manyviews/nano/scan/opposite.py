"""Views from opposite sides, and from the same side again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_SHARE_OF_STEP = 0.05
_LEAST_DEGREES = 0.02


def angular_step_degrees(theta_degrees: Float64) -> float:
    """The median step between neighbouring directions of a scan, in whatever order they were taken."""
    steps = np.diff(np.sort(np.mod(theta_degrees, 360.0)))
    steps = steps[steps > 1e-3]
    return float(np.median(steps)) if len(steps) else 0.0


def tolerance_degrees(theta_degrees: Float64) -> float:
    """How far from opposite a view may be that counts as opposite: a twentieth of a step."""
    return max(_LEAST_DEGREES, _SHARE_OF_STEP * angular_step_degrees(theta_degrees))


def opposite_pairs(theta_degrees: Float64, within_degrees: float | None = None) -> tuple[Int64, Float64]:
    """``(pair, 2)`` views that look from opposite sides, and how far each is from opposite, in degrees.

    Left out, ``within_degrees`` is `tolerance_degrees`. The earlier view comes first; in a parallel beam
    the later one is its mirror.
    """
    return _pairs(theta_degrees, 180.0, within_degrees)


def return_pairs(theta_degrees: Float64, within_degrees: float | None = None) -> tuple[Int64, Float64]:
    """``(pair, 2)`` views that look from the same side, and how far apart they are, in degrees."""
    return _pairs(theta_degrees, 0.0, within_degrees)


def _pairs(theta: Float64, apart: float, within: float | None) -> tuple[Int64, Float64]:
    within = tolerance_degrees(theta) if within is None else within
    directions = np.mod(theta, 360.0)
    order = np.argsort(directions, kind="stable")
    # three turns, so that neighbours across 0 are neighbours here
    turns = np.concatenate([directions[order] + turn for turn in (-360.0, 0.0, 360.0)])
    numbers = np.tile(order, 3)
    found: dict[tuple[int, int], float] = {}
    for view, wanted in enumerate(np.mod(theta + apart, 360.0).tolist()):
        first, last = np.searchsorted(turns, [wanted - within - 1e-9, wanted + within + 1e-9])
        for place in range(int(first), int(last)):
            other = int(numbers[place])
            if other > view:
                found[view, other] = float(turns[place] - wanted)
    pairs = sorted(found)
    return np.array(pairs, np.int64).reshape(-1, 2), np.array([found[pair] for pair in pairs], np.float64)
