import numpy as np
import pytest
import torch
from dense_problem import flat, random_dense, states_of, volume

from manyviews.solvers.single_pass import DirectCombine, WeightedBackProjection
from manyviews.solvers.sirt import Landweber


def test_weighted_back_projection_is_one_filtering():
    """With the exact inverse for a filter it is the least-squares answer, objective included."""
    dense = random_dense()
    inverse = np.linalg.inv(dense.normal_matrix)
    solver = WeightedBackProjection(dense.least_squares(), lambda: volume(inverse @ dense.back_projection))
    start, done = states_of(solver, 1)
    assert flat(done.iterate) == pytest.approx(dense.answer())
    for passes, state in enumerate((start, done)):
        objective = pytest.approx(0.5 * dense.energy(state.iterate))
        assert state.measures() == {"objective": objective, "data_passes": passes}


@pytest.mark.parametrize("damping", [0.0, 20.0])
def test_direct_combine_of_one_subset_is_landweber(damping):
    dense = random_dense(damping=damping)
    problem = dense.least_squares()
    combined = states_of(DirectCombine([problem], relaxation=0.3, objective=dense.objective), 8)
    alone = states_of(Landweber(problem, relaxation=0.3), 8)
    for a, b in zip(combined, alone, strict=True):
        assert flat(a.iterate) == pytest.approx(flat(b.iterate), abs=1e-12)


def test_direct_combine_is_the_mean_of_independent_runs():
    dense = [random_dense(seed) for seed in range(3)]
    solver = DirectCombine(
        [one.least_squares() for one in dense], relaxation=0.9, objective=lambda x: float(x.sum())
    )
    last = states_of(solver, 5)[-1]
    alone = [states_of(Landweber(one.least_squares(), relaxation=0.9), 5)[-1].iterate for one in dense]
    assert flat(last.iterate) == pytest.approx(flat(torch.stack(alone).mean(dim=0)))
    for part, one in zip(last.parts, alone, strict=True):
        assert flat(part) == pytest.approx(flat(one))
    assert last.measures() == {"objective": float(last.iterate.sum()), "data_passes": 5.0}
