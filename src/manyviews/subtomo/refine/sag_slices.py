"""The paper's stochastic average gradients on slices across x, as printed (Lu et al. 2019).

The loss of slice x_i is ``sum_yz (f*(x_i) - g*(x_i))^2``: f* the particle, g* the turned and shifted map,
both filtered by the wedge and masked, mean 0 and spread 1 in the mask. A step is ``alpha D / m``, D the sum
of the latest gradients of the m slices seen so far, ``alpha = 1 / L`` and, as printed, ``L = max_i |x_i|^2 /
4 + 1/n``, which is the constant of another loss (logistic regression). Angles are in degrees, shifts in
voxels.

The wedge is not local along x: every slice of g* needs the transform of the whole volume, so a step costs as
much as one on all slices. Here volumes are sampled as finely as their frequencies ask for, no finer;
gradients are exact (the authors' program multiplied sums of residuals by sums of derivatives: notes in
``docs/subtomograms.md``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from manyviews.alignment.map_alignment import soft_sphere
from manyviews.kernels.points_cpu import PARAMETERS, gather_points
from manyviews.random import Stream, generator
from manyviews.subtomo.refine.objective import PoseObjective, Poses, Refined

Float64 = NDArray[np.float64]

_STILL = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class SliceAverageGradient:
    """``optimized``: algorithm 2, blocks of an eighth of the slices; else algorithm 1, one slice at a time.

    ``diameter`` of the mask in voxels; ``passes``: at most this many steps over the number of slices (the
    authors' program: one half).
    """

    diameter: float
    optimized: bool = False
    passes: float = 0.5
    seed: int = 0

    def refine(self, objective: PoseObjective, poses: Poses) -> Refined:
        """The poses one by one, of each the best that it came by, as steps may lead uphill."""
        found = poses
        touched = np.zeros(len(poses), dtype=np.int64)
        for number in range(len(poses)):
            one = np.array([number])
            better, passes = self._refine_one(objective, poses.select(one))
            found = found.replaced(one, better)
            touched[number] = passes * objective.point_count
        return Refined(found, objective.fit(found), touched)

    def _refine_one(self, objective: PoseObjective, pose: Poses) -> tuple[Poses, int]:
        # the same slices for every pose: which others a process has must not matter
        rng = generator(self.seed, Stream.SUBTOMOGRAM_PARTS)
        slices = _Slices(objective, int(pose.particle[0]), self.diameter)
        begin, side = slices.within.start, slices.within.stop - slices.within.start
        block = max(1, side // 8) if self.optimized else 1
        lipschitz = 0.25 * float((slices.data**2).sum(axis=(0, 1)).max()) + 1 / side
        table = np.zeros((slices.side, PARAMETERS))
        covered = np.zeros(slices.side, dtype=bool)
        last, passes = math.inf, 0
        best, highest = pose, -math.inf
        steps = max(1, math.ceil(self.passes * side))
        for number in range(steps + 1):
            first = begin + math.ceil((side - block) * rng.random())
            own = slice(first, first + block)
            gradient, correlation = slices.gradient(pose, own)
            passes += 1
            if correlation > highest:
                best, highest = pose, correlation
            if abs(correlation - last) < _STILL or number == steps:
                break
            table[own] = gradient / block
            covered[own] = True
            step = -table.sum(axis=0) / (lipschitz * covered.sum())
            pose = pose.moved((step * _DEGREES)[None])
            last = correlation
        return best, passes


_DEGREES = np.array([np.pi / 180] * 3 + [1.0] * 3)


class _Slices:
    """One particle in real space, and the gradients of its slices."""

    def __init__(self, objective: PoseObjective, particle: int, diameter: float) -> None:
        data = objective.subtomograms
        self.objective = objective
        self.box = data.box
        self.side = fft.next_fast_len(2 * data.radius + 2)
        self.points = data.points
        self.transfer = data.transfers[data.transfer_index[particle]]
        self.mask = soft_sphere(self.side, min(self.side / 2, diameter / 2 * self.side / self.box)) > 0.5
        # an empty slice has no gradient, and a pose that stands still would count as done
        inside = np.flatnonzero(self.mask.any(axis=(0, 1)))
        self.within = slice(int(inside[0]), int(inside[-1]) + 1)
        measured = np.where(self.transfer != 0, data.values[particle], 0)
        self.data = self._constrained(measured[None])[0]

    def gradient(self, pose: Poses, own: slice) -> tuple[Float64, float]:
        """``(6,)`` of the loss of some slices per degree and voxel, and the correlation of whole volumes."""
        model, slopes = self._model(pose)
        spread = self._real(model[None])[0][self.mask].std()
        real = self._constrained(model[None])[0]
        moved = self._real(slopes)
        moved = np.where(self.mask, moved - moved[:, self.mask].mean(axis=1)[:, None, None, None], 0) / spread
        left = self.data - real
        gradient = -2 * np.einsum("zyx,pzyx->p", left[:, :, own], moved[:, :, :, own])
        correlation = float((self.data * real).sum() / max(1, self.mask.sum()))
        return np.asarray(gradient * _DEGREES), correlation

    def _model(self, pose: Poses) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
        """Transform of the model and of its derivatives ``(6, P)``."""
        grid, padding = self.objective.reference.grid.numpy(), self.objective.reference.padding
        points = self.points.astype(np.float64)
        turns = np.exp(2j * np.pi / self.box * (points @ pose.shifts[0])) * self.transfer

        def read(rotation: Float64) -> NDArray[np.complex128]:
            return np.asarray(
                gather_points(grid, rotation[None], points.astype(np.float32), padding)[0] * turns
            )

        model = read(pose.rotations[0])
        slopes = np.empty((PARAMETERS, len(points)), np.complex128)
        for axis in range(3):
            step = np.zeros((1, PARAMETERS))
            step[0, axis] = math.radians(1)
            ahead, behind = pose.moved(step), pose.moved(-step)
            slopes[axis] = (read(ahead.rotations[0]) - read(behind.rotations[0])) / (2 * step[0, axis])
            slopes[3 + axis] = 2j * np.pi / self.box * points[:, axis] * model
        return model, slopes

    def _constrained(self, transforms: NDArray[np.complexfloating]) -> Float64:
        """``(n, side, side, side)`` mean 0 and spread 1 inside the mask, 0 outside."""
        real = self._real(transforms)
        inside = real[:, self.mask]
        level = (real - inside.mean(axis=1)[:, None, None, None]) / inside.std(axis=1)[:, None, None, None]
        return np.where(self.mask, level, 0)

    def _real(self, transforms: NDArray[np.complexfloating]) -> Float64:
        """Volumes ``(n, side, side, side)``, origin in the middle, of transforms ``(n, P)``."""
        side = self.side
        x, y, z = self.points.astype(np.int64).T
        spectrum = np.zeros((len(transforms), side, side, side // 2 + 1), np.complex128)
        spectrum[:, z % side, y % side, x] = transforms
        edge = x == 0
        spectrum[:, -z[edge] % side, -y[edge] % side, 0] = transforms[:, edge].conj()
        values = fft.irfftn(spectrum, s=(side,) * 3, axes=(1, 2, 3))
        return np.asarray(fft.fftshift(values, axes=(1, 2, 3)))
