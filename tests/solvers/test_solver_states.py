"""What every solver owes its states: a step leaves them alone, and a checkpoint gives them back."""

import copy
from dataclasses import fields

import pytest
import torch
from dense_problem import SHAPE, VOXELS, random_dense, volume

from manyviews.runs.checkpoint import load_checkpoint, save_checkpoint
from manyviews.runs.state import state_from_arrays, state_to_arrays
from manyviews.solvers.conjugate_gradient import ConjugateGradient
from manyviews.solvers.consensus import Consensus
from manyviews.solvers.proximal_maps import (
    DataTerm,
    NonNegative,
    PrintedGradientSteps,
    Smoothness,
    TotalVariation,
)
from manyviews.solvers.single_pass import DirectCombine, WeightedBackProjection
from manyviews.solvers.sirt import Landweber, NormalisedSirt

DENSE = [random_dense(seed, damping=2.0) for seed in range(3)]


def normalised_sirt():
    scale = torch.full(SHAPE, 0.01, dtype=torch.float64)
    return NormalisedSirt(DENSE[0].least_squares().exact_gradient, scale, 1.0, relaxation=0.9)


def consensus(agents):
    start = torch.zeros(SHAPE, dtype=torch.float64)
    return Consensus(agents, start, mann=0.7, objective=DENSE[0].objective, passes_per_iteration=1.0)


def data_consensus():
    problems = [dense.least_squares() for dense in DENSE]
    data = [DataTerm(problem.hessian, problem.target, 20.0, 3) for problem in problems]
    priors = [NonNegative(), TotalVariation(0.1), Smoothness(0.2)]
    return consensus([*data, *priors])


def printed_consensus():
    return consensus([PrintedGradientSteps(lambda x, d=d: volume(d.gradient(x)), 1e-3, 3) for d in DENSE])


def direct_combine():
    problems = [dense.least_squares() for dense in DENSE]
    return DirectCombine(problems, relaxation=0.8, objective=DENSE[0].objective)


SOLVERS = {
    "conjugate gradients": lambda: ConjugateGradient(DENSE[0].least_squares()),
    "refreshed conjugate gradients": lambda: ConjugateGradient(DENSE[0].least_squares(), refresh_every=2),
    "landweber": lambda: Landweber(DENSE[0].least_squares(), relaxation=0.5, non_negative=True),
    "normalised": normalised_sirt,
    "consensus": data_consensus,
    "wang2020": printed_consensus,
    "direct-combine": direct_combine,
    "wbp": lambda: WeightedBackProjection(
        DENSE[0].least_squares(), lambda: volume(DENSE[0].back_projection / VOXELS)
    ),
}
every_solver = pytest.mark.parametrize("make", SOLVERS.values(), ids=SOLVERS.keys())


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
