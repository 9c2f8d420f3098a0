"""Two volumes laid over each other by a smooth map: how they compare when only such a map is between them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manyviews.kernels.warp_volume_cpu import pull_volume, read_slopes
from manyviews.nano.motion.basis import MotionBasis
from manyviews.nano.motion.moving_radon import determinant
from manyviews.nano.motion.stiffness import bending_matrix, normal_matrix, slope_products

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_BENDING = 1e-3


def register_smoothly(
    volume: Float32, wanted: Float32, *, cells: int = 2, steps: int = 8, mass: bool = False
) -> Float32:
    """``volume (z, y, x)`` read along the spline displacement that lays it best over ``wanted``.

    No projection tells a fixed map of a specimen that moves: before volumes are compared, it is taken out.
    By Gauss-Newton; the state with the least difference is given, so it is never worse than as it lies.
    With ``mass`` grey levels are multiplied by the change of volume.
    """
    basis = MotionBasis.of(_shape(volume), (volume.shape[0], volume.shape[2]), cells, 1)
    knots = np.zeros((3, *basis.knots))
    bent = np.kron(np.eye(3), bending_matrix(basis.knots))
    best, least = volume, float(np.linalg.norm(volume - wanted))
    displacement, factor = _motion(basis, knots, mass)
    moved = pull_volume(volume, displacement) * factor
    for _ in range(steps):
        slopes = read_slopes(volume, displacement) * factor
        matrix = normal_matrix(slope_products(slopes), basis)
        matrix += _BENDING * np.trace(matrix) / np.trace(bent) * bent
        force = basis.contract(slopes * (wanted - moved)).reshape(-1)
        knots = knots + np.linalg.solve(matrix, force).reshape(knots.shape)
        displacement, factor = _motion(basis, knots, mass)
        moved = pull_volume(volume, displacement) * factor
        left = float(np.linalg.norm(moved - wanted))
        if left < least:
            best, least = moved, left
    return best


def _motion(basis: MotionBasis, knots: Float64, mass: bool) -> tuple[Float32, Float32 | np.float32]:
    """The displacement, and what grey levels are multiplied by."""
    displacement = basis.expand(knots)
    if not mass:
        return displacement, np.float32(1.0)
    slopes = np.stack([basis.expand(knots, axis) for axis in range(3)], axis=1)
    for axis in range(3):
        slopes[axis, axis] += 1.0
    return displacement, determinant(slopes)


def _shape(volume: Float32) -> tuple[int, int, int]:
    depth, rows, columns = volume.shape
    return depth, rows, columns
