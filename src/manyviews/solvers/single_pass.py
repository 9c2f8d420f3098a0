"""Methods that are no consensus of anything: one filtering, and the mean of independent reconstructions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from manyviews.solvers.consensus import mean_of
from manyviews.solvers.least_squares import LeastSquares, Map


@dataclass(frozen=True)
class FilteredState:
    """Before and after the one step."""

    iteration: int
    volume: torch.Tensor
    objective: float

    def measures(self) -> dict[str, float]:
        """Objective and passes over the data so far."""
        return {"objective": self.objective, "data_passes": float(self.iteration)}


class WeightedBackProjection:
    """Back-projection divided by the transform of its own point-spread (Radermacher's R-weighting, 1992).

    The point-spread is that of all views of all axes together, so the weighting is right for any of them.

    Parameters
    ----------
    problem
        Holds the back-projection as its target.
    weighting
        Division by the point-spread's transform, bounded below.
    """

    def __init__(self, problem: LeastSquares, weighting: Map) -> None:
        self.problem = problem
        self.weighting = weighting

    def init(self) -> FilteredState:
        """Nothing yet."""
        return FilteredState(0, torch.zeros_like(self.problem.target), 0.5 * self.problem.data_energy)

    def step(self, state: FilteredState) -> FilteredState:
        """Filter."""
        volume = self.weighting(self.problem.target)
        return FilteredState(1, volume, self.problem.objective(volume, self.problem.normal(volume)))


@dataclass(frozen=True)
class CombinedState:
    """Between iterations: every subset's own volume, and their mean."""

    iteration: int
    volume: torch.Tensor
    parts: tuple[torch.Tensor, ...]
    objective: float

    def measures(self) -> dict[str, float]:
        """Objective of the mean and passes over the data so far."""
        return {"objective": self.objective, "data_passes": float(self.iteration)}


class DirectCombine:
    """DirectCombine-SIRT of Wang et al. 2020: a Landweber run for each subset alone, then the mean.

    Parameters
    ----------
    problems
        One for each subset.
    relaxation
        Fraction of 1 / lipschitz.
    objective
        Value of the whole objective at a volume, for the record.
    """

    def __init__(
        self,
        problems: Sequence[LeastSquares],
        *,
        relaxation: float,
        objective: Callable[[torch.Tensor], float],
    ) -> None:
        self.problems = problems
        self.relaxation = relaxation
        self.objective = objective

    def init(self) -> CombinedState:
        """All subsets from an empty volume."""
        start = torch.zeros_like(self.problems[0].target)
        return CombinedState(0, start, tuple(start.clone() for _ in self.problems), self.objective(start))

    def step(self, state: CombinedState) -> CombinedState:
        """One gradient step in every subset."""
        parts = []
        for problem, part in zip(self.problems, state.parts, strict=True):
            gradient = problem.target - problem.hessian(part)
            parts.append(gradient.mul_(self.relaxation / problem.lipschitz).add_(part))
        volume = mean_of(parts)
        return CombinedState(state.iteration + 1, volume, tuple(parts), self.objective(volume))
