import numpy as np
import pytest
import torch
from dense_problem import SHAPE, VOXELS, flat, random_dense, volume

from manyviews.geometry.views import TiltGeometry
from manyviews.operators.linear import LinearOperator
from manyviews.operators.tilt_projector import TiltProjector
from manyviews.solvers.conjugate_gradient import ConjugateGradient
from manyviews.solvers.driver import iterate
from manyviews.solvers.least_squares import LeastSquares


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


class Matrix(LinearOperator):
    def __init__(self, matrix):
        self.matrix = torch.from_numpy(matrix)
        self.domain, self.range = SHAPE, (len(matrix),)

    def forward(self, x):
        return self.matrix @ x.reshape(-1)

    def adjoint(self, y):
        return (self.matrix.T @ y).reshape(SHAPE)


@pytest.mark.parametrize("weighted", [True, False])
def test_any_operator_makes_a_problem(weighted):
    dense = random_dense(damping=3.0, weighted=weighted)
    weights = torch.from_numpy(dense.weights) if weighted else None
    found = LeastSquares.of(Matrix(dense.matrix), torch.from_numpy(dense.data), weights, damping=3.0)
    wanted = dense.least_squares()
    x = volume(np.random.default_rng(1).normal(size=SHAPE))
    torch.testing.assert_close(found.hessian(x), wanted.hessian(x))
    torch.testing.assert_close(found.target, wanted.target)
    torch.testing.assert_close(found.exact_gradient(x)[0], wanted.exact_gradient(x)[0])
    assert found.exact_gradient(x)[1] == pytest.approx(wanted.exact_gradient(x)[1])
    assert found.data_energy == pytest.approx(wanted.data_energy)
    assert dense.lipschitz < found.lipschitz < 1.11 * dense.lipschitz
    *_, last = iterate(solver := ConjugateGradient(found), solver.init(), VOXELS + 5)
    assert flat(last.iterate) == pytest.approx(dense.answer(), abs=1e-8)


def test_a_tilt_series_in_three_lines():
    projector = TiltProjector(TiltGeometry.from_tilt_axis(np.linspace(-60, 60, 9)), (6, 12, 12), (12, 12))
    images = projector.forward(torch.rand(projector.domain, generator=torch.Generator().manual_seed(0)))
    solver = ConjugateGradient(LeastSquares.of(projector, images))
    *_, last = iterate(solver, solver.init(), 20)
    assert float((projector.forward(last.iterate) - images).norm() / images.norm()) < 0.01


def test_data_of_another_shape_are_refused():
    dense = random_dense()
    with pytest.raises(ValueError, match="but the operator gives"):
        LeastSquares.of(Matrix(dense.matrix), torch.zeros(3))
