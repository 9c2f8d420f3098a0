"""Which solver a method is, and how it is set up for a series."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.operators.view_kernel import ViewKernel
from manyviews.operators.view_weighting import Overlap, weight_image
from manyviews.solvers.alternating_directions import AlternatingDirections, SplitPenalties, Terms
from manyviews.solvers.conjugate_gradient import ConjugateGradient
from manyviews.solvers.consensus import Consensus, ProximalMap, Together
from manyviews.solvers.driver import Solver
from manyviews.solvers.least_squares import LeastSquares, Map
from manyviews.solvers.proximal_maps import (
    DataTerm,
    NonNegative,
    PrintedGradientSteps,
    Smoothness,
    TotalVariation,
)
from manyviews.solvers.single_pass import DirectCombine, WeightedBackProjection
from manyviews.solvers.sirt import Landweber, NormalisedSirt
from manyviews.tilt.options import SUBSET_METHODS
from manyviews.tilt.plan import Plan
from manyviews.tilt.solve.problem import TiltProblem
from manyviews.tilt.solve.subsets import Order, Subset, make_subsets

# Weakest view overlap, in units of one view, that weighted back-projection divides by.
_WEIGHTING_FLOOR = 1.0
# Strength of the anchor of an agent, as a fraction of its share of `TiltProblem.spectral_bound`. Of those
# tried, from 0.01 to 1 times the largest eigenvalue, about 1.3 times that bound, 0.03 reached a given
# objective in the fewest passes (benchmarks/consensus_anchor.py); 0.023, as here, is as good
# (docs/convergence.md).
_ANCHOR = 0.03
# Penalties of admm as fractions of `TiltProblem.spectral_bound`, and when it applies the projectors
# (docs/decisions/0014-tilt-priors.md).
_SLOPES, _BOUND = 0.01, 0.01
_CORRECT_AFTER = 10
# What is added at all frequencies of the preconditioner of cg, in views: from 3 to 20 are about as good, less
# raises what no view sees.
_SHIFT = 10.0

Objective = Callable[[torch.Tensor], float]


def make_solver(problem: TiltProblem, plan: Plan) -> Solver[Any]:
    """The solver of a method, ready for ``init`` or for a checkpoint."""
    return _MAKERS[plan.method](problem, plan)


def agent_count(plan: Plan) -> int:
    """View subsets and priors that a method works on at once; 1 for methods without."""
    if plan.method not in SUBSET_METHODS:
        return 1
    priors = plan.non_negative + (plan.total_variation > 0) + (plan.smoothness > 0)
    return plan.subsets + (priors if plan.method == "consensus" else 0)


def _wbp(problem: TiltProblem, plan: Plan) -> Solver[Any]:
    kernel = problem.kernel(circulant=True)
    assert kernel.circulant is not None
    overlap = Overlap(kernel.circulant.cpu().numpy(), kernel.padded)
    floor = max(_WEIGHTING_FLOOR, problem.damping) * problem.one_view
    matrices = problem.projector.geometry.matrices

    def weighted(views: NDArray[np.int64], images: torch.Tensor) -> torch.Tensor:
        pairs = zip(images, matrices[views], strict=True)
        found = [weight_image(image, matrix, overlap, floor) for image, matrix in pairs]
        return torch.stack(found) if found else images

    return WeightedBackProjection(problem.least_squares(kernel), lambda: problem.back_projection(weighted)[0])


def _cg(problem: TiltProblem, plan: Plan) -> Solver[Any]:
    return make_cg(problem, plan.refresh)


def make_cg(
    problem: TiltProblem, refresh: int | None, *, known: tuple[ViewKernel, LeastSquares] | None = None
) -> ConjugateGradient:
    """Conjugate gradients for the views of a problem, preconditioned where they are damped by frequency.

    ``known`` are its kernel, periodic too, and its least squares without any damping, where they are there.
    """
    by_frequency = any(problem.roughness)
    guess = problem.guess()
    if known is None and not by_frequency and guess is None:
        return ConjugateGradient(problem.least_squares(), refresh_every=refresh)
    kernel: ViewKernel | None
    precondition: Map | None = None
    if by_frequency:
        kernel = known[0] if known else problem.kernel(periodic=True)
        shift = (problem.damping + _SHIFT) * problem.one_view
        precondition = problem.preconditioner(kernel.periodic, problem.scaled_roughness, shift)
        kernel = replace(kernel, periodic=None)
    else:
        kernel = known[0] if known else problem.wanted_kernel()
    target, energy = (known[1].target, known[1].data_energy) if known else problem.back_projection()
    least_squares = problem.quadratic_problem(kernel, target, energy)
    if guess is not None:
        least_squares = replace(least_squares, first_target=guess[0], first_energy=guess[1])
    return ConjugateGradient(least_squares, refresh_every=refresh, precondition=precondition)


def _admm(problem: TiltProblem, plan: Plan) -> AlternatingDirections:
    return make_admm(problem, Terms(plan.total_variation, plan.non_negative))


def make_admm(
    problem: TiltProblem,
    terms: Terms,
    *,
    correct_after: int = _CORRECT_AFTER,
    known: tuple[ViewKernel, LeastSquares] | None = None,
) -> AlternatingDirections:
    """Alternating directions for the views of a problem.

    ``known`` are its kernel, periodic too, and its least squares without any damping, where they are there
    already.
    """
    kernel = known[0] if known else problem.kernel(periodic=True)
    size = problem.spectral_bound
    penalties = SplitPenalties(slopes=_SLOPES * size, bound=_BOUND * size)
    slopes = penalties.slopes if terms.total_variation > 0 else 0.0
    first, *others = problem.scaled_roughness or (0.0,)
    # where nothing else holds what no view sees, as for conjugate gradients
    held = terms.total_variation > 0 or terms.non_negative
    shift = penalties.bound + (problem.damping + (0.0 if held else _SHIFT)) * problem.one_view
    precondition = problem.preconditioner(kernel.periodic, (first + slopes, *others), shift)
    kernel = replace(kernel, periodic=None)
    target, energy = (known[1].target, known[1].data_energy) if known else problem.back_projection()
    return AlternatingDirections(
        problem.quadratic_problem(kernel, target, energy),
        terms,
        penalties,
        precondition,
        correct_after=correct_after,
    )


def _sirt(problem: TiltProblem, plan: Plan) -> Solver[Any]:
    if plan.sirt_form == "landweber":
        return Landweber(
            problem.least_squares(),
            relaxation=plan.relaxation,
            non_negative=plan.non_negative,
        )
    gradient, columns, energy = problem.normalised()
    return NormalisedSirt(
        gradient,
        columns,
        energy,
        relaxation=plan.relaxation,
        non_negative=plan.non_negative,
        space=problem.space,
    )


def _subsets(problem: TiltProblem, plan: Plan) -> tuple[Subset, ...]:
    order: Order = "adjacent" if plan.subset_order == "adjacent" else "interleaved"
    return make_subsets(problem.projector.geometry, plan.subsets, plan.overlap, order)


@dataclass(frozen=True)
class _Group:
    """What this process's group of ranks works on.

    ``agents`` are the numbers of its agents, subsets first, then priors; ``pieces`` and ``parts`` the problem
    of each subset, as views and as least squares. ``together`` is how agents of all groups meet.
    """

    agents: tuple[int, ...]
    subsets: list[Subset]
    pieces: list[TiltProblem]
    parts: list[LeastSquares]
    together: Together

    @classmethod
    def of(cls, problem: TiltProblem, plan: Plan, *, weighted: bool, priors: int = 0) -> _Group:
        every = _subsets(problem, plan)
        agents = problem.place.own(len(every) + priors)
        subsets = [every[number] for number in agents if number < len(every)]
        pieces = [problem.part(subset, weighted=weighted) for subset in subsets]
        groups = problem.place.across if problem.place.layout.groups > 1 else None
        return cls(
            agents=agents,
            subsets=subsets,
            pieces=pieces,
            parts=[piece.least_squares() for piece in pieces],
            together=Together(len(every) + priors, groups),
        )

    def objective(self, problem: TiltProblem, *, adds_up: bool) -> Objective:
        """Value of the whole objective at a volume: the sum over the groups of that of their views.

        ``adds_up``: the subsets' problems are shares of the whole, so that their targets need not be found
        again.
        """
        if not self.parts:
            return lambda x: self.together.total(0.0)
        # a subset that is projected directly would make the value depend on how subsets are grouped
        if adds_up and len(self.parts) == 1 and self.pieces[0].convolve == problem.convolve:
            whole = self.parts[0]
        else:
            union = problem.union(self.subsets)
            kernel = union.kernel()
            if adds_up:
                target = problem.space.copy(self.parts[0].target)
                for part in self.parts[1:]:
                    target.add_(part.target)
                energy = sum(part.data_energy for part in self.parts)
                whole = union.quadratic_problem(kernel, target, energy)
            else:
                whole = union.least_squares(kernel)
        return lambda x: self.together.total(whole.value(x))


def _direct_combine(problem: TiltProblem, plan: Plan) -> Solver[Any]:
    group = _Group.of(problem, plan, weighted=False)
    return DirectCombine(
        group.parts,
        relaxation=plan.relaxation,
        objective=group.objective(problem, adds_up=plan.overlap == 0),
        space=problem.space,
        together=group.together,
    )


def _wang2020(problem: TiltProblem, plan: Plan) -> Solver[Any]:
    group = _Group.of(problem, plan, weighted=False)

    def printed(part: LeastSquares) -> ProximalMap:
        return PrintedGradientSteps(
            lambda x: part.normal(x).neg_().add_(part.target),
            plan.relaxation / part.lipschitz,
            plan.inner_iterations,
            problem.space,
        )

    return Consensus(
        [printed(part) for part in group.parts],
        problem.space,
        mann=plan.mann,
        objective=group.objective(problem, adds_up=plan.overlap == 0),
        passes_per_iteration=float(plan.inner_iterations),
        warm_start=False,
        together=group.together,
    )


def _consensus(problem: TiltProblem, plan: Plan) -> Solver[Any]:
    return make_consensus(problem, plan)


def make_consensus(problem: TiltProblem, plan: Plan, *others: ProximalMap) -> Consensus:
    """Consensus of view subsets, the priors of the plan, and ``others`` in one group of processes."""
    priors = [*_priors(problem, plan), *(_whatever_the_step(one) for one in others)]
    group = _Group.of(problem, plan, weighted=True, priors=len(priors))
    anchor = _ANCHOR * problem.spectral_bound / plan.subsets
    maps: list[ProximalMap] = [
        DataTerm(part.hessian, part.target, anchor, plan.inner_iterations, problem.space)
        for part in group.parts
    ]
    maps += [priors[number - plan.subsets](1.0 / anchor) for number in group.agents[len(maps) :]]
    return Consensus(
        maps,
        problem.space,
        mann=plan.mann,
        objective=group.objective(problem, adds_up=True),
        passes_per_iteration=float(plan.inner_iterations + 1),
        together=group.together,
    )


def _whatever_the_step(term: ProximalMap) -> Callable[[float], ProximalMap]:
    return lambda step: term


def _priors(problem: TiltProblem, plan: Plan) -> list[Callable[[float], ProximalMap]]:
    """Prior terms, each made from the step sigma^2 of eq. (4)."""
    space = problem.space
    made: list[Callable[[float], ProximalMap]] = []
    if plan.non_negative:
        made.append(lambda step: NonNegative(space))
    if plan.total_variation > 0:
        made.append(lambda step: TotalVariation(plan.total_variation * step, space=space))
    if plan.smoothness > 0:
        made.append(lambda step: Smoothness(plan.smoothness * step, space=space))
    return made


_MAKERS: dict[str, Callable[[TiltProblem, Plan], Solver[Any]]] = {
    "wbp": _wbp,
    "sirt": _sirt,
    "cg": _cg,
    "admm": _admm,
    "direct-combine": _direct_combine,
    "wang2020": _wang2020,
    "consensus": _consensus,
}
