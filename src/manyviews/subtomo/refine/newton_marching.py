"""Newton steps on the rotation at rising frequencies, the shift by fast translational matching in between.

Source: Kruse et al., arXiv 2603.15285 (2026), who expand the score in Wigner's D functions and leave the
wedge out of it; here the map's transform is read at the turned frequencies, which is the same sum, and the
score is the constrained correlation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from manyviews.subtomo.refine.best_shifts import at_best_shifts
from manyviews.subtomo.refine.objective import Fit, PoseObjective, Poses, Refined, step_length

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class FrequencyMarching:
    """``steps`` Newton steps at each of the ``levels``, parts of the highest frequency.

    ``radius`` of gyration and ``shift_range`` in voxels; steps turn the particle by ``longest_step`` voxels
    at that radius at most.
    """

    shift_range: float
    levels: tuple[float, ...] = (0.5, 0.7, 1.0)
    steps: int = 1
    radius: float = 8.0
    longest_step: float = 2.0

    def refine(self, objective: PoseObjective, poses: Poses) -> Refined:
        """The poses after the last level; those that a level made worse go back to where they were."""
        touched = np.zeros(len(poses), dtype=np.int64)
        start = objective.fit(poses)
        found = poses
        for level in self.levels:
            data = objective.subtomograms.crop(max(3.0, level * objective.subtomograms.radius))
            part = replace(objective, subtomograms=data)
            for _ in range(self.steps):
                found = found.moved(self._turn(part.fit(found)))
                found = at_best_shifts(part, found, self.shift_range)
                touched += 2 * part.point_count
        fit = objective.fit(found)
        touched += 2 * objective.point_count
        worse = np.flatnonzero(fit.gain < start.gain)
        return Refined(
            found.replaced(worse, poses.select(worse)), fit.replaced(worse, start.select(worse)), touched
        )

    def _turn(self, fit: Fit) -> Float64:
        """``(M, 6)`` Newton's step of the rotation alone."""
        hessian = fit.hessian[:, :3, :3]
        trace = np.einsum("mii->m", hessian)
        damped = hessian + (1e-3 * trace + 1e-30)[:, None, None] * np.eye(3)
        turn = np.linalg.solve(damped, -fit.gradient[:, :3, None])[:, :, 0]
        step = np.concatenate([turn, np.zeros_like(turn)], axis=1)
        length = step_length(step, self.radius)
        return np.asarray(step * np.minimum(1.0, self.longest_step / np.maximum(length, 1e-12))[:, None])
