"""Fast translational matching: the shift at which a particle and a turned map agree best, for each rotation.

The correlation over all shifts is one inverse transform of ``conj(y) m``; with few frequencies it is done on
a small box, and its maximum is placed between voxels by a parabola.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from manyviews.kernels.points_cpu import gather_points
from manyviews.operators.fourier_slice import FourierVolume
from manyviews.subtomo.candidates.joint_search import Candidates
from manyviews.subtomo.refine.objective import Poses
from manyviews.subtomo.volumes import FourierSubtomograms

Float64 = NDArray[np.float64]

_OVERSAMPLING = 2
_AT_ONCE = 64
_TINY = 1e-20


def best_shifts(
    subtomograms: FourierSubtomograms, reference: FourierVolume, found: Candidates, shift_range: float
) -> Candidates:
    """The candidates at their best shifts, up to ``shift_range`` voxels, in order of particle and score.

    Scores are constrained correlations up to the particle's norm.
    """
    poses = found.poses
    shifts = np.zeros((len(poses), 3))
    scores = np.zeros(len(poses))
    points = subtomograms.points.astype(np.float32)
    for first in range(0, len(poses), _AT_ONCE):
        own = slice(first, first + _AT_ONCE)
        particle = poses.particle[own]
        transfer = subtomograms.transfers[subtomograms.transfer_index[particle]]
        model = transfer * gather_points(
            reference.grid.numpy(), poses.rotations[own], points, reference.padding
        )
        norm = np.sqrt(np.sum(np.abs(model) ** 2, axis=1))
        shifts[own], peak = _peaks(subtomograms.values[particle].conj() * model, subtomograms, shift_range)
        scores[own] = peak / np.maximum(norm, _TINY)
    moved = Poses(poses.rotations, shifts, poses.particle)
    order = np.lexsort((-scores, poses.particle))
    return Candidates(moved.select(order), scores[order])


def _peaks(
    product: NDArray[np.complexfloating[Any, Any]], subtomograms: FourierSubtomograms, shift_range: float
) -> tuple[Float64, Float64]:
    """Where ``Re sum product exp(2 pi i k . t / box)`` is largest: t ``(M, 3)`` in voxels, and how large."""
    box = subtomograms.box
    side = fft.next_fast_len(2 * _OVERSAMPLING * (subtomograms.radius + 1))
    x, y, z = subtomograms.points.astype(np.int64).T
    spectrum = np.zeros((len(product), side, side, side // 2 + 1), np.complex64)
    # an inverse transform has exp(+2 pi i k t / side), and adds the other half of the frequencies
    spectrum[:, z % side, y % side, x] = product
    edge = x == 0
    spectrum[:, -z[edge] % side, -y[edge] % side, 0] = product[:, edge].conj()
    values = fft.irfftn(spectrum, s=(side,) * 3, axes=(1, 2, 3)) * (side**3 / 2)
    step = box / side
    along = fft.fftfreq(side, 1 / side) * step
    inside = along[:, None, None] ** 2 + along[:, None] ** 2 + along**2 <= max(shift_range, step) ** 2
    place = np.argmax(np.where(inside, values, -math.inf).reshape(len(values), -1), axis=1)
    index = np.stack(np.unravel_index(place, values.shape[1:]), axis=1)
    rows = np.arange(len(values))
    top = values[rows, *index.T]
    shift = np.empty((len(values), 3))
    for axis in range(3):
        before, after = index.copy(), index.copy()
        before[:, axis] = (index[:, axis] - 1) % side
        after[:, axis] = (index[:, axis] + 1) % side
        low, high = values[rows, *before.T], values[rows, *after.T]
        bend = low - 2 * top + high
        part = np.where(bend < 0, 0.5 * (low - high) / np.where(bend < 0, bend, 1), 0.0)
        shift[:, 2 - axis] = along[index[:, axis]] + np.clip(part, -0.5, 0.5) * step
    return shift, top.astype(np.float64)
