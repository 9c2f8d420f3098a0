"""Projections whose mass is kept: the push-forward beside the pull-back.

Shrinkage that keeps mass makes projections brighter, which no pull-back does: mass at x goes to ``x +
g(x)``. Seen from where it arrives that is ``d(y) = J(y) p(y + f(y))``, with ``y + f(y)`` where it came
from and J the volume change of f. The exact transpose of the pull-back takes g.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from manyviews.kernels.warp_cpu import pull_back
from manyviews.nano.flow.engines import FlowEngine
from manyviews.nano.room import Allocate, blocks, in_memory

Float32 = NDArray[np.float32]

_LEAST_CHANGE = 0.1
_SMOOTH_PIXELS, _CHANGES = 4.0, (0.6, 1.6)  # of the change that data are divided by


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


@dataclass(frozen=True)
class KeepingMass:
    """Any engine, for projections whose mass moves: finds g with ``data = push_forward(model, g)``.

    Data divided by the change of areas of the flow so far are a model read at moved places, which is what
    engines look for. The change is that of a smoothed flow and kept near one, and follows from call to call:
    a few calls with each window, wide ones above all.
    """

    engine: FlowEngine
    allocate: Allocate = in_memory

    def find(self, data: Float32, model: Float32, flow: Float32, window: float) -> Float32:
        """See `FlowEngine`; ``flow`` is where mass goes, on the way in and out."""
        pulled, even = self.allocate(flow.shape), self.allocate(data.shape)
        parts = blocks(len(flow), 2 * flow[0].size)
        for part in parts:
            pulled[part] = inverse_flow(flow[part])
            smooth = gaussian_filter(pulled[part], (0, 0, _SMOOTH_PIXELS, _SMOOTH_PIXELS), mode="nearest")
            even[part] = data[part] / np.clip(volume_change(smooth), *_CHANGES)
        found = self.engine.find(even, model, pulled, window)
        for part in parts:
            pulled[part] = inverse_flow(found[part])
        return pulled
