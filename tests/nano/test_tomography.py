"""The tomography sub-problem: where both ways end, and how quickly ours does."""

import itertools

import numpy as np
import pytest
import torch

from manyviews.nano.admm.line_search import armijo_step
from manyviews.nano.admm.tomography import (
    Penalties,
    TomographyProblem,
    preconditioned_steps,
    preconditioned_way,
    printed_steps,
)
from manyviews.operators.differences import differences, divergence
from manyviews.operators.radon import Radon
from manyviews.parallel.world import shares
from manyviews.random import Stream, generator
from manyviews.solvers.conjugate_gradient import ConjugateGradient
from manyviews.solvers.driver import iterate
from manyviews.solvers.space import Space
from thread_world import run_ranks


def noise(shape, key=0):
    return torch.from_numpy(generator(0, Stream.TEST, key).standard_normal(shape))


def disk(size):
    position = np.arange(size) - size // 2
    return torch.from_numpy(np.hypot(position, position[:, None]) < size / 2 - 0.5).double()


def small(center=4.5, size=8):
    """A problem with weights and a support, its data, and its exact answer by a dense matrix."""
    theta = np.arange(14) * 25.0
    radon = Radon(theta, 2, 10, center, size=size)
    weights = torch.from_numpy(generator(0, Stream.TEST, 7).uniform(0.5, 1.5, len(theta)))
    problem = TomographyProblem.of(radon, weights, support=disk(size))
    a, b = noise(radon.range, 1), differences(noise(radon.domain, 2))
    rho = Penalties(2.0 / problem.norm, 0.05)
    free = (torch.ones(radon.domain, dtype=torch.float64) * disk(size)).reshape(-1) > 0
    units = torch.eye(free.numel(), dtype=torch.float64)[free].reshape(-1, *radon.domain)
    no_data, nowhere = torch.zeros_like(a), torch.zeros_like(b)
    hessian = torch.stack(
        [problem.half_gradient(u, radon.forward(u), nowhere, rho).reshape(-1)[free] for u in units]
    )
    right = -problem.half_gradient(torch.zeros(radon.domain, dtype=a.dtype), no_data - a, b, rho)
    answer = torch.zeros(free.numel(), dtype=a.dtype)
    answer[free] = torch.linalg.solve(hessian, right.reshape(-1)[free])
    return problem, a, b, rho, answer.reshape(radon.domain)


def value(problem, u, a, b, rho):
    residual = problem.radon.forward(u) - a
    data = (problem.weights * residual**2).sum() if problem.weights is not None else (residual**2).sum()
    return float(rho.projections * data + rho.gradient * ((differences(u) - b) ** 2).sum())


@pytest.mark.parametrize("center", [4.5, 1.0])
@pytest.mark.parametrize(
    ("way", "rounds", "tolerance"), [(preconditioned_steps, 25, 1e-3), (printed_steps, 60, 2e-2)]
)
def test_both_ways_end_at_the_minimum(way, rounds, tolerance, center):
    """Also where the detector misses half of the specimen in each view."""
    problem, a, b, rho, answer = small(center)
    u = torch.zeros_like(answer)
    for _ in range(rounds):
        u = way(problem, u, problem.radon.forward(u) - a, b, rho, 4)
    assert float((u - answer).norm() / answer.norm()) < tolerance
    assert not (u * (1.0 - problem.support)).any()


def test_half_the_gradient_is_that_of_the_value():
    problem, a, b, rho, answer = small()
    u, way = (noise(answer.shape, key) * problem.support for key in (3, 4))
    gradient = problem.half_gradient(u, problem.radon.forward(u) - a, b, rho)
    ahead, behind = (value(problem, u + sign * 1e-3 * way, a, b, rho) for sign in (1, -1))
    assert float((gradient * way).sum()) == pytest.approx((ahead - behind) / 4e-3, rel=1e-6)


def test_the_quick_forms_are_the_plain_ones():
    """The descent from slopes at hand, the Hessian with its product, and what a way says of itself."""
    problem, a, b, rho, answer = small()
    u = noise(answer.shape, 3) * problem.support
    residual = problem.radon.forward(u) - a
    weighted = residual if problem.weights is None else residual * problem.weights
    expected = -problem.half_gradient(u, residual, b, rho)
    slopes = -divergence(differences(u) - b)
    torch.testing.assert_close(problem.descent(weighted, slopes, rho), expected)
    bent, bent_too = torch.empty_like(u), torch.empty_like(u)
    problem.hessian(u, rho, bent)
    assert problem.bend(u, rho, bent_too) == pytest.approx(float((u * bent).sum()))
    torch.testing.assert_close(bent_too, bent)
    way = preconditioned_way(problem, expected.clone(), rho, 3)
    assert way.product == pytest.approx(float((way.found * expected).sum()))


