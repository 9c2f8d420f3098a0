"""scico's XRayTransform3D: a splat in plain JAX with one 2 x 4 matrix a view, any axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from scico.linop.xray import XRayTransform3D
from scipy.spatial.transform import Rotation

from peers.problem import Float32, Problem, Projector


def make(problem: Problem, threads: int) -> Projector:
    """``threads`` is obeyed through the cores that the process may use."""
    shape, detector = (problem.width, problem.height, problem.depth), (problem.width, problem.height)
    operator = XRayTransform3D(shape, _matrices(problem), detector)
    volume = jax.device_put(np.ascontiguousarray(problem.volume().transpose(2, 1, 0)))
    images = jax.device_put(np.ascontiguousarray(problem.images().transpose(0, 2, 1)))

    def to_images(result: Any, views: Sequence[int]) -> Float32:
        return np.asarray(result)[list(views)].transpose(0, 2, 1)

    return Projector(
        forward=lambda: jax.block_until_ready(operator(volume)),
        back=lambda given: jax.block_until_ready(operator.adj(images if given is None else given)),
        to_images=to_images,
        packages=("scico", "jax", "jaxlib", "numpy"),
    )


def _matrices(problem: Problem) -> np.ndarray:
    """``(view, 2, 4)``: index + 1/2 of a voxel to detector coordinates, centres at index ``n // 2``."""
    size = np.array([problem.width, problem.height, problem.depth])
    rotations = np.stack(
        [
            Rotation.from_euler("ZYZ", [axis, tilt, -axis], degrees=True).as_matrix()[:2]
            for axis, tilt in problem.views
        ]
    )
    offsets = size[:2] // 2 + 0.5 - rotations @ (size // 2 + 0.5)
    return np.concatenate([rotations, offsets[..., None]], axis=2)
