"""What every solver owes: it goes where it should, leaves its states alone, and goes on from a checkpoint.

Solvers are found by themselves: a class with ``init`` and ``step`` that has no `Case` here fails the test.
"""

import copy
import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pytest
import torch
from dense_problem import SHAPE, VOXELS, flat, random_dense, volume
from scipy.optimize import lsq_linear

from manyviews import solvers
from manyviews.operators.differences import differences
from manyviews.random import Stream, generator
from manyviews.runs.checkpoint import load_checkpoint, save_checkpoint
from manyviews.runs.state import state_from_arrays, state_to_arrays
from manyviews.solvers.alternating_directions import AlternatingDirections, SplitPenalties, Terms
from manyviews.solvers.conjugate_gradient import ConjugateGradient
from manyviews.solvers.consensus import Consensus
from manyviews.solvers.driver import Solver, iterate
from manyviews.solvers.preconditioned_sgd import LineSearch, PreconditionedSgd, Probing
from manyviews.solvers.proximal_maps import (
    DataTerm,
    NonNegative,
    PrintedGradientSteps,
    Smoothness,
    TotalVariation,
)
from manyviews.solvers.single_pass import DirectCombine, WeightedBackProjection
from manyviews.solvers.sirt import Landweber, NormalisedSirt
from manyviews.solvers.space import Space
from manyviews.solvers.stochastic_average_gradient import Evaluation, StochasticAverageGradient

DENSE = [random_dense(seed, damping=2.0) for seed in range(3)]
ONE = DENSE[0]


@dataclass(frozen=True)
class Case:
    """A solver on a small dense problem.

    Attributes
    ----------
    make
        A new solver; always the same.
    away
        How far a state is from where the solver goes, e.g. the distance from the minimiser.
    iterations, share
        After so many iterations, ``away`` is at most this share of what it was after the first.
    """

    make: Callable[[], Solver[Any]]
    away: Callable[[Any], float]
    iterations: int
    share: float


def distance_from(answer):
    return lambda state: float(np.linalg.norm(flat(state.iterate) - answer))


def common_answer():
    """The minimiser of the sum of all three objectives."""
    hessian = sum(dense.normal_matrix + dense.damping * np.eye(VOXELS) for dense in DENSE)
    return np.linalg.solve(hessian, sum(dense.back_projection for dense in DENSE))


def non_negative_answer():
    root = np.sqrt(ONE.weights)
    matrix = np.concatenate([root[:, None] * ONE.matrix, math.sqrt(ONE.damping) * np.eye(VOXELS)])
    data = np.concatenate([root * ONE.data, np.zeros(VOXELS)])
    return lsq_linear(matrix, data, bounds=(0.0, np.inf), tol=1e-14).x


def normalised_sirt():
    scale = torch.full(SHAPE, 0.01, dtype=torch.float64)
    return NormalisedSirt(ONE.least_squares().exact_gradient, scale, 1.0, relaxation=0.9)


def consensus(maps):
    space = Space.like(torch.zeros(SHAPE, dtype=torch.float64))
    return Consensus(maps, space, mann=0.7, objective=ONE.objective, passes_per_iteration=1.0)


def data_terms():
    problems = [dense.least_squares() for dense in DENSE]
    return [DataTerm(problem.hessian, problem.target, 20.0, 3) for problem in problems]


def printed_consensus():
    return consensus([PrintedGradientSteps(lambda x, d=d: volume(d.gradient(x)), 1e-3, 3) for d in DENSE])


def direct_combine():
    problems = [dense.least_squares() for dense in DENSE]
    return DirectCombine(problems, relaxation=0.8, objective=ONE.objective)


class Batches:
    """Each problem is a mini-batch; remembers how often it was seen."""

    batches = len(DENSE)

    def value(self, x, batch, iteration, memory):
        return DENSE[batch].objective(x)

    def evaluate(self, x, batch, iteration, memory):
        dense = DENSE[batch]
        gradient = dense.damping * x - volume(dense.gradient(x))
        seen = memory[0] + 1 if memory else torch.ones(1)
        return Evaluation(dense.objective(x), gradient, (seen,), 0.25)


def stochastic():
    start = torch.zeros(SHAPE, dtype=torch.float64)
    return StochasticAverageGradient(
        Batches(), None, start, step_length=lambda iteration: 0.25, non_negative=False
    )


class OneImage:
    """The first problem as a mean over one image, so that nothing is random but probes."""

    images = 1

    def value(self, x, batch):
        return ONE.objective(x)

    def value_and_gradient(self, x, batch):
        return self.value(x, batch), ONE.damping * x - volume(ONE.gradient(x))

    def hessian_product(self, x, v, batch):
        return volume(ONE.normal_matrix @ flat(v)) + ONE.damping * v


def preconditioned():
    start = torch.zeros(SHAPE, dtype=torch.float64)
    search = LineSearch(decrease=0.5, growth=2.0, longest=1.0)
    return PreconditionedSgd(OneImage(), start, diagonal=Probing(), threshold=1e-3, search=search)


def penalised(x, strength):
    """The objective with total variation, infinite below zero."""
    slopes = torch.linalg.vector_norm(differences(x), dim=0)
    return ONE.objective(x) + strength * float(slopes.sum())


