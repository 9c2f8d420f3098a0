"""A quick first reconstruction, from binned images: where beads are, and how thick the specimen is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.operators.slab_projector import SlabProjector
from manyviews.tilt.methods import make_cg
from manyviews.tilt.pixels.weights import SeriesPixels
from manyviews.tilt.plan import Plan
from manyviews.tilt.series.images import ImageSource
from manyviews.tilt.series.normalise import prepare
from manyviews.tilt.solve.damping import damped
from manyviews.tilt.solve.problem import TiltProblem

_ITERATIONS, _REFRESH = 10, 5


@dataclass(frozen=True)
class QuickVolume:
    """A volume ``(z, y, x)`` whose voxels are ``bin`` stored pixels wide."""

    volume: NDArray[np.float32]
    bin: int
    pixel_size: float
    source: ImageSource


def quick_volume(source: ImageSource, plan: Plan, depth: int, side: int, *, edges: bool) -> QuickVolume:
    """Reconstruct from images of about ``side`` pixels a side; ``depth`` in stored pixels.

    ``edges``: rays that leave the volume count less. Nothing is corrected for contrast transfer.
    """
    factor = max(source.bin, -(-max(source.series.image_shape) // side))
    coarse = source.binned(factor)
    rows, columns = (max(1, length * plan.bin // factor) for length in plan.volume_shape[1:])
    shape = (max(1, depth // factor), rows, columns)
    device = torch.device("cpu")
    images = prepare(coarse, plan.normalise, device)
    geometry = coarse.binned_geometry
    problem = TiltProblem(
        projector=SlabProjector(geometry, shape, coarse.shape[1:], coarse.pixel_size),
        read=images.read,
        weights=np.ones(len(geometry)),
        pixels=SeriesPixels(coarse, shape, edges, device),
    )
    solver = make_cg(
        damped(problem, replace(plan, damping=None, damping_by_frequency=True), images), _REFRESH
    )
    state = solver.init()
    for _ in range(_ITERATIONS):
        state = solver.step(state)
    return QuickVolume(np.asarray(state.iterate.numpy()), factor, coarse.pixel_size, coarse)
