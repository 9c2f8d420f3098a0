import numpy as np
import pytest
from dense_problem import SHAPE, flat, random_dense, volume


def test_objective_is_the_data_term():
    dense = random_dense(damping=3.0)
    problem = dense.least_squares()
    x = volume(np.random.default_rng(1).normal(size=SHAPE))
    assert problem.objective(x, problem.normal(x)) == pytest.approx(0.5 * dense.energy(x))


@pytest.mark.parametrize("damping", [0.0, 3.0])
def test_hessian_is_the_normal_operator_and_the_damping(damping):
    dense = random_dense(damping=damping)
    x = volume(np.random.default_rng(1).normal(size=SHAPE))
    expected = dense.normal_matrix @ flat(x) + damping * flat(x)
    assert flat(dense.least_squares().hessian(x)) == pytest.approx(expected)
