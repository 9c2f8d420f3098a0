"""Particles dealt into lanes, so that sums over them do not depend on how many processes there are.

What is added up of a lane is added in one order by one process; the sums of the lanes are added last, in
double precision.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manyviews.parallel.world import World

LANES = 8

Int64 = NDArray[np.int64]


def lane_of(numbers: Int64) -> Int64:
    """``(N,)`` the lane of each particle by its number."""
    return np.asarray(numbers % LANES, dtype=np.int64)


def own_particles(numbers: Int64, world: World) -> NDArray[np.bool_]:
    """``(N,)`` which particles a process works on: whole lanes, or part of one where ranks are many."""
    if world.size > LANES:
        return np.asarray(numbers % world.size == world.rank)
    return np.asarray(lane_of(numbers) % world.size == world.rank)
