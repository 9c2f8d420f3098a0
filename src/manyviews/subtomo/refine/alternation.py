"""Fourier alternation: all rotations at the present shift, then all shifts at the best rotation, and again.

Source: Chen et al., J. Struct. Biol. 182 (2013) 235. With the shift known, the phases count: real parts,
which are the same at k and -k, and imaginary parts are correlated over all rotations, normalised by what the
wedge passes of the map at each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from manyviews.geometry.poses import angular_distance
from manyviews.kernels.points_cpu import gather_points
from manyviews.subtomo.candidates.rotational_matching import Spheres, grid_rotations, lattice_samples
from manyviews.subtomo.candidates.spherical import RotationalCorrelation, degree_for, harmonics
from manyviews.subtomo.refine.best_shifts import at_best_shifts
from manyviews.subtomo.refine.objective import PoseObjective, Poses, Refined

Float64 = NDArray[np.float64]

_TINY = 1e-30


@dataclass(frozen=True)
class FourierAlternation:
    """At most ``rounds`` rounds; done where the shift moves by less than ``still`` voxels.

    The paper's is a whole voxel; but rotations found at a shift that is a voxel off are degrees off.
    ``diameter`` of the particle and ``shift_range`` in voxels. Rotations are looked for within
    ``near_degrees`` of the candidate, so that candidates stay apart.
    """

    diameter: float
    shift_range: float
    rounds: int = 10
    still: float = 0.5
    near_degrees: float = 30.0

    def refine(self, objective: PoseObjective, poses: Poses) -> Refined:
        """The best pose that each candidate came by."""
        found, fit = poses, objective.fit(poses)
        search = _AllRotations(objective, self.diameter)
        now = poses
        touched = np.full(len(poses), objective.point_count, dtype=np.int64)
        active = np.arange(len(poses))
        for _ in range(self.rounds):
            if not len(active):
                break
            turned = search.best(now.select(active), self.near_degrees)
            moved = at_best_shifts(objective, turned, self.shift_range)
            tried = objective.fit(moved)
            touched[active] += 3 * objective.point_count
            better = tried.gain > fit.gain[active]
            found = found.replaced(active[better], moved.select(better))
            fit = fit.replaced(active[better], tried.select(better))
            step = np.linalg.norm(moved.shifts - now.shifts[active], axis=1)
            now = now.replaced(active, moved)
            active = active[step >= self.still]
        return Refined(found, fit, touched)


class _AllRotations:
    """Correlations with the map over all rotations."""

    def __init__(self, objective: PoseObjective, diameter: float) -> None:
        data, reference = objective.subtomograms, objective.reference
        self.data = data
        degree = degree_for(data.radius, diameter / data.box)
        self.even = Spheres(np.arange(1, data.radius + 1), harmonics(degree))
        self.odd = replace(self.even, basis=harmonics(degree, 1))
        points = self.even.points.reshape(-1, 3).astype(np.float32)
        read = gather_points(reference.grid.numpy(), np.eye(3)[None], points, reference.padding)[0]
        read = read.reshape(len(self.even.shells), -1).astype(np.complex128)
        self.real = RotationalCorrelation(self.even.basis, self.even.weighted(read.real))
        self.imaginary = RotationalCorrelation(self.odd.basis, self.odd.weighted(read.imag))
        power = RotationalCorrelation(self.even.basis, self.even.weighted(np.abs(read) ** 2))
        squares = [lattice_samples(one.astype(np.float64) ** 2, data, self.even) for one in data.transfers]
        self.norms = [power.correlate(self.even.basis.coefficients(one)[None])[0] for one in squares]
        self.rotations = grid_rotations(self.real)
        self.cell = 2 * np.pi / self.real.size

    def best(self, poses: Poses, near_degrees: float) -> Poses:
        """The rotations that agree best at the present shifts, between the grid's values."""
        rotations = poses.rotations.copy()
        points = self.data.points.astype(np.float64)
        for place in range(len(poses)):
            particle = poses.particle[place]
            wedge = self.data.transfer_index[particle]
            centred = np.exp(-2j * np.pi / self.data.box * (points @ poses.shifts[place]))
            values = self.data.values[particle] * self.data.transfers[wedge] * centred
            real = lattice_samples(values.real, self.data, self.even)
            imaginary = lattice_samples(values.imag, self.data, self.even, odd=True)
            cross = self.real.correlate(self.even.basis.coefficients(real)[None])[0]
            cross = cross + self.imaginary.correlate(self.odd.basis.coefficients(imaginary)[None])[0]
            norm = self.norms[wedge]
            score = cross / np.sqrt(np.maximum(norm, 1e-6 * norm.max()))
            near = angular_distance(self.rotations, poses.rotations[place]) <= near_degrees
            top = int(np.argmax(np.where(near, score.ravel(), -np.inf)))
            rotations[place] = self._between(score, top)
        return replace(poses, rotations=rotations)

    def _between(self, score: Float64, top: int) -> Float64:
        """The rotation of the maximum of parabolas through a value and its neighbours on the grid."""
        index = np.array(np.unravel_index(top, score.shape))
        angles = index * self.cell
        for axis in range(3):
            size = score.shape[axis]
            before, after = index.copy(), index.copy()
            before[axis], after[axis] = index[axis] - 1, index[axis] + 1
            if axis == 1 and not 0 < index[1] < size - 1:
                continue  # the second angle does not go round
            low, high = score[tuple(before % score.shape)], score[tuple(after % score.shape)]
            bend = low - 2 * score[tuple(index)] + high
            if bend < 0:
                angles[axis] += float(np.clip(0.5 * (low - high) / bend, -0.5, 0.5)) * self.cell
        return np.asarray(Rotation.from_euler("ZYZ", angles).as_matrix())
