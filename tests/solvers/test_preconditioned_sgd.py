"""Preconditioned SGD: Armijo's condition as printed, steps that follow, resume to the last bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from manyviews.runs.state import state_from_arrays, state_to_arrays
from manyviews.solvers.driver import iterate
from manyviews.solvers.preconditioned_sgd import (
    LineSearch,
    PreconditionedSgd,
    PreconditionedSgdState,
    Probing,
    epoch_batches,
)


class Rows:
    """``f_i = |A_i x - b_i|^2 / 2``, badly scaled; counts what it is asked."""

    def __init__(self, images: int = 40, unknowns: int = 10, seed: int = 0, spread: float = 30.0) -> None:
        rng = np.random.default_rng(seed)
        scale = np.geomspace(1, 1 / spread, unknowns)
        self.matrices = torch.from_numpy(rng.normal(size=(images, 4, unknowns)) * scale)
        truth = torch.from_numpy(rng.normal(size=unknowns) / scale)
        self.data = self.matrices @ truth + 0.1 * torch.from_numpy(rng.normal(size=(images, 4)))
        self.values = 0

    @property
    def images(self) -> int:
        return len(self.data)

    def value(self, x, batch):
        self.values += 1
        residual = self.matrices[batch] @ x - self.data[batch]
        return 0.5 * float(residual.square().sum()) / len(batch)

    def value_and_gradient(self, x, batch):
        residual = self.matrices[batch] @ x - self.data[batch]
        gradient = torch.einsum("iru,ir->u", self.matrices[batch], residual) / len(batch)
        return 0.5 * float(residual.square().sum()) / len(batch), gradient

    def hessian_product(self, x, v, batch):
        return torch.einsum("iru,ir->u", self.matrices[batch], self.matrices[batch] @ v) / len(batch)

    def hessian(self):
        return torch.einsum("iru,irv->uv", self.matrices, self.matrices) / self.images

    def excess(self, x):
        everything = np.arange(self.images)
        flat, data = self.matrices.reshape(-1, x.numel()), self.data.reshape(-1)
        best = torch.linalg.lstsq(flat, data[:, None]).solution[:, 0]
        return self.value(x, everything) - self.value(best, everything)


def zero(problem: Rows) -> torch.Tensor:
    return torch.zeros(problem.matrices.shape[-1], dtype=torch.float64)


def last(solver: PreconditionedSgd, steps: int, state: PreconditionedSgdState | None = None):
    return list(iterate(solver, state or solver.init(), steps))[-1]


def test_every_epoch_sees_every_image_once_in_another_order():
    batches = [epoch_batches(25, 10, 3, epoch) for epoch in (0, 1)]
    for parts in batches:
        assert [len(part) for part in parts] == [9, 8, 8]
        assert sorted(np.concatenate(parts).tolist()) == list(range(25))
    assert not np.array_equal(batches[0][0], batches[1][0])
    assert all(np.array_equal(a, b) for a, b in zip(batches[0], epoch_batches(25, 10, 3, 0), strict=True))


def test_a_step_is_the_longest_of_its_sequence_that_passes():
    problem = Rows()
    diagonal = problem.hessian().diagonal()
    solver = PreconditionedSgd(problem, zero(problem), batch=10, diagonal=diagonal, seed=1)
    state = solver.init()
    for number in range(6):
        before = 10.0 if number % 4 == 0 else state.step_length
        batch = epoch_batches(40, 10, 1, number // 4)[number % 4]
        value, gradient = problem.value_and_gradient(state.iterate, batch)
        direction = gradient / diagonal
        following = solver.step(state)
        assert following.step_length == 1.2 * before / 2**following.halvings

        def passes(length, x=state.iterate, value=value, direction=direction, gradient=gradient, batch=batch):
            bound = value - 0.99 * length * float(gradient @ direction)
            return problem.value(x - length * direction, batch) <= bound

        assert passes(following.step_length)
        assert following.halvings == 0 or not passes(2 * following.step_length)
        torch.testing.assert_close(following.iterate, state.iterate - following.step_length * direction)
        assert following.objective == value
        state = following
    assert state.halvings < 40


def test_armijo_of_099_is_a_fiftieth_of_the_best_step_on_a_quadratic():
    problem = Rows(images=10)
    solver = PreconditionedSgd(problem, zero(problem), batch=10, search=LineSearch(growth=1.0, longest=1e3))
    _, gradient = problem.value_and_gradient(zero(problem), np.arange(10))
    curvature = float(gradient @ problem.hessian() @ gradient / (gradient @ gradient))
    length = solver.step(solver.init()).step_length
    assert 0.01 / curvature < length <= 0.02 / curvature


def test_a_preconditioner_gets_further_than_none():
    problem = Rows(spread=100.0)
    diagonal = problem.hessian().diagonal()
    reached = {}
    for name, one in {"none": None, "exact": diagonal, "estimated": Probing(share=0.5)}.items():
        solver = PreconditionedSgd(problem, zero(problem), batch=10, diagonal=one, search=LineSearch(0.5))
        reached[name] = problem.excess(last(solver, 40).iterate)
    assert reached["exact"] < 0.1 * reached["none"]
    # signs of the large entries are noise on the small ones of a dense matrix
    assert reached["estimated"] < 0.5 * reached["none"]


def test_halvings_are_capped_and_a_failed_step_is_not_taken():
    problem = Rows()
    search = LineSearch(growth=1.0, longest=1e6, halvings=3)
    solver = PreconditionedSgd(problem, zero(problem), batch=10, search=search)
    problem.values = 0
    state = solver.step(solver.init())
    assert problem.values == 4
    assert state.halvings == 3
    torch.testing.assert_close(state.iterate, zero(problem), rtol=0, atol=0)
    assert state.step_length < 1e6


def test_steps_of_one_length_take_no_values():
    problem = Rows()
    solver = PreconditionedSgd(
        problem, zero(problem), diagonal=problem.hessian().abs().sum(1), search=LineSearch.fixed(1.0)
    )
    state = last(solver, 5)
    assert problem.values == 0
    assert (state.step_length, state.passes) == (1.0, 10.0)
    assert problem.excess(state.iterate) < problem.excess(zero(problem))


def test_passes_count_values_gradients_and_products():
    problem = Rows()
    solver = PreconditionedSgd(problem, zero(problem), batch=10, diagonal=Probing(share=0.5), threshold=1e-6)
    problem.values = 0
    state = last(solver, 4)
    assert state.passes == pytest.approx((10 * (2 * 4 + problem.values) + 2 * 5 * 4) / 40)
    assert state.probes == 4


def test_between_probes_the_estimate_stays():
    problem = Rows()
    solver = PreconditionedSgd(problem, zero(problem), batch=10, diagonal=Probing(every=3), threshold=1e-6)
    states = list(iterate(solver, solver.init(), 7))
    assert [state.probes for state in states] == [1, 1, 1, 2, 2, 2, 3]
    assert torch.equal(states[0].diagonal, states[2].diagonal)
    assert not torch.equal(states[2].diagonal, states[3].diagonal)


def test_the_estimate_comes_to_the_diagonal():
    problem = Rows(spread=3.0)
    solver = PreconditionedSgd(problem, zero(problem), batch=20, diagonal=Probing(), threshold=1e-6)
    state = last(solver, 800)
    exact = problem.hessian().diagonal()
    assert float(((state.diagonal_mean - exact).abs() / exact).max()) < 0.1


@pytest.mark.parametrize("diagonal", [None, "fixed", Probing(share=0.5), Probing(every=3)])
def test_resumed_it_is_the_same_to_the_last_bit(diagonal):
    problem = Rows()
    given = problem.hessian().diagonal() if diagonal == "fixed" else diagonal

    def solver() -> PreconditionedSgd:
        return PreconditionedSgd(problem, zero(problem), batch=10, diagonal=given, threshold=1e-6, seed=5)

    whole = last(solver(), 11)
    for at in (1, 4, 6):
        stored = state_to_arrays(last(solver(), at))
        resumed = state_from_arrays(PreconditionedSgdState, stored, torch.device("cpu"))
        again = last(solver(), 11, resumed)
        for name, value in vars(whole).items():
            other = getattr(again, name)
            assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other, name


def test_a_step_leaves_its_state_alone():
    problem = Rows()
    solver = PreconditionedSgd(problem, zero(problem), batch=10, diagonal=Probing(), threshold=1e-6)
    state = last(solver, 3)
    kept = replace(state, iterate=state.iterate.clone(), diagonal=state.diagonal.clone(),
                   diagonal_mean=state.diagonal_mean.clone())  # fmt: skip
    solver.step(state)
    for name in ("iterate", "diagonal", "diagonal_mean"):
        assert torch.equal(getattr(state, name), getattr(kept, name))


def test_other_seeds_take_other_ways():
    problem = Rows()
    ends = [
        last(PreconditionedSgd(problem, zero(problem), batch=10, seed=seed), 4).iterate for seed in (0, 1)
    ]
    assert not torch.equal(*ends)
