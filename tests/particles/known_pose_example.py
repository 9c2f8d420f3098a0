"""A few noisy images in known poses, small enough for the dense matrix of their least-squares problem."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from manyviews.operators.fourier_points import half_plane
from manyviews.particles.fixed_poses.objective import KnownPoses
from manyviews.particles.images.fourier_images import FourierImages


def known_poses(
    count: int = 12,
    *,
    radius: int = 3,
    seed: int = 0,
    damping: float = 1e-2,
    padding: int = 1,
    dtype: type[np.complexfloating] = np.complex128,
) -> KnownPoses:
    """Random slices with random transfer functions, two noise groups; nothing in them is a projection."""
    rng = np.random.default_rng(seed)
    points = half_plane(radius, 2 * radius + 4)
    shape = (count, len(points))
    values = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)
    images = FourierImages(
        points=points,
        values=values,
        ctf=rng.uniform(-1, 1, shape).astype(values.real.dtype),
        noise_variance=rng.uniform(0.5, 2.0, (2, radius + 1)).astype(np.float32),
        group=rng.integers(0, 2, count).astype(np.int32),
        box=2 * radius + 4,
        pixel_size=2.0,
        radius=radius,
    )
    turns = Rotation.random(count, random_state=seed).as_matrix()
    return KnownPoses(images, turns, damping=damping, padding=padding)


def dense_hessian(problem: KnownPoses) -> np.ndarray:
    """``(n, n)`` column by column."""
    everything, zero = problem.everything(), torch.zeros(problem.ball.size, dtype=torch.float64)
    columns = []
    for place in range(problem.ball.size):
        unit = zero.clone()
        unit[place] = 1.0
        columns.append(problem.hessian_product(zero, unit, everything).numpy())
    return np.stack(columns, axis=1)
