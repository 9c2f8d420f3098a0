"""Methods that are no consensus of anything: one filtering, and the mean of independent reconstructions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from manyviews.solvers.consensus import Together
from manyviews.solvers.least_squares import LeastSquares
from manyviews.solvers.space import Space
from manyviews.solvers.state import AgentSlabs, Slab


@dataclass(frozen=True)
class FilteredState:
    """Before and after the one step."""

    iteration: int
    iterate: Slab
    objective: float

    def measures(self) -> dict[str, float]:
        """Objective and passes over the data so far."""
        return {"objective": self.objective, "data_passes": float(self.iteration)}


class WeightedBackProjection:
    """Back-projection divided by the transform of its own point-spread (Radermacher's R-weighting, 1992).

    The point-spread is that of all views of all axes together, so the weighting is right for any of them. The
    answer, which ``filtered`` makes, is measured by ``problem``.
    """

    def __init__(self, problem: LeastSquares, filtered: Callable[[], torch.Tensor]) -> None:
        self.problem = problem
        self.filtered = filtered

    def init(self) -> FilteredState:
        """Nothing yet."""
        return FilteredState(0, self.problem.vectors.zeros(), 0.5 * self.problem.data_energy)

    def step(self, state: FilteredState) -> FilteredState:
        """Filter."""
        volume = self.filtered()
        return FilteredState(1, volume, self.problem.value(volume))


@dataclass(frozen=True)
class CombinedState:
    """Between iterations: every subset's own volume, and their mean."""

    iteration: int
    iterate: Slab
    parts: AgentSlabs
    objective: float

    def measures(self) -> dict[str, float]:
        """Objective of the mean and passes over the data so far."""
        return {"objective": self.objective, "data_passes": float(self.iteration)}


class DirectCombine:
    """DirectCombine-SIRT of Wang et al. 2020: a Landweber run for each subset alone, then the mean.

    Parameters
    ----------
    problems
        One for each subset of this group of processes.
    relaxation
        Fraction of 1 / lipschitz.
    objective
        Value of the whole objective at a volume, for the record.
    space
        Where the volumes live; None: whole ones in memory.
    together
        How the subsets of several groups of processes come together; None: they are all here.
    """

    def __init__(
        self,
        problems: Sequence[LeastSquares],
        *,
        relaxation: float,
        objective: Callable[[torch.Tensor], float],
        space: Space | None = None,
        together: Together | None = None,
    ) -> None:
        self.space = space or problems[0].vectors
        self.together = together or Together(len(problems))
        self.problems = problems
        self.relaxation = relaxation
        self.objective = objective

    def init(self) -> CombinedState:
        """All subsets from an empty volume."""
        start = self.space.zeros()
        parts = tuple(self.space.copy(start) for _ in self.problems)
        return CombinedState(0, start, parts, self.objective(start))

    def step(self, state: CombinedState) -> CombinedState:
        """One gradient step in every subset."""
        parts = []
        for problem, part in zip(self.problems, state.parts, strict=True):
            gradient = problem.hessian(part).neg_().add_(problem.target)
            parts.append(gradient.mul_(self.relaxation / problem.lipschitz).add_(part))
        volume = self.together.mean(parts, self.space)
        return CombinedState(state.iteration + 1, volume, tuple(parts), self.objective(volume))
