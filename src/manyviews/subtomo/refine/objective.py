"""How well a subtomogram fits a map in a pose, with all that a step towards a better pose needs.

The amplitude is fitted at each pose, so that the least squares are those of the constrained correlation of
Förster et al. 2008: with y the data and m the model, ``|y - a m|^2 = |y|^2 - (y . m)^2 / |m|^2``. Without
that the wedge, which passes more of the map in some poses than in others, would choose the pose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from manyviews.geometry.poses import rotations_from_vectors
from manyviews.kernels.points_cpu import PARAMETERS, pose_sums
from manyviews.operators.fourier_slice import FourierVolume
from manyviews.subtomo.volumes import FourierSubtomograms

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_UPPER = np.triu_indices(PARAMETERS)
_TINY = 1e-30


@dataclass(frozen=True)
class Poses:
    """M poses: ``rotations (M, 3, 3)``, ``shifts (M, 3)`` in voxels, and ``particle (M,)`` whose they are."""

    rotations: Float64
    shifts: Float64
    particle: Int64

    def __len__(self) -> int:
        return len(self.particle)

    @classmethod
    def nothing(cls) -> Poses:
        """None."""
        return cls(np.zeros((0, 3, 3)), np.zeros((0, 3)), np.zeros(0, dtype=np.int64))

    @classmethod
    def joined(cls, parts: Sequence[Poses]) -> Poses:
        """One after another, at least one part."""
        return cls(*(np.concatenate([getattr(one, item.name) for one in parts]) for item in fields(cls)))

    def moved(self, step: Float64) -> Poses:
        """After steps ``(M, 6)``: a rotation vector in radians, the subtomogram's axes; a shift in voxels."""
        turned = rotations_from_vectors(step[:, :3]) @ self.rotations
        return replace(self, rotations=turned, shifts=self.shifts + step[:, 3:])

    def select(self, chosen: NDArray[np.bool_] | Int64) -> Poses:
        """Some of them."""
        return Poses(self.rotations[chosen], self.shifts[chosen], self.particle[chosen])

    def replaced(self, places: Int64, others: Poses) -> Poses:
        """With other poses in some places."""
        rotations, shifts = self.rotations.copy(), self.shifts.copy()
        rotations[places], shifts[places] = others.rotations, others.shifts
        return replace(self, rotations=rotations, shifts=shifts)


@dataclass(frozen=True)
class Fit:
    """Sums of M fits over the frequencies chosen.

    ``data (M,)`` is ``|y|^2``, ``cross`` is ``y . m``, ``model`` is ``|m|^2``; ``data_slope (M, 6)`` is ``y .
    dm``, ``model_slope`` is ``m . dm`` and ``curvature (M, 6, 6)`` is ``dm . dm``.
    """

    data: Float64
    cross: Float64
    model: Float64
    data_slope: Float64
    model_slope: Float64
    curvature: Float64

    @classmethod
    def nothing(cls) -> Fit:
        """None."""
        none, slopes = np.zeros(0), np.zeros((0, PARAMETERS))
        return cls(none, none, none, slopes, slopes, np.zeros((0, PARAMETERS, PARAMETERS)))

    def select(self, chosen: NDArray[np.bool_] | Int64) -> Fit:
        """Some of them."""
        return Fit(*(getattr(self, part.name)[chosen] for part in fields(self)))

    def replaced(self, places: Int64, others: Fit) -> Fit:
        """With other fits in some places."""
        parts = []
        for part in fields(self):
            own = getattr(self, part.name).copy()
            own[places] = getattr(others, part.name)
            parts.append(own)
        return Fit(*parts)

    @classmethod
    def joined(cls, parts: Sequence[Fit]) -> Fit:
        """One after another, at least one part."""
        return cls(*(np.concatenate([getattr(one, item.name) for one in parts]) for item in fields(cls)))

    @property
    def amplitude(self) -> Float64:
        """``(M,)`` the scale a of the model that fits best."""
        return self.cross / np.maximum(self.model, _TINY)

    @property
    def correlation(self) -> Float64:
        """``(M,)`` constrained correlation, -1 to 1."""
        return self.cross / np.sqrt(np.maximum(self.data * self.model, _TINY))

    @property
    def gain(self) -> Float64:
        """``(M,)`` what the model explains of the data, ``(y . m)^2 / |m|^2``, with the sign of ``y . m``.

        Half of the frequencies are added up, so that for white noise of variance 1 this is the gain in log
        likelihood over a map that is empty.
        """
        return np.sign(self.cross) * self.cross**2 / np.maximum(self.model, _TINY)

    @property
    def gradient(self) -> Float64:
        """``(M, 6)`` of ``-gain / 2`` with respect to a step of the pose."""
        a = self.amplitude[:, None]
        return -a * (self.data_slope - a * self.model_slope)

    @property
    def hessian(self) -> Float64:
        """``(M, 6, 6)`` Gauss-Newton approximation of that of ``-gain / 2``, the amplitude eliminated.

        Source: Kaufman, BIT 15 (1975) 49, on separable least squares.
        """
        outer = self.model_slope[:, :, None] * self.model_slope[:, None]
        a = self.amplitude[:, None, None]
        return a**2 * (self.curvature - outer / np.maximum(self.model, _TINY)[:, None, None])


@dataclass(frozen=True)
class PoseObjective:
    """Subtomograms and the map to fit, up to the frequencies of the subtomograms."""

    subtomograms: FourierSubtomograms
    reference: FourierVolume

    @property
    def point_count(self) -> int:
        """Frequencies of a whole pass."""
        return len(self.subtomograms.points)

    def fit(self, poses: Poses, chosen: NDArray[np.int32] | None = None) -> Fit:
        """The fits of some poses, over all frequencies or over ``chosen (M, n)`` of them for each pose."""
        data = self.subtomograms
        if chosen is None:
            every = np.arange(self.point_count, dtype=np.int32)
            chosen = np.broadcast_to(every, (len(poses), len(every)))
        sums = pose_sums(
            self.reference.grid.numpy(),
            poses.rotations,
            poses.shifts,
            poses.particle,
            data.transfer_index[poses.particle],
            data.values,
            data.transfers,
            data.points,
            chosen,
            self.reference.padding,
            data.box,
        )
        curvature = np.zeros((len(poses), PARAMETERS, PARAMETERS))
        curvature[:, *_UPPER] = sums[:, 3 + 2 * PARAMETERS :]
        curvature[:, _UPPER[1], _UPPER[0]] = sums[:, 3 + 2 * PARAMETERS :]
        slopes = sums[:, 3 : 3 + 2 * PARAMETERS].reshape(-1, 2, PARAMETERS)
        return Fit(sums[:, 0], sums[:, 1], sums[:, 2], slopes[:, 0], slopes[:, 1], curvature)


@dataclass(frozen=True)
class Refined:
    """Poses after refinement, their ``fit``, and ``touched``, frequencies read for each pose."""

    poses: Poses
    fit: Fit
    touched: NDArray[np.int64]


class RefinementMethod(Protocol):
    """Makes poses fine, all of them together; a method is a set of options and this."""

    def refine(self, objective: PoseObjective, poses: Poses) -> Refined:
        """Better poses, in the same order."""


def step_length(step: Float64, radius: float) -> Float64:
    """``(M,)`` voxels that steps ``(M, 6)`` move a particle by, at its ``radius`` of gyration in voxels."""
    turn = np.linalg.norm(step[:, :3], axis=1) * radius
    return np.asarray(np.hypot(turn, np.linalg.norm(step[:, 3:], axis=1)))
