"""Least squares with total variation and a bound, by the alternating direction method of multipliers.

Minimises (Boyd et al. 2011, Found. Trends Mach. Learn. 3:1)

    1/2 |L^(1/2) (W x - p)|^2 + damping/2 |x|^2 + lambda sum |grad x| (x >= 0 if asked for)

by splitting d = grad x and y = x off, with scaled multipliers u of d (`dual_z`, `dual_y`, `dual_x`) and w of
y. Minimising over d shortens ``grad x + u``, and what is cut off is the new multiplier, so that d needs no
room; y and w are the positive and the negative part of one volume s (`split`), as nowhere both differ from
zero. Over-relaxed by alpha (Eckstein & Bertsekas 1992, Math. Program. 55:293), which halves the number of
iterations where a bound has to work its way to what no view sees:

    u' = (grad x + u) no longer than lambda / rho,     s' = alpha x + (1 - alpha) max(s, 0) + min(s, 0)

and minus the gradient of the augmented Lagrangian at x is

    W' L p - (W' L W + damping) x - rho grad' (2 u' - u) - sigma (x - |s'|) .

The slopes are not over-relaxed, since d would need room.

A few preconditioned conjugate-gradient steps from x follow it, with the Hessian ``W' L W + damping + rho
grad' grad + sigma``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from manyviews.operators.differences import add_laplacian
from manyviews.operators.slopes import pull, shorten
from manyviews.solvers.least_squares import LeastSquares, Map
from manyviews.solvers.state import Slab

# alpha of the bound: from 1 to 2.
_RELAXATION = 1.8


@dataclass(frozen=True)
class Terms:
    """What a volume is to be like: lambda of its total variation, and whether no voxel is below zero."""

    total_variation: float = 0.0
    non_negative: bool = False


@dataclass(frozen=True)
class SplitPenalties:
    """rho of the slopes and sigma of the bound: they change the way and not where it ends."""

    slopes: float
    bound: float


@dataclass(frozen=True)
class AlternatingState:
    """Between iterations.

    Attributes
    ----------
    normal
        ``W' L W`` of the iterate, as the quick normal operator has it.
    dual_z, dual_y, dual_x
        Scaled multipliers u of the slopes.
    split
        Of the bound: where it is positive the copy y of the volume, elsewhere the scaled multiplier w.
    target
        What the quick normal operator is to come to: ``W' L p``, corrected where the projectors were applied.
    offset
        Makes the objective exact where the projectors were last applied.
    objective
        The data term at the iterate.
    """

    iteration: int
    iterate: Slab
    normal: Slab
    dual_z: Slab
    dual_y: Slab
    dual_x: Slab
    split: Slab
    target: Slab
    offset: float
    objective: float
    data_passes: float

    @property
    def duals(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Multipliers of the slopes along z, y, x."""
        return self.dual_z, self.dual_y, self.dual_x

    def measures(self) -> dict[str, float]:
        """Data term and passes over the data so far."""
        return {"objective": self.objective, "data_passes": self.data_passes}


S = TypeVar("S", bound=AlternatingState)


