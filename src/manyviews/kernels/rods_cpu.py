"""The point-spread of projecting and back-projecting: a rod along the beam for every view, on the CPU.

Rods are sampled where voxels are: for a difference ``(dx, dy, dz)`` between two voxels a view adds
``weight * g(u) * q(w)``, u and w the difference as seen on its detector across and along the tilt axis.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


@njit(inline="always")
def lookup(table, steps, distance):  # type: ignore[no-untyped-def]
    """Linear interpolation in an even function tabulated ``steps`` entries a pixel from 0; zero beyond."""
    place = abs(distance) * steps
    index = int(place)
    if index + 1 >= len(table):
        return 0.0
    fraction = place - index
    return (1.0 - fraction) * table[index] + fraction * table[index + 1]


@njit(parallel=True, nogil=True, cache=True)
def _draw(planes, first_dz, cosines, sines, weights, across, along, shear, g, q, steps, reach):  # type: ignore[no-untyped-def]
    count, height, width = planes.shape
    radius_u = g.shape[1] / steps
    radius_w = q.shape[0] / steps
    for plane in prange(count):
        dz = first_dz + plane
        for view in range(len(cosines)):
            cosine = max(abs(cosines[view]), 1e-6)
            stretch = radius_u / cosine
            centre = -dz * sines[view] / math.copysign(cosine, cosines[view])
            half_x = abs(across[0]) * stretch + abs(along[0]) * radius_w
            half_y = abs(across[1]) * stretch + abs(along[1]) * radius_w
            # where the rod goes through the plane
            middle_y = centre * across[1] + dz * shear * along[1]
            middle_x = centre * across[0] + dz * shear * along[0]
            low_y = max(-reach[0], math.ceil(middle_y - half_y))
            high_y = min(reach[0], math.floor(middle_y + half_y))
            low_x = max(-reach[1], math.ceil(middle_x - half_x))
            high_x = min(reach[1], math.floor(middle_x + half_x))
            for dy in range(low_y, high_y + 1):
                for dx in range(low_x, high_x + 1):
                    value_w = lookup(q, steps, along[0] * dx + along[1] * dy - shear * dz)
                    if value_w == 0.0:
                        continue
                    s = across[0] * dx + across[1] * dy
                    value_u = lookup(g[view], steps, cosines[view] * s + sines[view] * dz)
                    planes[plane, dy % height, dx % width] += weights[view] * value_u * value_w


def draw_rods(
    planes: NDArray[np.float32],
    first_dz: int,
    cosines: Float64,
    sines: Float64,
    weights: Float64,
    across: Float64,
    along: Float64,
    shear: float,
    profile_u: Float64,
    profile_w: Float64,
    steps: int,
    reach: tuple[int, int],
) -> None:
    """Add the rods of views that share a tilt axis to some planes of a kernel.

    Parameters
    ----------
    planes
        ``(dz, y, x)``, changed in place; differences wrap around in y and x.
    first_dz
        Height difference of the first plane, in pixels.
    cosines, sines, weights
        ``(view,)``.
    across, along
        Unit vectors (x, y) of the tilt axis frame.
    shear
        How far rods go along the axis for each pixel that they rise.
    profile_u, profile_w
        ``(view, n)`` and ``(n,)``: the even profiles g and q, ``steps`` entries a pixel, from 0.
    reach
        Largest differences in y and x that occur in the volume.
    """
    _draw(planes, first_dz, cosines, sines, weights, across, along, shear, profile_u, profile_w, steps, reach)