def steepness(x, strength):
    """How much lower the objective is at the best of many places near the part of x that is not negative."""
    x = x.clamp(min=0.0)
    here = penalised(x, strength)
    draw = generator(0, Stream.TEST, 7)
    steps = [torch.from_numpy(draw.standard_normal(SHAPE)) for _ in range(200)]
    near = [(x + size * step).clamp(min=0.0) for step in steps for size in (0.1, 0.01, 1e-3)]
    gradient = volume(ONE.gradient(x)) - ONE.damping * x
    near += [(x + size * gradient).clamp(min=0.0) for size in (1e-2, 1e-3, 1e-4)]
    return max(here - min(penalised(one, strength) for one in near), 0.0) / abs(here)


def alternating(terms, **options):
    penalties = SplitPenalties(slopes=5.0, bound=5.0)
    return AlternatingDirections(ONE.least_squares(), terms, penalties, steps=3, **options)


CASES = {
    "alternating directions": Case(lambda: alternating(Terms()), distance_from(ONE.answer()), 40, 1e-6),
    "alternating directions with a bound": Case(
        lambda: alternating(Terms(0.0, True)), distance_from(non_negative_answer()), 400, 1e-6
    ),
    "alternating directions with total variation": Case(
        lambda: alternating(Terms(3.0, True), correct_after=3),
        lambda state: steepness(state.iterate, 3.0),
        400,
        1e-3,
    ),
    "preconditioned SGD": Case(preconditioned, distance_from(ONE.answer()), 200, 1e-4),
    "conjugate gradients": Case(
        lambda: ConjugateGradient(ONE.least_squares()), distance_from(ONE.answer()), 30, 1e-8
    ),
    "refreshed conjugate gradients": Case(
        lambda: ConjugateGradient(ONE.least_squares(), refresh_every=2),
        distance_from(ONE.answer()),
        100,
        1e-6,
    ),
    "landweber": Case(
        lambda: Landweber(ONE.least_squares(), relaxation=0.5, non_negative=True),
        distance_from(non_negative_answer()),
        600,
        1e-5,
    ),
    "normalised": Case(
        normalised_sirt,
        distance_from(np.linalg.solve(ONE.normal_matrix, ONE.back_projection)),
        600,
        1e-5,
    ),
    "consensus": Case(lambda: consensus(data_terms()), distance_from(common_answer()), 100, 1e-6),
    "consensus with priors": Case(
        lambda: consensus([*data_terms(), NonNegative(), TotalVariation(0.1), Smoothness(0.2)]),
        lambda state: state.disagreement,
        120,
        1e-2,
    ),
    "wang2020": Case(
        printed_consensus,
        lambda state: sum(dense.objective(state.iterate) for dense in DENSE),
        100,
        0.9,
    ),
    "direct-combine": Case(
        direct_combine,
        distance_from(np.mean([dense.answer() for dense in DENSE], axis=0)),
        400,
        1e-5,
    ),
    "wbp": Case(
        lambda: WeightedBackProjection(ONE.least_squares(), lambda: volume(ONE.answer())),
        distance_from(ONE.answer()),
        1,
        0.0,
    ),
    "stochastic average gradient": Case(stochastic, distance_from(common_answer()), 900, 1e-5),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
every_solver = pytest.mark.parametrize("make", [case.make for case in CASES.values()], ids=CASES.keys())


def test_every_solver_has_a_case():
    found = set()
    for module in pkgutil.iter_modules(solvers.__path__, "manyviews.solvers."):
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if hasattr(kind, "init") and hasattr(kind, "step") and kind is not Solver:
                found.add(kind)
    missing = {kind.__name__ for kind in found - {type(case.make()) for case in CASES.values()}}
    assert not missing, f"give {sorted(missing)} a case, so that what every solver owes is tested"


@every_case
def test_it_goes_where_it_should(case):
    solver = case.make()
    states = list(iterate(solver, solver.init(), case.iterations))
    assert states[-1].iteration == case.iterations
    assert case.away(states[-1]) <= case.share * case.away(states[0])


@every_solver
def test_its_measures_have_names(make):
    solver = make()
    state = solver.init()
    names = list(state.measures())
    assert names
    assert all(name.replace("_", "").isalpha() for name in names)
    for _ in range(2):
        state = solver.step(state)
        assert list(state.measures()) == names
        assert all(math.isfinite(value) for value in state.measures().values())


def assert_identical(a, b):
    assert type(a) is type(b)
    for field in fields(a):
        assert_identical_values(getattr(a, field.name), getattr(b, field.name), field.name)


def assert_identical_values(a, b, name):
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype, name
        assert torch.equal(a, b), name
    elif isinstance(a, tuple):
        assert len(a) == len(b), name
        for one, other in zip(a, b, strict=True):
            assert_identical_values(one, other, name)
    else:
        assert a == b, name


@every_solver
def test_a_step_leaves_its_state_alone(make):
    solver = make()
    state = solver.init()
    kept = []
    for _ in range(5):
        kept.append((state, copy.deepcopy(state)))
        state = solver.step(state)
        for given, before in kept:
            assert_identical(given, before)


@every_solver
def test_a_step_is_repeatable_after_a_checkpoint(make, tmp_path):
    """Another solver made the same way goes on from the file with exactly the same states."""
    solver = make()
    state = solver.init()
    for iteration in range(4):
        save_checkpoint(tmp_path, state_to_arrays(state), iteration)
        values, number = load_checkpoint(tmp_path)
        restored = state_from_arrays(type(state), values)
        assert number == iteration
        assert_identical(restored, state)
        following = make().step(restored)
        state = solver.step(state)
        assert_identical(following, state)