class AlternatingDirections:
    """Minimise a least-squares problem with `Terms`.

    Parameters
    ----------
    problem
        The data term; slabs of its space are on the ranks of that space.
    terms, penalties
        See the module.
    precondition
        Nearly the inverse of the Hessian, self-adjoint and positive; None: none.
    steps
        Conjugate-gradient steps in an iteration.
    correct_after
        Once, after so many iterations, one exact pass replaces the gradient of the quick normal operator at
        the iterate by that of the projectors; 0: never. More such corrections may run away where the
        projectors see what the quick operator does not.
    """

    def __init__(
        self,
        problem: LeastSquares,
        terms: Terms,
        penalties: SplitPenalties,
        precondition: Map | None = None,
        *,
        steps: int = 2,
        correct_after: int = 0,
    ) -> None:
        self.problem = problem
        self.terms = terms
        self.penalties = penalties
        self.precondition = precondition or problem.vectors.copy
        self.steps = steps
        self.correct_after = correct_after

    def init(self) -> AlternatingState:
        """An empty volume."""
        zeros = self.problem.vectors.zeros()
        half = 0.5 * self.problem.data_energy
        return AlternatingState(
            0, zeros, zeros, zeros, zeros, zeros, zeros, self.problem.target, half, half, 0.0
        )

    def start_at(self, volume: torch.Tensor, target: torch.Tensor) -> AlternatingState:
        """From a volume that is meant to be near, of which the bound sees the part above zero.

        ``target`` is `AlternatingState.target`, corrected or not.
        """
        space = self.problem.vectors
        normal = self.problem.normal(volume)
        state = self.init()
        value = 0.5 * space.inner(volume, normal) - space.inner(target, volume)
        return replace(
            state,
            iterate=volume,
            normal=normal,
            split=space.positive_part(volume),
            target=target,
            objective=state.offset + value,
        )

    def begin(self, found: AlternatingState) -> AlternatingState:
        """From the volume and the multipliers of another problem's state."""
        return replace(
            self.start_at(found.iterate, self.problem.target),
            dual_z=found.dual_z,
            dual_y=found.dual_y,
            dual_x=found.dual_x,
            split=found.split,
        )

    def step(self, state: S) -> S:
        """Multipliers, then a few conjugate directions, and the correction when it is due."""
        remaining, state = self._remaining(state)
        state = self._advanced(state, remaining)
        if state.iteration == self.correct_after:
            return self.corrected(state)
        return state

    def corrected(self, state: S) -> S:
        """The same with the projectors' gradient at the iterate; where there are none, as it is."""
        if self.problem.exact_gradient is None:
            return state
        space = self.problem.vectors
        gradient, energy = self.problem.exact_gradient(state.iterate)
        target = gradient.add_(state.normal)
        quick = 0.5 * space.inner(state.iterate, state.normal) - space.inner(target, state.iterate)
        return replace(
            state,
            target=target,
            offset=0.5 * energy - quick,
            objective=0.5 * energy,
            data_passes=state.data_passes + 1.0,
        )

    def _remaining(self, state: S) -> tuple[torch.Tensor, S]:
        """Minus the gradient of the augmented Lagrangian, and the state with new multipliers."""
        space, terms, penalties = self.problem.vectors, self.terms, self.penalties
        remaining = space.add(state.target, state.normal, -1.0)
        if self.problem.damping:
            remaining.add_(state.iterate, alpha=-self.problem.damping)
        if terms.total_variation > 0.0:
            reach = terms.total_variation / penalties.slopes
            duals, _ = shorten(state.iterate, state.duals, reach, space.allocate, space.ranks)
            remaining.add_(pull(duals, state.duals, space.allocate, space.ranks), alpha=-penalties.slopes)
            state = replace(state, dual_z=duals[0], dual_y=duals[1], dual_x=duals[2])
        if terms.non_negative:
            split = space.allocate()
            for parts in zip(state.split, state.iterate, split, remaining, strict=True):
                _bound(*parts, penalties.bound)
            state = replace(state, split=split)
        return remaining, state

    def _advanced(self, state: S, remaining: torch.Tensor) -> S:
        """Conjugate directions along ``remaining``, which is overwritten."""
        problem, space = self.problem, self.problem.vectors
        volume, normal = space.copy(state.iterate), space.copy(state.normal)
        direction = self.precondition(remaining)
        slope = space.inner(remaining, direction)
        for step in range(self.steps):
            projected = problem.normal(direction)
            bent = self._bent(direction, projected)
            curvature = space.inner(direction, bent)
            if not curvature > 0.0:  # the minimum
                break
            length = slope / curvature
            volume.add_(direction, alpha=length)
            normal.add_(projected, alpha=length)
            del projected
            if step + 1 == self.steps:
                break
            remaining.add_(bent, alpha=-length)
            del bent
            preconditioned = self.precondition(remaining)
            new_slope = space.inner(remaining, preconditioned)
            direction = preconditioned.add_(direction, alpha=new_slope / slope if slope > 0.0 else 0.0)
            slope = new_slope
        value = 0.5 * space.inner(volume, normal) - space.inner(state.target, volume)
        return replace(
            state,
            iteration=state.iteration + 1,
            iterate=volume,
            normal=normal,
            objective=state.offset + value,
            data_passes=state.data_passes + self.steps,
        )

    def _bent(self, direction: torch.Tensor, projected: torch.Tensor) -> torch.Tensor:
        """The Hessian times a direction, of which ``W' L W`` is known."""
        space, terms = self.problem.vectors, self.terms
        shift = self.problem.damping + (self.penalties.bound if terms.non_negative else 0.0)
        bent = space.add(projected, direction, shift)
        if terms.total_variation > 0.0:
            add_laplacian(direction, self.penalties.slopes, bent, space.ranks)
        return bent


def _bound(
    old: torch.Tensor, volume: torch.Tensor, new: torch.Tensor, remaining: torch.Tensor, penalty: float
) -> None:
    """s' of one slice, and what the bound adds to ``remaining``: volumes may lie in files."""
    torch.clamp(old, max=0.0, out=new)
    new.add_(volume, alpha=_RELAXATION).add_(old.clamp(min=0.0), alpha=1.0 - _RELAXATION)
    remaining.add_(volume, alpha=-penalty).add_(new.abs(), alpha=penalty)
