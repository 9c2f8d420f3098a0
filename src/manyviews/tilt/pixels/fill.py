"""Images whose pixels that do not count show what a volume says: for methods that know no weights of pixels.

A volume that was made by conjugate gradients from the pixels that count says what the others would show.
Images filled with it are explained by it as well as before, and every method may take them as they are.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.tilt.solve.problem import TiltProblem

FILL_STAGE, FILL_ITERATIONS = "fill", 15


def filled_problem(problem: TiltProblem, volume: torch.Tensor) -> TiltProblem:
    """The problem with images filled by a volume of which this rank holds the slab; all ranks call this."""
    pixels = problem.pixels
    if pixels is None:
        return problem
    count = len(problem.weights)
    images = problem.storage.allocate((count, *problem.projector.image_shape), problem.device)
    images.zero_()
    for views, projected in problem.project_blocks(volume):
        weights = pixels.weights(views)
        blended = torch.lerp(projected, problem.read(views), weights)
        for number, view in enumerate(views.tolist()):
            images[view] = blended[number]
    world = problem.place.world
    known = images if world.size == 1 else world.sum(images)

    def read(views: NDArray[np.int64]) -> torch.Tensor:
        return known[torch.from_numpy(views)]

    return replace(problem, read=read, pixels=None)
