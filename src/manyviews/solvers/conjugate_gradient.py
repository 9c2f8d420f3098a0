"""Conjugate gradients on the normal equations (Hestenes & Stiefel 1952)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from manyviews.solvers.least_squares import LeastSquares, Map
from manyviews.solvers.space import Space
from manyviews.solvers.state import Slab


def is_due(iteration: int, refresh_every: int | None) -> bool:
    """Whether the projectors are applied after an iteration, counted from 1.

    None: after 2, 4, 8, 16, ...: early corrections gain most, as all later directions know of them. 0: never.
    """
    if refresh_every is None:
        return iteration >= 2 and iteration & (iteration - 1) == 0
    return refresh_every > 0 and iteration % refresh_every == 0


@dataclass(frozen=True)
class ConjugateGradientState:
    """Between iterations.

    Attributes
    ----------
    residual
        ``target - hessian(volume)`` as the quick normal operator has it.
    direction
        Next search direction.
    slope
        ``<residual, M residual>``, with the preconditioner M.
    base, base_gradient, base_energy
        Where the projectors were last applied: the volume, its exact gradient ``W' L (p - W x)``, and its
        residual energy.
    target
        What the present round runs towards: the quick operator at the base, plus the exact gradient there.
    offset
        Makes the objective exact at the base.
    """

    iteration: int
    iterate: Slab
    residual: Slab
    direction: Slab
    slope: float
    base: Slab
    base_gradient: Slab
    base_energy: float
    target: Slab
    offset: float
    objective: float
    data_passes: float

    def measures(self) -> dict[str, float]:
        """Objective and passes over the data so far."""
        return {"objective": self.objective, "data_passes": self.data_passes}


class ConjugateGradient:
    """Minimise a least-squares problem, with the projectors correcting the quick operator now and then.

    A round of quick iterations from an exactly known base proposes a new volume; one exact pass there tells
    how far to go along the way to it, because the objective is a parabola whose gradient is now known at both
    ends. The exact objective therefore falls with every round, however rough the quick operator is. A round
    has ``refresh_every`` iterations; 0: it is endless, None: it is as long as all before it (`is_due`).

    ``precondition`` is M, nearly the inverse of the Hessian, self-adjoint and positive; None: none. It makes
    the way shorter and does not change where it ends.
    """

    def __init__(
        self, problem: LeastSquares, *, refresh_every: int | None = 0, precondition: Map | None = None
    ) -> None:
        self.problem = problem
        self.refresh_every = refresh_every
        self.precondition = precondition

    def init(self) -> ConjugateGradientState:
        """Start from an empty volume, where the target is the exact gradient, or that of guessed data."""
        problem = self.problem
        start = problem.vectors.zeros()
        guessed = problem.first_target is not None
        target = problem.target if problem.first_target is None else problem.first_target
        direction = self._preconditioned(target)
        return ConjugateGradientState(
            iteration=0,
            iterate=start,
            residual=target,
            direction=direction,
            slope=problem.vectors.inner(target, direction),
            base=start,
            base_gradient=problem.target,
            base_energy=problem.data_energy,
            target=target,
            offset=0.5 * (problem.first_energy if guessed else problem.data_energy),
            objective=0.5 * problem.data_energy,
            data_passes=0.0,
        )

    def step(self, state: ConjugateGradientState) -> ConjugateGradientState:
        """One conjugate direction, and the correction at the end of a round."""
        state = self._quick_step(state)
        if is_due(state.iteration, self.refresh_every):
            return self._corrected(state)
        return state

    def _quick_step(self, state: ConjugateGradientState) -> ConjugateGradientState:
        problem, space = self.problem, self.problem.vectors
        inner = space.inner
        bent = problem.hessian(state.direction)
        curvature = inner(state.direction, bent)
        length = state.slope / curvature if curvature > 0.0 else 0.0
        volume = space.add(state.iterate, state.direction, length)
        residual = bent.mul_(-length).add_(state.residual)
        preconditioned = self._preconditioned(residual)
        slope = inner(residual, preconditioned)
        ratio = slope / state.slope if state.slope > 0.0 else 0.0
        # 1/2 <x, H x> - <b, x> with H x = b - r, less the damping term
        value = -0.5 * (inner(volume, residual) + inner(volume, state.target))
        return replace(
            state,
            iteration=state.iteration + 1,
            iterate=volume,
            residual=residual,
            direction=space.add(preconditioned, state.direction, ratio),
            slope=slope,
            objective=state.offset + value - 0.5 * problem.damping * inner(volume, volume),
            data_passes=state.data_passes + 1.0,
        )

    def _preconditioned(self, residual: torch.Tensor) -> torch.Tensor:
        """``M residual``; the residual itself where there is no M."""
        return residual if self.precondition is None else self.precondition(residual)

    def _corrected(self, state: ConjugateGradientState) -> ConjugateGradientState:
        """Go from the base towards the proposal as far as the exact objective falls, and make it the base."""
        problem, space = self.problem, self.problem.vectors
        inner = space.inner
        if problem.exact_gradient is None:
            return state
        gradient, energy = problem.exact_gradient(state.iterate)
        move = space.add(state.iterate, state.base, -1.0)
        damping = problem.damping
        descent = inner(state.base_gradient, move) - damping * inner(state.base, move)
        bend = inner(state.base_gradient, move) - inner(gradient, move)
        curvature = bend + damping * inner(move, move)
        length = descent / curvature if curvature > 0.0 else 0.0
        volume = space.add(state.base, move, length)
        # energies are quadratic along the way, and gradients linear
        energy = state.base_energy - 2.0 * length * inner(state.base_gradient, move) + length**2 * bend
        gradient = space.lerp(state.base_gradient, gradient, length)
        del move
        normal = problem.normal(volume)
        target = space.add(gradient, normal)
        residual = space.add(gradient, volume, -damping)
        direction, slope = self._after_correction(state, residual)
        return replace(
            state,
            iterate=volume,
            residual=residual,
            direction=direction,
            slope=slope,
            base=volume,
            base_gradient=gradient,
            base_energy=energy,
            target=target,
            offset=0.5 * energy - 0.5 * inner(volume, normal) + inner(target, volume),
            objective=0.5 * energy,
            data_passes=state.data_passes + 1.0,
        )

    def _after_correction(
        self, state: ConjugateGradientState, residual: torch.Tensor
    ) -> tuple[torch.Tensor, float]:
        """The direction that was next, changed by what the residual has changed, and its slope.

        It keeps most of what makes directions conjugate; beginning anew costs an iteration or two each time.
        """
        space = self.problem.vectors
        changed = space.add(residual, state.residual, -1.0)
        direction = self._preconditioned(changed)
        del changed
        direction.add_(state.direction)
        slope = space.inner(residual, direction)
        if slope > 0.0:
            return direction, slope
        direction = self._preconditioned(residual)
        return direction, space.inner(residual, direction)


def solve_some(
    hessian: Map, right_side: torch.Tensor, start: torch.Tensor, steps: int, space: Space | None = None
) -> torch.Tensor:
    """A few conjugate-gradient steps on ``hessian(x) = right_side`` from ``start``."""
    return descend(hessian, hessian(start).neg_().add_(right_side), start, steps, space)


def descend(
    hessian: Map, residual: torch.Tensor, start: torch.Tensor, steps: int, space: Space | None = None
) -> torch.Tensor:
    """`solve_some` from the residual of the start, which is overwritten: right sides need no room then."""
    space = space or Space.like(start)
    x = space.copy(start)
    direction = residual
    slope = space.inner(residual, residual)
    for step in range(steps):
        bent = hessian(direction)
        curvature = space.inner(direction, bent)
        if curvature <= 0.0:
            break
        length = slope / curvature
        x.add_(direction, alpha=length)
        if step + 1 == steps:
            break
        residual = bent.mul_(-length).add_(residual)
        new_slope = space.inner(residual, residual)
        direction.mul_(new_slope / slope).add_(residual)
        slope = new_slope
    return x
