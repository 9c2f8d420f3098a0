"""Small random turns, to spoil poses with."""

import numpy as np

from manyviews.geometry.poses import rotations_from_vectors


def random_steps(count, sigma_degrees, rng):
    """Rotations ``(count, 3, 3)``: every component of the rotation vector has this sigma."""
    return rotations_from_vectors(np.deg2rad(sigma_degrees) * rng.standard_normal((count, 3)))
