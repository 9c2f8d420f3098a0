"""Simultaneous iterative reconstruction (Gilbert 1972), in two forms.

Landweber, as in Wang et al. 2020, eq. (7): ``x <- x + a W'(p - W x)``. Normalised, as most packages have it
(Gregor & Benson 2008): ``x <- x + a C W' R (p - W x)`` with R and C the inverse row and column sums of W.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from manyviews.solvers.least_squares import LeastSquares
from manyviews.solvers.space import Space
from manyviews.solvers.state import Slab


@dataclass(frozen=True)
class SirtState:
    """Between iterations: the volume, and the objective before the last step."""

    iteration: int
    iterate: Slab
    objective: float

    def measures(self) -> dict[str, float]:
        """Objective (of the volume before the last step) and passes over the data so far."""
        return {"objective": self.objective, "data_passes": float(self.iteration)}


class Landweber:
    """``x <- x + relaxation / lipschitz * W'L(p - W x)``, stable for a relaxation below 2.

    ``non_negative`` cuts negative voxels off after each step.
    """

    def __init__(self, problem: LeastSquares, *, relaxation: float, non_negative: bool = False) -> None:
        self.problem = problem
        self.relaxation = relaxation
        self.non_negative = non_negative

    def init(self) -> SirtState:
        """Start from an empty volume."""
        return SirtState(0, self.problem.vectors.zeros(), 0.5 * self.problem.data_energy)

    def step(self, state: SirtState) -> SirtState:
        """One gradient step."""
        problem = self.problem
        normal = problem.normal(state.iterate)
        objective = problem.objective(state.iterate, normal)
        gradient = normal.neg_().add_(problem.target).sub_(state.iterate, alpha=problem.damping)
        volume = gradient.mul_(self.relaxation / problem.lipschitz).add_(state.iterate)
        if self.non_negative:
            volume.clamp_(min=0.0)
        return SirtState(state.iteration + 1, volume, objective)


class NormalisedSirt:
    """``x <- x + relaxation C W' R (p - W x)``; every iteration is an exact pass over the data.

    ``weighted_gradient`` is ``x -> (W' R (p - W x), |p - W x|^2)``, ``column_scale (z, y, x)`` is C: 1 / (W'
    1), zero where no ray passes; ``data_energy`` is ``|p|^2``. The rest is as of `Landweber`; without a
    ``space`` volumes are whole and in memory.
    """

    def __init__(
        self,
        weighted_gradient: Callable[[torch.Tensor], tuple[torch.Tensor, float]],
        column_scale: torch.Tensor,
        data_energy: float,
        *,
        relaxation: float,
        non_negative: bool = False,
        space: Space | None = None,
    ) -> None:
        self.space = space or Space.like(column_scale)
        self.weighted_gradient = weighted_gradient
        self.column_scale = column_scale
        self.data_energy = data_energy
        self.relaxation = relaxation
        self.non_negative = non_negative

    def init(self) -> SirtState:
        """Start from an empty volume."""
        return SirtState(0, self.space.zeros(), 0.5 * self.data_energy)

    def step(self, state: SirtState) -> SirtState:
        """One step."""
        gradient, energy = self.weighted_gradient(state.iterate)
        volume = gradient.mul_(self.column_scale).mul_(self.relaxation).add_(state.iterate)
        if self.non_negative:
            volume.clamp_(min=0.0)
        return SirtState(state.iteration + 1, volume, 0.5 * energy)
