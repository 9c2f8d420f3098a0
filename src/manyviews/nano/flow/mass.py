"""Projections whose mass is kept: the push-forward beside the pull-back.

Shrinkage that keeps mass makes projections brighter, which no pull-back does: mass at x goes to ``x +
g(x)``. Seen from where it arrives that is ``d(y) = J(y) p(y + f(y))``, with ``y + f(y)`` where it came
from and J the volume change of f. The exact transpose of the pull-back takes g.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manyviews.kernels.warp_cpu import pull_back

Float32 = NDArray[np.float32]

_LEAST_CHANGE = 0.1


def volume_change(flow: Float32) -> Float32:
    """``(n, z, x)`` the determinant of ``1 + grad f``, by central differences, not below 0.1."""
    result = np.empty((len(flow), *flow.shape[2:]), np.float32)
    for n, (along_x, along_z) in enumerate(flow):
        x_by_z, x_by_x = np.gradient(along_x)
        z_by_z, z_by_x = np.gradient(along_z)
        result[n] = (1 + x_by_x) * (1 + z_by_z) - x_by_z * z_by_x
    return np.asarray(np.maximum(result, _LEAST_CHANGE), dtype=np.float32)


def inverse_flow(flow: Float32, iterations: int = 12) -> Float32:
    """The g with ``g(x) = -f(x + g(x))``, by fixed point: it undoes a smooth flow ``(n, 2, z, x)``."""
    parts = [np.ascontiguousarray(flow[:, part]) for part in range(2)]
    found = -flow
    for _ in range(iterations):
        found = -np.stack([pull_back(part, found, 1) for part in parts], axis=1)
    return found
