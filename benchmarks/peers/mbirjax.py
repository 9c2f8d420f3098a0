"""mbirjax: one axis by ParallelBeamModel, several by MultiAxisParallelModel.

The latter takes azimuth and elevation of the beam; it warns that it is approximate above 45 degrees of
elevation, where electron tomography lives (elevation = 90 degrees - tilt).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import jax
import mbirjax
import numpy as np

from peers.problem import Float32, Problem, Projector


def make(problem: Problem, threads: int) -> Projector:
    """``threads`` is obeyed through the cores that the process may use."""
    if problem.upright_single_axis:
        shape = (problem.tilts, problem.height, problem.width)
        model = mbirjax.ParallelBeamModel(shape, -np.deg2rad(problem.tilt_degrees))
        volume, images = problem.volume().transpose(0, 2, 1), problem.images()
    else:
        model = _several_axes(problem)
        volume, images = problem.volume().transpose(1, 2, 0), problem.images().transpose(0, 2, 1)
    # Without this voxels outside a cylinder are left out, and the work would not be the same.
    model.set_params(no_warning=True, recon_shape=volume.shape, use_ror_mask=False, verbose=0)
    volume, images = jax.device_put(volume), jax.device_put(images)

    def forward() -> Any:
        return jax.block_until_ready(model.forward_project(volume, output_sharded=True))

    def back(given: Any) -> Any:
        stack = images if given is None else given
        return jax.block_until_ready(model.back_project(stack, output_sharded=True))

    def to_images(result: Any, chosen: Sequence[int]) -> Float32:
        stack = np.asarray(result)[list(chosen)]
        return stack if problem.upright_single_axis else stack.transpose(0, 2, 1)[:, ::-1]

    return Projector(
        forward=forward,
        back=back,
        to_images=to_images,
        packages=("mbirjax", "jax", "jaxlib", "numpy"),
        comparable=None if problem.upright_single_axis else _upright_views(problem),
    )


def _several_axes(problem: Problem) -> Any:
    """Detector rows lie across the tilt axis, channels along it, the latter counted downwards."""
    shape = (len(problem.views), problem.width, problem.height)
    angles = [[90.0 - axis, 90.0 - tilt] for axis, tilt in problem.views]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about elevations above 45 degrees
        return mbirjax.MultiAxisParallelModel(shape, np.deg2rad(angles))


def _upright_views(problem: Problem) -> tuple[int, ...]:
    """Views about the y axis: its images are turned with the tilt axis, so only these lie as ours do."""
    return tuple(number for number, (axis, _) in enumerate(problem.views) if axis == 0.0)
