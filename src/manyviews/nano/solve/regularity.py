"""How strongly a volume is to be smooth, from the noise of its projections."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.nano.fbp import filtered_back_projection
from manyviews.nano.solve.joint import Regularity
from manyviews.nano.solve.noise import noise_of
from manyviews.nano.solve.problem import LevelProblem
from manyviews.operators.differences import differences, neighbour_slices

Float32 = NDArray[np.float32]

_VARIATION, _DAMPING = 0.75, 2.0  # where simulated volumes had the least error
_LEAST_PENALTY = 1e-4  # of the number of views


def regularity_of(
    projections: Float32, problem: LevelProblem, *, variation: float | None, damping: float
) -> Regularity:
    """For all ``projections (view, z, x)``, with factors of what suits the noise; all ranks make this call.

    Noise of sigma a pixel has the deviation ``sigma sqrt(views)`` where it is back-projected, and total
    variation of that weight takes it away. Damping has the weight of the best linear filter for slopes of
    the size that a quick reconstruction has, ``sigma^2 / <slope^2>``. ``variation`` None: none.
    """
    sigma = noise_of(projections)
    views = len(projections)
    slope, square = _slopes(projections, problem)
    if variation is None:
        return Regularity(damping=_DAMPING * damping * sigma**2 / square if square > 0 else 0.0)
    weight = _VARIATION * variation * sigma * math.sqrt(views)
    penalty = max(weight / (2 * slope) if slope > 0 else 0.0, _LEAST_PENALTY * views)
    return Regularity(variation=weight, penalty=penalty)


def _slopes(projections: Float32, problem: LevelProblem) -> tuple[float, float]:
    """Mean length and mean square of the slopes of a filtered back-projection, over voxels that are seen."""
    own = np.ascontiguousarray(projections[:, problem.ranks.own_rows])
    volume = filtered_back_projection(problem.tomography.radon, torch.from_numpy(own), problem.allocate)
    support = problem.tomography.support
    assert support is not None
    seen, sums = support.bool(), np.zeros(3)
    after = torch.from_numpy(neighbour_slices(volume, problem.tomography.slabs)[1])
    for z in range(len(volume)):
        behind = volume[z + 1 : z + 2] if z + 1 < len(volume) else after
        slopes = differences(torch.cat([volume[z : z + 1], behind]))[:, 0]
        square = torch.sum(slopes**2, dim=0)[seen].double().numpy()
        sums += np.sqrt(square).sum(), square.sum(), square.size
    total, squares, count = (problem.total(float(value)) for value in sums)
    return total / max(count, 1), squares / max(count, 1)