@pytest.mark.parametrize("way", [preconditioned_steps, printed_steps])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_value_falls_with_every_call(way, steps):
    """The detector misses half of the specimen, so our quadratic is far above F."""
    problem, a, b, rho, answer = small(1.0)
    u = noise(answer.shape, 5) * problem.support
    values = [value(problem, u, a, b, rho)]
    for _ in range(6):
        u = way(problem, u, problem.radon.forward(u) - a, b, rho, steps)
        values.append(value(problem, u, a, b, rho))
    assert all(after < before for before, after in itertools.pairwise(values))


def blobs(size, depth):
    """Balls within a circle, float32."""
    rng = generator(0, Stream.TEST, 11)
    z, y, x = np.meshgrid(np.arange(depth), *[np.arange(size) - size // 2] * 2, indexing="ij")
    volume = np.zeros((depth, size, size), np.float32)
    for _ in range(20):
        at, height, radius = (
            rng.uniform(-0.3 * size, 0.3 * size, 2),
            rng.uniform(2, depth - 2),
            rng.uniform(2, 5),
        )
        volume[(x - at[0]) ** 2 + (y - at[1]) ** 2 + (z - height) ** 2 < radius**2] += rng.uniform(-0.5, 1.0)
    return torch.from_numpy(volume) * disk(size).float()


def test_two_of_our_steps_are_more_than_eight_of_the_papers():
    """With rho2 / rho1 of 0.1 and norms of one."""
    truth = blobs(48, 16)
    radon = Radon(np.arange(72) * 360 / 72 * 1.618, 16, 48, 23.5)
    problem = TomographyProblem.of(radon, support=disk(48).float())
    a, b, rho = radon.forward(truth), differences(truth), Penalties(1.0 / problem.norm, 0.1)

    def error(way, steps):
        return float((way(problem, torch.zeros_like(truth), -a, b, rho, steps) - truth).norm() / truth.norm())

    assert error(preconditioned_steps, 4) < 0.01
    assert error(preconditioned_steps, 2) < 0.05 < error(printed_steps, 8)


def test_ranks_have_the_answer_of_one():
    truth = blobs(16, 20)
    theta = np.arange(24) * 7.5
    rho = Penalties(1e-3, 0.1)

    def steps(world):
        part = truth if world is None else truth[shares(20, world.size)[world.rank]].contiguous()
        radon = Radon(theta, len(part), 16, 7.5, threads=1)
        space = Space(lambda: torch.empty_like(part), world)
        problem = TomographyProblem.of(
            radon, space=space, slabs=world, shares=world and shares(20, world.size)
        )
        b = differences(part, world)
        return preconditioned_steps(problem, torch.zeros_like(part), -radon.forward(part), b, rho, 3)

    alone = steps(None)
    for ranks in (2, 3):
        torch.testing.assert_close(torch.cat(run_ranks(ranks, steps)), alone, rtol=1e-4, atol=1e-5)


def test_conjugate_gradients_of_the_house_on_the_same_problem():
    problem, a, _, _, _ = small()
    solver = ConjugateGradient(problem.least_squares(a), refresh_every=10)
    *_, state = iterate(solver, solver.init(), 200)
    nothing = Penalties(1.0, 0.0)
    left = problem.half_gradient(state.iterate, problem.radon.forward(state.iterate) - a, None, nothing)
    at_start = problem.half_gradient(torch.zeros_like(state.iterate), -a, None, nothing)
    assert float(left.norm()) < 1e-2 * float(at_start.norm())
    assert state.objective == pytest.approx(0.5 * value(problem, state.iterate, a, 0.0, nothing), rel=1e-6)


def test_the_gradient_of_a_volume_is_divided_as_the_formula_says():
    """-div is the transpose of grad, so half the gradient at zero is rho2 div b."""
    problem, a, b, _, answer = small()
    found = problem.half_gradient(torch.zeros_like(answer), torch.zeros_like(a), b, Penalties(0.0, 3.0))
    torch.testing.assert_close(found, 3.0 * divergence(b) * problem.support)


@pytest.mark.parametrize(
    ("slope", "curvature", "length"),
    [(-1.0, 1.0, 1.0), (-1.0, 3.0, 0.5), (-1.0, 1000.0, 2.0**-9), (1.0, 1.0, 0.0)],
)
def test_steps_are_halved_until_the_value_falls(slope, curvature, length):
    assert armijo_step(slope, curvature) == length
