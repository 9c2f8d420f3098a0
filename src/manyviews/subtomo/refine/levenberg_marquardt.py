"""Damped Gauss-Newton steps on all frequencies: Levenberg-Marquardt.

Source: Xu and Alber, BMC Syst. Biol. 6 (2012) S18, who fit in real or Fourier space with the whole volume;
here the amplitude is fitted with the pose, and all candidates of all particles take their steps together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.subtomo.refine.objective import Fit, PoseObjective, Poses, Refined, step_length

Float64 = NDArray[np.float64]

_DOWN, _UP = 0.3, 4.0
_LEAST_DAMPING, _MOST_DAMPING = 1e-6, 1e6


@dataclass(frozen=True)
class LevenbergMarquardt:
    """At most ``steps`` steps of each pose.

    A pose is left alone when a step promises less than ``least_gain`` of log likelihood: nobody could tell
    the difference. ``radius`` is the particle's radius of gyration in voxels; steps are no longer than
    ``longest_step`` voxels at that radius.
    """

    steps: int = 12
    damping: float = 1e-2
    least_gain: float = 0.02
    longest_step: float = 3.0
    radius: float = 8.0

    def refine(self, objective: PoseObjective, poses: Poses) -> Refined:
        """The poses, each at the nearest maximum of its correlation."""
        fit = objective.fit(poses)
        damping = np.full(len(poses), self.damping)
        touched = np.full(len(poses), objective.point_count, dtype=np.int64)
        active = np.ones(len(poses), dtype=bool)
        for _ in range(self.steps):
            own = np.flatnonzero(active)
            if not len(own):
                break
            now = fit.select(own)
            step = self._step(now, damping[own])
            promised = -np.sum(now.gradient * step, axis=1)
            trial = poses.select(own).moved(step)
            tried = objective.fit(trial)
            touched[own] += objective.point_count
            better = tried.gain > fit.gain[own]
            poses = poses.replaced(own[better], trial.select(better))
            fit = fit.replaced(own[better], tried.select(better))
            damping[own] = np.clip(damping[own] * np.where(better, _DOWN, _UP), _LEAST_DAMPING, _MOST_DAMPING)
            active[own[promised < self.least_gain]] = False
        return Refined(poses, fit, touched)

    def _step(self, fit: Fit, damping: Float64) -> Float64:
        """``(M, 6)``: the damped step, cut to the longest that is believed."""
        hessian = fit.hessian
        diagonal = np.einsum("mii->mi", hessian)
        scale = np.maximum(diagonal, 1e-9 * diagonal.max(axis=1, keepdims=True) + 1e-30)
        damped = hessian + (damping[:, None] * scale)[:, :, None] * np.eye(hessian.shape[1])
        step: Float64 = np.linalg.solve(damped, -fit.gradient[:, :, None])[:, :, 0]
        length = step_length(step, self.radius)
        return np.asarray(step * np.minimum(1.0, self.longest_step / np.maximum(length, 1e-12))[:, None])
