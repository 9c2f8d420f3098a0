import numpy as np
import pytest
import torch
from dense_problem import SHAPE, flat, random_dense, volume

from manyviews.solvers.least_squares import inner


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


def test_inner_product_of_volumes_in_any_memory_order():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, 3, 4, 5))
    turned = torch.from_numpy(np.ascontiguousarray(b.T)).permute(2, 1, 0)
    assert inner(torch.from_numpy(a), turned) == pytest.approx(float((a * b).sum()))


def test_inner_product_adds_up_in_double_precision():
    """A sum that float32 would lose: one plane large, the others small."""
    x = torch.ones(65, 1, 1)
    x[0] = 2.0**13
    assert inner(x, x) == 2.0**26 + 64
