"""Total variation and the bound against a plain proximal method; slabs and preconditioners change nothing."""

import numpy as np
import pytest
import torch
from dense_problem import SHAPE, VOXELS, random_dense, volume

from manyviews.operators.differences import Differences, differences
from manyviews.solvers.alternating_directions import AlternatingDirections, SplitPenalties, Terms
from manyviews.solvers.driver import iterate
from manyviews.solvers.proximal_maps import TotalVariation

DENSE = random_dense(4, damping=1.0)


def objective(x, terms):
    return DENSE.objective(x) + terms.total_variation * float(
        torch.linalg.vector_norm(differences(x), dim=0).sum()
    )


def solved(terms, iterations=600, **options):
    penalties = SplitPenalties(slopes=4.0, bound=6.0)
    solver = AlternatingDirections(DENSE.least_squares(), terms, penalties, **options)
    *_, state = iterate(solver, solver.init(), iterations)
    return state


def by_proximal_gradient(strength, iterations=3000):
    """Forward-backward splitting, whose proximal map is that of the consensus agent."""
    step = 1.0 / (DENSE.lipschitz + DENSE.damping)
    x = torch.zeros(SHAPE, dtype=torch.float64)
    prox = TotalVariation(strength * step, steps=60)
    for _ in range(iterations):
        gradient = DENSE.damping * x - volume(DENSE.gradient(x))
        x = prox.prox(x - step * gradient, x)
    return x


def test_total_variation_goes_where_another_method_goes():
    terms = Terms(2.0)
    found, other = solved(terms).iterate, by_proximal_gradient(2.0)
    assert float((found - other).norm()) < 1e-3 * float(other.norm())
    assert objective(found, terms) <= objective(other, terms) * (1 + 1e-6)


def test_strong_total_variation_leaves_no_slopes():
    found = solved(Terms(1e4)).iterate
    assert float(differences(found).abs().max()) < 1e-3 * float(found.abs().max())


def test_the_bound_holds_and_its_multiplier_is_nowhere_positive():
    state = solved(Terms(1.0, True), iterations=1500)
    assert float(state.iterate.min()) > -1e-5
    multiplier = state.split.clamp(max=0.0)
    assert float(multiplier.min()) < -1e-3
    # where a voxel is free nothing pushes it, and what is pushed is at zero
    assert float((multiplier * state.iterate).abs().max()) < 1e-4
    torch.testing.assert_close(state.split.clamp(min=0.0), state.iterate, atol=1e-5, rtol=0.0)


def test_a_preconditioner_changes_the_way_and_not_the_end():
    gradient = np.stack([Differences(SHAPE).normal(volume(row)).numpy().ravel() for row in np.eye(VOXELS)])
    hessian = DENSE.normal_matrix + 4.0 * gradient + 7.0 * np.eye(VOXELS)
    inverse = np.linalg.inv(hessian + np.diag(np.linspace(0.0, 3.0, VOXELS)))
    terms = Terms(2.0, True)
    plain = solved(terms)
    quick = solved(terms, precondition=lambda x: volume(inverse @ x.numpy().ravel()))
    torch.testing.assert_close(plain.iterate, quick.iterate, atol=1e-4, rtol=1e-4)


def test_a_correction_makes_the_objective_that_of_the_projectors():
    rough = random_dense(4, damping=1.0)
    rough.quick = 1.1 * rough.normal_matrix
    solver = AlternatingDirections(
        rough.least_squares(), Terms(1.0), SplitPenalties(4.0, 6.0), correct_after=5
    )
    states = list(iterate(solver, solver.init(), 6))
    exact = [0.5 * rough.energy(state.iterate) for state in states]
    assert states[3].objective != pytest.approx(exact[3], rel=1e-3)
    assert states[4].objective == pytest.approx(exact[4], rel=1e-9)


def test_it_begins_where_another_problem_has_come_to():
    found = solved(Terms(2.0, True), iterations=50)
    solver = AlternatingDirections(DENSE.least_squares(), Terms(2.0, True), SplitPenalties(4.0, 6.0))
    begun = solver.begin(found)
    assert begun.iteration == 0
    assert begun.objective == pytest.approx(0.5 * DENSE.energy(found.iterate))
    following = solver.step(begun).iterate
    torch.testing.assert_close(following, solver.step(found).iterate, atol=1e-9, rtol=1e-9)
