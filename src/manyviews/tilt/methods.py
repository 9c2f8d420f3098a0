"""Which solver a method is, and how it is set up for a series."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.operators.view_kernel import ViewKernel, padded_shape
from manyviews.operators.view_weighting import Overlap, weight_image
from manyviews.solvers.agents import (
    data_agent,
    non_negative_agent,
    printed_agent,
    smoothness_agent,
    total_variation_agent,
)
from manyviews.solvers.conjugate_gradient import ConjugateGradient
from manyviews.solvers.consensus import Agent, Consensus
from manyviews.solvers.driver import Solver
from manyviews.solvers.least_squares import LeastSquares
from manyviews.solvers.single_pass import DirectCombine, WeightedBackProjection
from manyviews.solvers.sirt import Landweber, NormalisedSirt
from manyviews.tilt.plan import Settings
from manyviews.tilt.problem import TiltProblem, back_projection, largest
from manyviews.tilt.subsets import Order, Subset, make_subsets

# Weakest view overlap, in units of one view, that weighted back-projection divides by.
_WEIGHTING_FLOOR = 1.0
# Strength of the anchor of an agent, as a fraction of its share of the largest eigenvalue: of those tried,
# from 0.01 to 1, it reached a given objective in the fewest passes (benchmarks/consensus_anchor.py).
_ANCHOR = 0.03

Objective = Callable[[torch.Tensor], float]


def make_solver(problem: TiltProblem, settings: Settings) -> Solver[Any]:
    """The solver of a method, ready for ``init`` or for a checkpoint."""
    return _MAKERS[settings.method](problem, settings)


def _wbp(problem: TiltProblem, settings: Settings) -> Solver[Any]:
    kernel = problem.kernel(circulant=True)
    assert kernel.circulant is not None
    overlap = Overlap(kernel.circulant.cpu().numpy(), kernel.padded)
    floor = max(_WEIGHTING_FLOOR, problem.damping) * problem.one_view
    matrices = problem.projector.geometry.matrices

    def weighted(views: NDArray[np.int64]) -> torch.Tensor:
        images = zip(problem.read(views), matrices[views], strict=True)
        return torch.stack([weight_image(image, matrix, overlap, floor) for image, matrix in images])

    def filtered(_back_projection: torch.Tensor) -> torch.Tensor:
        return back_projection(problem.projector, weighted, problem.weights)[0]

    return WeightedBackProjection(problem.least_squares(kernel), filtered)


def _cg(problem: TiltProblem, settings: Settings) -> Solver[Any]:
    return ConjugateGradient(problem.least_squares(), refresh_every=settings.refresh)


def _sirt(problem: TiltProblem, settings: Settings) -> Solver[Any]:
    if settings.sirt_form == "landweber":
        return Landweber(
            problem.least_squares(),
            relaxation=settings.relaxation,
            non_negative=settings.non_negative,
        )
    gradient, columns, energy = problem.normalised()
    return NormalisedSirt(
        gradient, columns, energy, relaxation=settings.relaxation, non_negative=settings.non_negative
    )


def _subsets(problem: TiltProblem, settings: Settings) -> tuple[Subset, ...]:
    order: Order = "adjacent" if settings.subset_order == "adjacent" else "interleaved"
    return make_subsets(problem.projector.geometry, settings.subsets, settings.overlap, order)


def _objective(
    problem: TiltProblem, kernel: ViewKernel, parts: Sequence[LeastSquares], weighted: bool
) -> Objective:
    """Value of the whole objective: from the subsets' targets where they add up, else from its own."""
    if weighted:
        target = sum((part.target for part in parts[1:]), parts[0].target)
        energy = sum(part.data_energy for part in parts)
        normal = problem.normal_map(kernel)
        whole = LeastSquares(normal, target, energy, lipschitz=1.0)
    else:
        whole = problem.least_squares(kernel)

    def value(x: torch.Tensor) -> float:
        return whole.objective(x, whole.normal(x))

    return value


def _direct_combine(problem: TiltProblem, settings: Settings) -> Solver[Any]:
    kernel = problem.kernel()
    parts = [problem.part(subset, weighted=False).least_squares() for subset in _subsets(problem, settings)]
    return DirectCombine(
        parts,
        relaxation=settings.relaxation,
        objective=_objective(problem, kernel, parts, settings.overlap == 0),
    )


def _wang2020(problem: TiltProblem, settings: Settings) -> Solver[Any]:
    kernel = problem.kernel()
    parts = [problem.part(subset, weighted=False).least_squares() for subset in _subsets(problem, settings)]

    def agent(part: LeastSquares) -> Agent:
        return printed_agent(
            lambda x: part.normal(x).neg_().add_(part.target),
            settings.relaxation / part.lipschitz,
            settings.inner_iterations,
        )

    return Consensus(
        [agent(part) for part in parts],
        torch.zeros_like(parts[0].target),
        mann=settings.mann,
        objective=_objective(problem, kernel, parts, settings.overlap == 0),
        passes_per_iteration=float(settings.inner_iterations),
        warm_start=False,
    )


def _consensus(problem: TiltProblem, settings: Settings) -> Solver[Any]:
    # All kernels on one grid: it is that of the whole series, which has the longest rods.
    padded = padded_shape(problem.projector.groups, problem.volume_shape)
    kernel = problem.kernel(padded=padded)
    pieces = [problem.part(subset, weighted=True) for subset in _subsets(problem, settings)]
    parts = [piece.least_squares() for piece in pieces]
    priors = _priors(settings)
    anchor = _ANCHOR * largest(kernel) / len(parts)
    agents = [data_agent(part.hessian, part.target, anchor, settings.inner_iterations) for part in parts]
    agents += [make(1.0 / anchor) for make in priors]
    return Consensus(
        agents,
        torch.zeros_like(parts[0].target),
        mann=settings.mann,
        objective=_objective(problem, kernel, parts, weighted=True),
        passes_per_iteration=float(settings.inner_iterations + 1),
    )


def _priors(settings: Settings) -> list[Callable[[float], Agent]]:
    """Prior agents, each made from the step sigma^2 of eq. (4)."""
    made: list[Callable[[float], Agent]] = []
    if settings.non_negative:
        made.append(lambda step: non_negative_agent)
    if settings.total_variation > 0:
        made.append(lambda step: total_variation_agent(settings.total_variation * step))
    if settings.smoothness > 0:
        made.append(lambda step: smoothness_agent(settings.smoothness * step))
    return made


_MAKERS: dict[str, Callable[[TiltProblem, Settings], Solver[Any]]] = {
    "wbp": _wbp,
    "sirt": _sirt,
    "cg": _cg,
    "direct-combine": _direct_combine,
    "wang2020": _wang2020,
    "consensus": _consensus,
}
