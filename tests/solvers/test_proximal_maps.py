import itertools

import numpy as np
import pytest
import torch
from dense_problem import SHAPE, VOXELS, flat, random_dense, volume
from scipy.optimize import lsq_linear

from manyviews.solvers.proximal_maps import (
    DataTerm,
    NonNegative,
    PrintedGradientSteps,
    Smoothness,
    TotalVariation,
)


def difference_matrices(shape):
    """Dense forward differences along z, y, x, zero at the far ends."""
    places = {place: n for n, place in enumerate(itertools.product(*map(range, shape)))}
    matrices = np.zeros((3, len(places), len(places)))
    for place, n in places.items():
        for axis in range(3):
            beyond = list(place)
            beyond[axis] += 1
            if tuple(beyond) in places:
                matrices[axis, n, n] = -1.0
                matrices[axis, n, places[tuple(beyond)]] = 1.0
    return matrices


def total_variation(x, differences):
    return float(np.linalg.norm(differences @ x, axis=0).sum())


def random_volume(seed, shape=SHAPE):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def test_the_data_term_is_the_proximal_map():
    dense = random_dense()
    problem = dense.least_squares()
    handed, last, anchor = random_volume(1), random_volume(2), 7.0
    copies = handed.clone(), last.clone()
    answer = DataTerm(problem.hessian, problem.target, anchor, VOXELS).prox(handed, last)
    expected = np.linalg.solve(
        dense.normal_matrix + anchor * np.eye(VOXELS), dense.back_projection + anchor * flat(handed)
    )
    assert flat(answer) == pytest.approx(expected, abs=1e-8)
    assert torch.equal(handed, copies[0])
    assert torch.equal(last, copies[1])


def test_the_data_term_begins_at_its_last_answer():
    """Handed the same volume again and again, one step a time arrives."""
    problem = random_dense().least_squares()
    handed = random_volume(1)
    exact = DataTerm(problem.hessian, problem.target, 50.0, VOXELS).prox(handed, handed)
    term, answer = DataTerm(problem.hessian, problem.target, 50.0, 1), torch.zeros(SHAPE).double()
    for _ in range(60):
        answer = term.prox(handed, answer)
    assert flat(answer) == pytest.approx(flat(exact), abs=1e-6)


def test_printed_takes_gradient_steps_from_what_it_is_handed():
    dense = random_dense()
    handed = random_volume(1)
    kept, step = handed.clone(), 0.3 / dense.lipschitz
    answer = PrintedGradientSteps(lambda x: volume(dense.gradient(x)), step, 2).prox(handed, random_volume(2))
    once = flat(handed) + step * dense.gradient(handed)
    assert flat(answer) == pytest.approx(once + step * dense.gradient(once))
    assert torch.equal(handed, kept)


def test_non_negative():
    handed = random_volume(1)
    answer = NonNegative().prox(handed, handed)
    assert np.array_equal(answer.numpy(), np.maximum(handed.numpy(), 0.0))
    assert answer is not handed


@pytest.mark.parametrize("strength", [0.1, 2.0])
def test_smoothness_is_the_closed_form(strength):
    shape = (3, 4, 5)
    handed = random_volume(1, shape)
    differences = difference_matrices(shape)
    hessian = np.eye(60) + strength * sum(d.T @ d for d in differences)
    answer = Smoothness(strength, steps=60).prox(handed, torch.zeros_like(handed))
    assert flat(answer) == pytest.approx(np.linalg.solve(hessian, flat(handed)), abs=1e-9)
    few = Smoothness(strength).prox(handed, torch.zeros_like(handed))
    assert flat(few) == pytest.approx(flat(answer), abs=2e-2)


def test_total_variation_brings_two_voxels_together():
    term = TotalVariation(0.25, steps=300)
    near, far = torch.tensor([[[1.0, 1.3]]]), torch.tensor([[[1.0, 3.0]]])
    assert flat(term.prox(far, far)) == pytest.approx([1.25, 2.75], abs=1e-4)
    assert flat(term.prox(near, near)) == pytest.approx([1.15, 1.15], abs=1e-4)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("strength", [0.1, 0.6])
def test_total_variation_along_a_line(axis, strength):
    """Against the dual, ``min |z - s D'q|, |q| <= 1``, by an active-set method."""
    shape = [1, 1, 1]
    shape[axis] = 9
    z = np.random.default_rng(3).normal(size=9)
    differences = np.diff(np.eye(9), axis=0)
    dual = lsq_linear(strength * differences.T, z, bounds=(-1.0, 1.0), tol=1e-14).x
    expected = z - strength * differences.T @ dual
    handed = torch.from_numpy(z.reshape(shape))
    answer = TotalVariation(strength, steps=3000).prox(handed, handed)
    assert flat(answer) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("strength", [0.05, 0.5])
def test_total_variation_minimises_in_three_dimensions(strength):
    shape = (3, 4, 5)
    handed = random_volume(4, shape)
    z, differences = flat(handed), difference_matrices(shape)

    def value(x):
        return 0.5 * float(np.sum((x - z) ** 2)) + strength * total_variation(x, differences)

    best = flat(TotalVariation(strength, steps=2000).prox(handed, handed))
    assert best.mean() == pytest.approx(z.mean())
    assert value(best) < value(z)
    rng = np.random.default_rng(5)
    for size in (1e-3, 1e-2, 1e-1):
        for _ in range(20):
            change = size * rng.normal(size=60)
            # the value is 1-strongly convex: this much worse at least, at any other volume
            assert value(best + change) >= value(best) + 0.5 * float(change @ change) - 1e-5
    few = flat(TotalVariation(strength).prox(handed, handed))
    assert value(few) - value(best) < 0.02 * value(best)


def test_much_total_variation_leaves_the_mean():
    handed = random_volume(6)
    kept = handed.clone()
    answer = TotalVariation(50.0, steps=2000).prox(handed, handed)
    assert flat(answer) == pytest.approx(np.full(VOXELS, float(handed.mean())), abs=1e-3)
    assert torch.equal(handed, kept)
