"""Stochastic average gradients on parts of the frequencies: exact for any wedge, each step costs its part.

Source: Le Roux, Schmidt and Bach, NIPS 2012. By Parseval's theorem the sum over voxels is one over
frequencies, and there any transfer is local; slices of voxels, as in the paper, are not (`sag_slices`).
Every part keeps its latest sums, so the gradient, the amplitude and the scale of each parameter are those of
all frequencies, a little out of date.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.kernels.points_cpu import PARAMETERS
from manyviews.random import Stream, generator
from manyviews.subtomo.refine.objective import PoseObjective, Poses, Refined, step_length

Float64 = NDArray[np.float64]

_TINY = 1e-30


@dataclass(frozen=True)
class StochasticAverageGradient:
    """``passes`` times as many steps as there are ``parts`` of the frequencies, drawn with replacement.

    ``relative_step`` is the step over that of Newton's method with a diagonal curvature: with gradients that
    are out of date by 16 steps 0.35 swings and 0.1 settles. ``radius`` of gyration in voxels,
    ``longest_step`` in voxels there.
    """

    parts: int = 16
    passes: float = 6.0
    relative_step: float = 0.1
    radius: float = 8.0
    longest_step: float = 1.5
    seed: int = 0

    def refine(self, objective: PoseObjective, poses: Poses) -> Refined:
        """The poses after all steps, and their fits over all frequencies."""
        rng = generator(self.seed, Stream.SUBTOMOGRAM_PARTS)
        parts = min(self.parts, objective.point_count)
        blocks = np.array_split(rng.permutation(objective.point_count).astype(np.int32), parts)
        table = _Table.zeros(len(poses), parts)
        touched = 0
        for number in range(int(self.passes * parts)):
            # every part once before any is drawn again: else some are never seen
            part = number if number < parts else int(rng.integers(parts))
            chosen = np.broadcast_to(blocks[part], (len(poses), len(blocks[part])))
            fit = objective.fit(poses, chosen)
            touched += len(blocks[part])
            diagonal = np.einsum("mii->mi", fit.curvature)
            table.store(part, fit.cross, fit.model, fit.data_slope, fit.model_slope, diagonal)
            poses = poses.moved(self._step(table, (number + 1) / parts))
        fit = objective.fit(poses)
        return Refined(poses, fit, np.full(len(poses), touched + objective.point_count))

    def _step(self, table: _Table, seen: float) -> Float64:
        """``(M, 6)``: down the average gradient; small while few parts have been seen."""
        cross, model, data_slope, model_slope, diagonal = table.sums()
        amplitude = (cross / np.maximum(model, _TINY))[:, None]
        gradient = -amplitude * (data_slope - amplitude * model_slope)
        scale = amplitude**2 * np.maximum(diagonal, 1e-9 * diagonal.max(axis=1, keepdims=True)) + _TINY
        step = -self.relative_step * min(1.0, seen) * gradient / scale
        length = step_length(step, self.radius)
        return np.asarray(step * np.minimum(1.0, self.longest_step / np.maximum(length, 1e-12))[:, None])


class _Table:
    """The latest sums of each part for M poses."""

    def __init__(self, values: Float64) -> None:
        self.values = values
        self.total = np.zeros((values.shape[0], values.shape[2]))

    @classmethod
    def zeros(cls, poses: int, parts: int) -> _Table:
        """Nothing seen."""
        return cls(np.zeros((poses, parts, 2 + 3 * PARAMETERS)))

    def store(self, part: int, *sums: Float64) -> None:
        """Replace what a part gave before."""
        fresh = np.concatenate([one.reshape(len(one), -1) for one in sums], axis=1)
        self.total += fresh - self.values[:, part]
        self.values[:, part] = fresh

    def sums(self) -> tuple[Float64, Float64, Float64, Float64, Float64]:
        """Over all parts, in the order in which `store` takes them."""
        total, n = self.total, PARAMETERS
        return (total[:, 0], total[:, 1], total[:, 2 : 2 + n], total[:, 2 + n : 2 + 2 * n],
                total[:, 2 + 2 * n :])  # fmt: skip
