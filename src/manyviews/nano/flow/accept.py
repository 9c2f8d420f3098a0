"""A new flow is kept only where it helps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.kernels.view_steps_cpu import keep_better

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Accepted:
    """What was kept: ``flow (n, 2, z, x)``, its ``misfit (n,)``, which views took the new one, ``taken
    (n,)``.
    """

    flow: Float32
    misfit: Float64
    taken: NDArray[np.bool_]


def accept_flow(data: Float32, model: Float32, old: Float32, new: Float32, *, mass: bool = False) -> Accepted:
    """Of each view the new flow, if ``|data - D_f model|^2`` falls by it, else the old one.

    Engines minimise something else or may diverge with small windows; a flow that is not finite never falls.
    """
    flow = new.copy()
    misfit, taken = keep_better(data, model, old, flow, push=mass)
    return Accepted(flow, misfit, taken)
