"""Small volumes added to the sums of one half, one after another."""

import numpy as np

from manyviews.kernels.points_cpu import splat_lanes


def add_solids(sums, half, rotations, points, values, weights):
    """Add ``values (M, P)`` and ``weights (M, P)`` at points ``(P, 3)`` to half 0 or 1, in place."""
    own = slice(half, half + 1)
    grids = sums.numerator[own].numpy(), sums.denominator[own].numpy()
    splat_lanes(*grids, np.array([0, len(rotations)]), rotations, points, values, weights, sums.padding)
