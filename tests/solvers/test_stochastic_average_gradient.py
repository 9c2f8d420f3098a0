"""SAGD against convex problems whose minimum is known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls

from manyviews.runs.state import state_from_arrays, state_to_arrays
from manyviews.solvers.driver import iterate
from manyviews.solvers.stochastic_average_gradient import (
    Evaluation,
    Memory,
    SagState,
    StochasticAverageGradient,
    batch_of,
    bisect_lipschitz,
    double_lipschitz,
    paper_step,
)

SHAPE = (2, 3, 2)
UNKNOWNS = 12


@dataclass(frozen=True)
class Pull:
    """Log prior ``-rate sum(V)``."""

    rate: float

    def value(self, volume: torch.Tensor) -> float:
        return -self.rate * float(volume.sum())

    def gradient(self, volume: torch.Tensor) -> torch.Tensor:
        return torch.full_like(volume, -self.rate)


class LeastSquaresBatches:
    """``f_k = |A_k V - b_k|^2 / 2``; remembers how often each mini-batch was seen."""

    def __init__(self, batches: int, rows: int = 8, seed: int = 3) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.matrices = torch.randn(batches, rows, UNKNOWNS, generator=generator, dtype=torch.float64)
        self.data = torch.randn(batches, rows, generator=generator, dtype=torch.float64)

    @property
    def batches(self) -> int:
        return len(self.data)

    def value(self, volume: torch.Tensor, batch: int, iteration: int, memory: Memory) -> float:
        residual = self.matrices[batch] @ volume.reshape(-1) - self.data[batch]
        return 0.5 * float(residual @ residual)

    def evaluate(self, volume: torch.Tensor, batch: int, iteration: int, memory: Memory) -> Evaluation:
        residual = self.matrices[batch] @ volume.reshape(-1) - self.data[batch]
        gradient = (self.matrices[batch].T @ residual).reshape(volume.shape)
        seen = memory[0] + 1 if memory else torch.ones(1)
        return Evaluation(0.5 * float(residual @ residual), gradient, (seen,), 0.25)

    def largest_constant(self) -> float:
        return max(float(torch.linalg.matrix_norm(m, 2)) ** 2 for m in self.matrices)


def constant_step(iteration: int) -> float:
    return 1 / 4


def solver_of(problem: LeastSquaresBatches, **options) -> StochasticAverageGradient:
    prior = options.pop("prior", None)
    return StochasticAverageGradient(problem, prior, torch.ones(SHAPE, dtype=torch.float64), **options)


def test_it_reaches_the_unconstrained_minimum_at_a_linear_rate():
    problem = LeastSquaresBatches(10)
    solver = solver_of(problem, step_length=constant_step, non_negative=False)
    truth = torch.linalg.lstsq(problem.matrices.reshape(-1, UNKNOWNS), problem.data.reshape(-1)).solution
    errors = [float((s.iterate.reshape(-1) - truth).norm()) for s in iterate(solver, solver.init(), 1600)]
    assert errors[-1] < 1e-9
    # From 100 to 300 iterations and from 300 to 500 the error falls by comparable factors; later is rounding.
    first, second = np.log10(errors[99] / errors[299]), np.log10(errors[299] / errors[499])
    assert first > 0.7
    assert second > 0.5 * first


def test_with_a_prior_and_positivity_it_reaches_the_constrained_minimum():
    problem, rate = LeastSquaresBatches(6), 2.0
    solver = solver_of(problem, prior=Pull(rate), step_length=constant_step)
    *_, state = iterate(solver, solver.init(), 3000)
    # min |Ax - b|^2 / 2 + rate sum(x) over x >= 0, as a non-negative least squares problem of its own:
    matrix, data = problem.matrices.reshape(-1, UNKNOWNS), problem.data.reshape(-1)
    normal = matrix.T @ matrix
    root = torch.linalg.cholesky(normal)
    right = torch.linalg.solve_triangular(root, (matrix.T @ data - rate)[:, None], upper=False)[:, 0]
    expected, _ = nnls(root.T.numpy(), right.numpy())
    assert (expected == 0).any()
    np.testing.assert_allclose(state.iterate.reshape(-1).numpy(), expected, atol=1e-8)


def test_the_running_sum_is_the_sum_of_the_latest_gradients():
    problem = LeastSquaresBatches(5)
    solver = solver_of(problem, seed=4)
    state = solver.init()
    for _ in range(13):
        state = solver.step(state)
    assert state.seen() == 5
    torch.testing.assert_close(state.total, torch.stack(state.gradients).sum(0))
    assert [int(memory[0]) for memory in state.memories] == [
        sum(batch_of(iteration, 5, 4) == batch for iteration in range(13)) for batch in range(5)
    ]
    assert state.measures()["work"] == 0.25


def test_the_first_step_is_a_plain_gradient_step_of_its_mini_batch():
    problem = LeastSquaresBatches(4)
    solver = solver_of(problem, non_negative=False, step_length=lambda _: 0.5)
    state = solver.step(solver.init())
    batch = batch_of(0, 4, 0)
    gradient = state.gradients[batch]
    torch.testing.assert_close(state.iterate, solver.start - 0.5 / state.lipschitz * gradient)
    assert [g.numel() > 0 for g in state.gradients] == [k == batch for k in range(4)]


def test_the_lipschitz_constant_stays_near_the_largest_curvature_it_meets():
    problem = LeastSquaresBatches(10)
    solver = solver_of(problem, step_length=constant_step)
    for state in iterate(solver, solver.init(), 200):
        assert 0 < state.lipschitz <= 2 * problem.largest_constant()


def test_it_shrinks_between_searches():
    solver = solver_of(LeastSquaresBatches(3), search_every=1000)
    first = solver.step(solver.init())
    second = solver.step(first)
    assert second.lipschitz == pytest.approx(first.lipschitz * 2 ** (-1 / 150))


def test_a_state_survives_its_checkpoint_and_goes_on_identically():
    problem = LeastSquaresBatches(5)
    solver = solver_of(problem, seed=9)
    state = solver.init()
    for _ in range(3):
        state = solver.step(state)
    again = state_from_arrays(SagState, dict(state_to_arrays(state)))
    for _ in range(30):
        state, again = solver.step(state), solver.step(again)
    assert torch.equal(state.iterate, again.iterate)
    assert state.lipschitz == again.lipschitz


def test_a_step_leaves_the_state_it_was_given_alone():
    solver = solver_of(LeastSquaresBatches(3))
    state = solver.step(solver.init())
    copy = replace(state, iterate=state.iterate.clone(), total=state.total.clone())
    solver.step(state)
    assert torch.equal(state.iterate, copy.iterate)
    assert torch.equal(state.total, copy.total)


def test_a_gradient_of_zero_moves_nothing():
    problem = LeastSquaresBatches(2)
    problem.matrices.zero_()
    solver = solver_of(problem)
    state = solver.step(solver.step(solver.init()))
    assert torch.equal(state.iterate, solver.start)


def test_the_papers_step_lengths():
    assert [paper_step(t) for t in (0, 149, 150, 300, 749, 750, 5000)] == [
        2,
        2,
        1,
        0.5,
        1 / 8,
        1 / 16,
        1 / 16,
    ]


@given(batches=st.integers(1, 40), seed=st.integers(0, 2**31))
def test_every_epoch_visits_every_mini_batch_once(batches: int, seed: int):
    visited = [batch_of(iteration, batches, seed) for iteration in range(3 * batches)]
    for epoch in range(3):
        assert sorted(visited[epoch * batches : (epoch + 1) * batches]) == list(range(batches))


@given(threshold=st.floats(1e-8, 1e8), guess=st.floats(1e-8, 1e8), tolerance=st.floats(1.01, 4.0))
def test_bisection_finds_the_smallest_constant_that_passes(threshold: float, guess: float, tolerance: float):
    found = bisect_lipschitz(lambda lipschitz: lipschitz >= threshold, guess, tolerance)
    assert threshold <= found <= threshold * tolerance * (1 + 1e-12)


@given(threshold=st.floats(1e-8, 1e8), start=st.floats(1e-8, 1e8))
def test_doubling_stops_at_the_first_that_passes(threshold: float, start: float):
    found = double_lipschitz(lambda lipschitz: lipschitz >= threshold, start)
    assert found >= threshold
    assert found == start or found / 2 < threshold


def test_a_test_that_never_passes_ends():
    assert np.isfinite(double_lipschitz(lambda _: False, 1.0))
    assert np.isfinite(bisect_lipschitz(lambda _: False, 1.0))
