import numpy as np
import pytest
import torch
from dense_problem import VOXELS, flat, random_dense, states_of, volume

from manyviews.solvers.conjugate_gradient import ConjugateGradient, solve_some


@pytest.mark.parametrize("damping", [0.0, 20.0])
@pytest.mark.parametrize("refresh", [0, 5, None])
def test_reaches_the_least_squares_answer(damping, refresh):
    dense = random_dense(damping=damping)
    last = states_of(ConjugateGradient(dense.least_squares(), refresh_every=refresh), 2 * VOXELS)[-1]
    assert flat(last.iterate) == pytest.approx(dense.answer(), abs=1e-7)


@pytest.mark.parametrize("damping", [0.0, 20.0])
@pytest.mark.parametrize("refresh", [0, 4, None])
def test_objective_in_the_record_is_the_true_data_term(damping, refresh):
    dense = random_dense(damping=damping)
    for state in states_of(ConjugateGradient(dense.least_squares(), refresh_every=refresh), 14):
        assert state.measures()["objective"] == pytest.approx(0.5 * dense.energy(state.iterate))


def test_data_passes_count_the_corrections():
    states = states_of(ConjugateGradient(random_dense().least_squares(), refresh_every=3), 7)
    assert [state.measures()["data_passes"] for state in states] == [0, 1, 2, 4, 5, 6, 8, 9]


def test_without_an_exact_gradient_there_is_nothing_to_correct():
    problem = random_dense().least_squares(exact=False)
    plain = states_of(ConjugateGradient(problem), 6)[-1]
    asked = states_of(ConjugateGradient(problem, refresh_every=2), 6)[-1]
    assert torch.equal(plain.iterate, asked.iterate)


@pytest.mark.parametrize("damping", [0.0, 20.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_wrong_quick_operator_is_corrected(damping, seed):
    """20 per cent wrong in every direction: the exact objective falls all the same, down to the minimum."""
    dense = random_dense(seed, damping=damping, quick_error=0.2)
    states = states_of(ConjugateGradient(dense.least_squares(), refresh_every=5), 100)
    corrected = states[::5]
    values = [dense.objective(state.iterate) for state in corrected]
    assert np.all(np.diff(values) <= 1e-12 * values[0])
    for state in corrected:
        assert state.objective == pytest.approx(0.5 * dense.energy(state.iterate))
        assert flat(state.base_gradient) == pytest.approx(dense.gradient(state.iterate), abs=1e-8)
    assert flat(states[-1].iterate) == pytest.approx(dense.answer(), abs=1e-6)


def test_a_wrong_quick_operator_uncorrected_ends_elsewhere():
    dense = random_dense(quick_error=0.2)
    last = states_of(ConjugateGradient(dense.least_squares()), 100)[-1]
    distance = np.linalg.norm(flat(last.iterate) - dense.answer()) / np.linalg.norm(dense.answer())
    assert distance > 0.02


def test_a_proposal_uphill_is_turned_down():
    """A quick operator ten times too weak proposes steps far too long; the correction shortens them."""
    dense = random_dense()
    dense.quick = 0.1 * dense.normal_matrix
    states = states_of(ConjugateGradient(dense.least_squares(), refresh_every=1), 30)
    values = [dense.objective(state.iterate) for state in states]
    assert np.all(np.diff(values) <= 1e-12 * values[0])
    assert values[-1] == pytest.approx(dense.objective(dense.answer()), rel=1e-3)


def test_stays_at_the_answer():
    """Further steps from an exact answer divide nothing by zero."""
    dense = random_dense()
    dense.back_projection = np.zeros(VOXELS)
    last = states_of(ConjugateGradient(dense.least_squares(exact=False)), 3)[-1]
    assert not last.iterate.any()


def test_a_few_steps_from_a_warm_start():
    dense = random_dense()
    target, exact = volume(dense.back_projection), dense.answer()

    def hessian(x):
        return volume(dense.normal_matrix @ flat(x))

    def distance(x):
        error = flat(x) - exact
        return error @ dense.normal_matrix @ error

    start = volume(exact + 0.1)
    kept = start.clone()
    found = [distance(solve_some(hessian, target, start, steps)) for steps in range(5)]
    assert torch.equal(start, kept)
    assert np.all(np.diff(found) < 0)
    assert found[0] == pytest.approx(distance(start))
    assert flat(solve_some(hessian, target, start, VOXELS)) == pytest.approx(exact, abs=1e-8)


def test_no_step_from_the_exact_answer():
    zero = torch.zeros(1, 2, 2)
    assert torch.equal(solve_some(lambda x: 2.0 * x, zero, zero, 3), zero)
