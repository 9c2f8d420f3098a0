"""The turn of a whole map that most poses agree on, up to the symmetry of the particle."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manyviews.geometry.poses import angular_distance

Float64 = NDArray[np.float64]

HALF_TURN = np.diag([-1.0, -1.0, 1.0])
"""What the other hand does to poses: see `manyviews.metrics.pose_error`."""

CAP_DEGREES = 30.0
"""An error that is larger counts as wrong, however large."""

_TRIALS = 200
_JUDGES = 1000
_ROUNDS = 20


def distances(between: Float64, group: Float64, turn: Float64) -> Float64:
    """``(N,)`` degrees from each ``S G``, ``(N, 3, 3)``, to the nearest of the group times ``turn``."""
    targets = group @ turn
    return np.asarray(np.min([angular_distance(between, one) for one in targets], axis=0))


def common_turn(between: Float64, group: Float64) -> Float64:
    """The turn that most poses agree on: the best of some poses' own, then the mean of those near it.

    ``between`` is ``(N, 3, 3)``, ``S G`` of each with S of the ``group`` ``(n, 3, 3)``; G is returned.
    """
    step = max(1, len(between) // _TRIALS)
    judges = between[:: max(1, len(between) // _JUDGES)]
    trials = between[::step][:_TRIALS]
    costs = [np.minimum(distances(judges, group, trial), CAP_DEGREES).mean() for trial in trials]
    turn: Float64 = trials[int(np.argmin(costs))]
    for _ in range(_ROUNDS):
        targets = group @ turn
        apart = np.array([angular_distance(between, target) for target in targets])
        nearest = apart.argmin(axis=0)
        least = apart.min(axis=0)
        # Three times the median keeps the poses that have been found, however good those are.
        near = least <= min(CAP_DEGREES, 3 * float(np.median(least)) + 1e-6)
        if not near.any():
            break
        back = group[nearest[near]].transpose(0, 2, 1) @ between[near]
        turn = _nearest_rotation(back.sum(axis=0))
    return turn


def _nearest_rotation(matrix: Float64) -> Float64:
    left, _, right = np.linalg.svd(matrix)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    return np.asarray((left * signs) @ right, dtype=np.float64)
