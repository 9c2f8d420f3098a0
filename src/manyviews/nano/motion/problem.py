"""The volume and the motion of one level, and steps that improve them.

    F(u, c) = rho1 |A(u, c) - d|^2 + rho2 |grad u - b|^2 + c' S c

with A of `MovingRadon`, S of `Stiffness`. Gauss-Newton steps change volume and motion together: where a
volume is found for one motion and then a motion for that volume, each keeps the other where it is, as a
volume that is blurred by motion fits no motion best.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.nano.admm.tomography import Penalties, TomographyProblem
from manyviews.nano.motion.moving_radon import Linearised, MovingRadon
from manyviews.nano.motion.stiffness import Stiffness
from manyviews.operators.differences import add_laplacian, divergence

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_SHORTEST = 2.0**-4  # of a step of Gauss-Newton, below which it is given up


@dataclass(frozen=True)
class Improved:
    """``volume (z, y, x)``, ``knots (m, 3, kz, ky, kx)``, what is ``left (view, z, x)`` of the data, and the
    ``misfit`` |A(u, c) - d| / |d|.
    """

    volume: Float32
    knots: Float64
    left: Float32
    misfit: float


@dataclass(frozen=True)
class MovingProblem:
    """Projections of a level and what is known of them.

    Attributes
    ----------
    data
        ``(view, z, x)``.
    moving
        The projector.
    still
        The problem of a specimen at rest: its preconditioner and the voxels that are free.
    rho
        rho1 and rho2 of the module's text.
    bending
        Of `Stiffness`.
    """

    data: Float32
    moving: MovingRadon
    still: TomographyProblem
    rho: Penalties
    bending: float

    def residual(self, volume: Float32, knots: Float64) -> Float32:
        """``d - A(u, c)``."""
        return self.data - self.moving.forward(volume, knots)

    def misfit(self, residual: Float32) -> float:
        """The norm of a residual in that of the data."""
        return float(np.linalg.norm(residual) / max(float(np.linalg.norm(self.data)), 1e-30))

    def fit_volume(
        self, volume: Float32, knots: Float64, steps: int, b: torch.Tensor | None = None
    ) -> Improved:
        """Preconditioned conjugate gradients on the volume, the motion held; ``b (3, z, y, x)``."""
        precondition = self.still.preconditioner(self.rho)
        found, left = self._free(volume.copy()), self.residual(volume, knots)
        rest = self._descent(found, left, knots, b)
        direction = _applied(precondition, rest)
        slope = _inner(rest, direction)
        for _ in range(steps):
            projected = self.moving.forward(direction, knots)
            bent = self._bent(direction)
            curvature = self.rho.projections * _inner(projected, projected) + _inner(direction, bent)
            if not curvature > 0.0:  # the minimum
                break
            length = np.float32(slope / curvature)
            found += length * direction
            left -= length * projected
            rest = self._descent(found, left, knots, b)
            turned = _applied(precondition, rest)
            new_slope = _inner(rest, turned)
            direction = turned + np.float32(new_slope / slope) * direction
            slope = new_slope
        return Improved(found, knots, left, self.misfit(left))

    def joint_step(self, volume: Float32, knots: Float64, inner: int) -> Improved:
        """A step of Gauss-Newton in both, by so many conjugate gradients; halved until F falls."""
        linear = Linearised(self.moving, volume, knots)
        stiffness = Stiffness.of(linear, self.rho.projections, self.bending)
        residual = self.residual(volume, knots)
        before = self._value(volume, residual, knots, stiffness)
        by_volume, by_knots = linear.adjoint(residual)
        force = self._free(self.rho.projections * by_volume - self._bent(volume))
        push = self.rho.projections * by_knots - stiffness.bend(knots)
        change, motion = self._solve(linear, stiffness, force, push, inner)
        length = 1.0
        while length >= _SHORTEST:
            new, moved = volume + np.float32(length) * change, knots + length * motion
            left = self.residual(new, moved)
            if self._value(new, left, moved, stiffness) < before:
                return Improved(new, moved, left, self.misfit(left))
            length *= 0.5
        return Improved(volume, knots, residual, self.misfit(residual))

    def _solve(
        self, linear: Linearised, stiffness: Stiffness, force: Float32, push: Float64, steps: int
    ) -> tuple[Float32, Float64]:
        """Changes of volume and motion that answer a force on each."""
        precondition = self.still.preconditioner(self.rho)
        change, motion = np.zeros_like(force), np.zeros_like(push)
        first, second = _applied(precondition, force), stiffness.precondition(push)
        turned = (first, second)
        slope = _inner(force, first) + _inner(push, second)
        for _ in range(steps):
            images = linear.forward(*turned)
            by_volume, by_knots = linear.adjoint(images)
            bent = self._free(self.rho.projections * by_volume + self._bent(turned[0]))
            stiff = self.rho.projections * by_knots + stiffness.bend(turned[1])
            curvature = _inner(turned[0], bent) + _inner(turned[1], stiff)
            if not curvature > 0.0:
                break
            length = slope / curvature
            change += np.float32(length) * turned[0]
            motion += length * turned[1]
            force, push = force - np.float32(length) * bent, push - length * stiff
            first, second = _applied(precondition, force), stiffness.precondition(push)
            new_slope = _inner(force, first) + _inner(push, second)
            share = new_slope / slope
            turned = (first + np.float32(share) * turned[0], second + share * turned[1])
            slope = new_slope
        return change, motion

    def _value(self, volume: Float32, residual: Float32, knots: Float64, stiffness: Stiffness) -> float:
        smooth = _inner(volume, self._bent(volume))
        bent = _inner(knots, stiffness.bend(knots))
        return self.rho.projections * _inner(residual, residual) + smooth + bent

    def _descent(self, volume: Float32, left: Float32, knots: Float64, b: torch.Tensor | None) -> Float32:
        """Minus half the gradient of F by the volume."""
        found = self.rho.projections * self.moving.adjoint(left, knots) - self._bent(volume)
        if b is not None:
            found -= self.rho.gradient * divergence(b).numpy()
        return self._free(found)

    def _bent(self, volume: Float32) -> Float32:
        """``-rho2 div grad u``."""
        found = np.zeros_like(volume)
        if self.rho.gradient > 0.0:
            add_laplacian(torch.from_numpy(volume), self.rho.gradient, torch.from_numpy(found))
        return found

    def _free(self, volume: Float32) -> Float32:
        if self.still.support is not None:
            volume *= self.still.support.numpy()
        return volume


def _applied(precondition, volume: Float32) -> Float32:  # type: ignore[no-untyped-def]
    found: Float32 = precondition.forward(torch.from_numpy(np.ascontiguousarray(volume))).numpy()
    return found


def _inner(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Part by part in float64."""
    return float(sum(np.vdot(x.astype(np.float64), y.astype(np.float64)) for x, y in zip(a, b, strict=True)))
