import itertools

import numpy as np
import pytest
import torch
from dense_problem import SHAPE, VOXELS, flat, random_dense, states_of, volume

from manyviews.errors import DivergedError
from manyviews.solvers.driver import iterate
from manyviews.solvers.sirt import Landweber, NormalisedSirt


@pytest.mark.parametrize("damping", [0.0, 20.0])
@pytest.mark.parametrize("relaxation", [0.3, 1.0])
def test_landweber_follows_its_closed_formula(damping, relaxation):
    """After k steps from zero: ``(1 - (1 - a H)^k) H^-1 b``."""
    dense = random_dense(damping=damping)
    states = states_of(Landweber(dense.least_squares(), relaxation=relaxation), 12)
    hessian = dense.normal_matrix + damping * np.eye(VOXELS)
    left = np.eye(VOXELS) - relaxation / dense.lipschitz * hessian
    for k in (0, 1, 5, 12):
        expected = (np.eye(VOXELS) - np.linalg.matrix_power(left, k)) @ dense.answer()
        assert flat(states[k].iterate) == pytest.approx(expected, abs=1e-10)


def test_landweber_records_the_objective_before_the_step():
    dense = random_dense()
    states = states_of(Landweber(dense.least_squares(), relaxation=1.0), 4)
    for before, after in itertools.pairwise(states):
        assert after.measures() == {
            "objective": pytest.approx(0.5 * dense.energy(before.iterate)),
            "data_passes": after.iteration,
        }
    assert states[0].objective == pytest.approx(0.5 * dense.energy(np.zeros(VOXELS)))


@pytest.mark.parametrize("relaxation", [1.9, 2.2])
def test_landweber_diverges_beyond_two(relaxation):
    dense = random_dense()
    solver = Landweber(dense.least_squares(), relaxation=relaxation)
    if relaxation < 2.0:
        *_, last = iterate(solver, solver.init(), 2000)
        assert flat(last.iterate) == pytest.approx(dense.answer(), abs=1e-6)
    else:
        with pytest.raises(DivergedError, match="NaN or infinite"), np.errstate(all="ignore"):
            list(iterate(solver, solver.init(), 10_000))


def test_landweber_without_negative_voxels_reaches_the_constrained_answer():
    """The optimality conditions: no negative voxel, no descent but into the bound."""
    dense = random_dense()
    states = states_of(Landweber(dense.least_squares(), relaxation=1.0, non_negative=True), 600)
    assert all(float(state.iterate.min()) >= 0.0 for state in states)
    found = flat(states[-1].iterate)
    descent = dense.gradient(states[-1].iterate)
    assert (dense.answer() < 0).any()
    assert np.abs(descent[found > 0]).max() < 1e-8
    assert descent[found == 0].max() < 1e-8


def normalised(matrix, data, **options):
    rows, columns = matrix.sum(axis=1), matrix.sum(axis=0)
    row_scale = np.where(rows > 0, 1.0 / np.where(rows > 0, rows, 1.0), 0.0)
    column_scale = np.where(columns > 0, 1.0 / np.where(columns > 0, columns, 1.0), 0.0)

    def gradient(x):
        residual = data - matrix @ flat(x)
        return volume(matrix.T @ (row_scale * residual)), float(residual @ residual)

    solver = NormalisedSirt(gradient, volume(column_scale), float(data @ data), **options)
    return solver, row_scale, column_scale


def sparse_matrix(rng):
    """Ray lengths, with rays that miss the volume and voxels that no ray meets."""
    matrix = rng.uniform(size=(40, VOXELS)) * (rng.uniform(size=(40, VOXELS)) < 0.4)
    matrix[[3, 17]] = 0.0
    matrix[:, [0, 11]] = 0.0
    return matrix


@pytest.mark.parametrize("non_negative", [False, True])
def test_normalised_sirt_follows_its_formula(rng, non_negative):
    matrix, data = sparse_matrix(rng), rng.normal(size=40)
    solver, row_scale, column_scale = normalised(matrix, data, relaxation=0.7, non_negative=non_negative)
    x = np.zeros(VOXELS)
    state = solver.init()
    assert state.iterate.shape == SHAPE
    for _ in range(6):
        before = 0.5 * float(np.sum((data - matrix @ x) ** 2))
        x = x + 0.7 * column_scale * (matrix.T @ (row_scale * (data - matrix @ x)))
        x = np.maximum(x, 0.0) if non_negative else x
        state = solver.step(state)
        assert flat(state.iterate) == pytest.approx(x, abs=1e-12)
        assert state.objective == pytest.approx(before)
    assert not flat(state.iterate)[[0, 11]].any()


def test_normalised_sirt_is_stable_below_two_and_fits_consistent_data(rng):
    matrix = sparse_matrix(rng)
    truth = rng.uniform(size=VOXELS)
    solver, _, _ = normalised(matrix, matrix @ truth, relaxation=1.9)
    last = states_of(solver, 3000)[-1]
    seen = matrix.any(axis=0)
    assert flat(last.iterate)[seen] == pytest.approx(truth[seen], abs=1e-3)
    assert torch.isfinite(last.iterate).all()
