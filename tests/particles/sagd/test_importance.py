"""Importance sampling: without bias, exact where everything is drawn, better the more is drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from marginal_example import blob_volume, noisy_images, random_lattice

from manyviews.particles.sagd import importance
from manyviews.particles.sagd.importance import (
    Annealing,
    Draw,
    PoseDraw,
    draw,
    draw_poses,
    effective_size,
    importance_distribution,
    kernels,
    sampled_marginal,
)
from manyviews.particles.sagd.lattice import PoseLattice
from manyviews.particles.sagd.marginal import marginal
from manyviews.particles.sagd.memory import MOST_POINTS, PoseMemory, SparseRows

LATTICE = random_lattice(40, 12, 9, seed=1)


@pytest.fixture(autouse=True)
def _quick(one_thread):
    pass


def everything(lattice: PoseLattice) -> PoseDraw:
    weights = (lattice.log_direction, lattice.log_in_plane, lattice.log_shift)
    return PoseDraw(*(Draw(np.arange(len(weight)), weight) for weight in weights))


def memory_of(images, volume, lattice: PoseLattice, iteration: int) -> PoseMemory:
    found = marginal(images, volume, lattice, gradient=False)
    rows = [SparseRows.of_dense(part) for part in (found.direction, found.in_plane, found.shift)]
    return PoseMemory(images.radius, iteration, (rows[0], rows[1], rows[2]))


def test_drawing_everything_is_the_exhaustive_sum():
    images, volume = noisy_images(LATTICE, 3), blob_volume(seed=1)
    exact = marginal(images, volume, LATTICE)
    found = sampled_marginal(images, volume, LATTICE, [everything(LATTICE)] * 3, iteration=7)
    np.testing.assert_allclose(found.log_probability, exact.log_probability, rtol=1e-6)
    torch.testing.assert_close(found.gradient, exact.gradient, rtol=1e-5, atol=1e-6)
    for factor, posterior in zip(
        found.memory.factors, (exact.direction, exact.in_plane, exact.shift), strict=True
    ):
        for image in range(3):
            indices, values = factor.row(image)
            expected = posterior[image] / posterior[image].max()
            np.testing.assert_allclose(values, expected[indices], rtol=1e-4)
    assert (found.memory.radius, found.memory.iteration) == (images.radius, 7)


def test_chunks_of_images_do_not_change_the_result(monkeypatch):
    images, volume = noisy_images(LATTICE, 4), blob_volume(seed=1)
    memory = memory_of(images, volume, LATTICE, 400)
    rng = np.random.default_rng(0)
    draws = [draw_poses(memory, image, LATTICE, LATTICE, 2.0, rng) for image in range(4)]
    whole = sampled_marginal(images, volume, LATTICE, draws)
    monkeypatch.setattr(importance, "CHUNK_BYTES", 1)
    parts = sampled_marginal(images, volume, LATTICE, draws)
    np.testing.assert_allclose(parts.log_probability, whole.log_probability, rtol=1e-12)
    torch.testing.assert_close(parts.gradient, whole.gradient)


@pytest.mark.parametrize("systematic", [True, False])
def test_the_estimated_probability_has_no_bias(systematic):
    images, volume = noisy_images(LATTICE, 2, noise=200.0), blob_volume(seed=1)
    memory = memory_of(images, blob_volume(seed=1) * 0.8, LATTICE, 600)
    exact = marginal(images, volume, LATTICE, gradient=False).log_probability
    rng = np.random.default_rng(3)
    ratios = []
    for _ in range(300):
        draws = [
            draw_poses(memory, image, LATTICE, LATTICE, 1.0, rng, systematic=systematic) for image in range(2)
        ]
        found = sampled_marginal(images, volume, LATTICE, draws, gradient=False)
        ratios.append(np.exp(found.log_probability - exact))
    mean, spread = np.mean(ratios, axis=0), np.std(ratios, axis=0) / math.sqrt(len(ratios))
    assert (spread < 0.1).all()
    assert (spread > 0.001).all(), "the draws were too complete to test anything"
    np.testing.assert_array_less(np.abs(mean - 1), 4 * spread)


def test_the_error_falls_with_the_number_of_draws():
    images, volume = noisy_images(LATTICE, 4, noise=200.0), blob_volume(seed=1)
    memory = memory_of(images, volume, LATTICE, 1000)
    exact = marginal(images, volume, LATTICE, gradient=False).log_probability
    errors = []
    for scale in (0.5, 4.0, 32.0):
        rng = np.random.default_rng(4)
        runs = [
            sampled_marginal(
                images,
                volume,
                LATTICE,
                [draw_poses(memory, image, LATTICE, LATTICE, scale, rng) for image in range(4)],
                gradient=False,
            ).log_probability
            for _ in range(30)
        ]
        errors.append(np.sqrt(np.mean((np.array(runs) - exact) ** 2)))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_the_gradient_is_the_slope_of_the_estimate():
    images, volume = noisy_images(LATTICE, 3), blob_volume(seed=1)
    memory = memory_of(images, volume, LATTICE, 600)
    rng = np.random.default_rng(5)
    draws = [draw_poses(memory, image, LATTICE, LATTICE, 2.0, rng) for image in range(3)]
    assert max(one.size for one in draws) < LATTICE.size
    gradient = sampled_marginal(images, volume, LATTICE, draws).gradient
    assert gradient is not None
    direction = torch.randn(volume.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ends = [
        sampled_marginal(images, volume + sign * 1e-5 * direction, LATTICE, draws, gradient=False)
        for sign in (1, -1)
    ]
    difference = ends[0].log_probability.sum() - ends[1].log_probability.sum()
    assert difference / 2e-5 == pytest.approx(float(torch.sum(gradient * direction)), rel=1e-5)


@given(
    seed=st.integers(0, 1000), size=st.integers(1, 60), uniform=st.floats(0.05, 1.0), heat=st.floats(1.0, 9.0)
)
def test_an_importance_distribution_is_one_and_nowhere_zero(
    seed: int, size: int, uniform: float, heat: float
):
    rng = np.random.default_rng(seed)
    q = importance_distribution(rng.random(5), rng.random((5, size)), heat, uniform)
    assert q.sum() == pytest.approx(1)
    assert q.min() >= uniform / size * (1 - 1e-9)
    assert 1 <= effective_size(q) * (1 + 1e-9) <= size * (1 + 1e-6) + 1e-6


@given(
    seed=st.integers(0, 1000), size=st.integers(1, 60), scale=st.floats(0.5, 20.0), systematic=st.booleans()
)
def test_draws_are_distinct_points_whose_counts_add_up(seed: int, size: int, scale: float, systematic: bool):
    rng = np.random.default_rng(seed)
    q = rng.dirichlet(np.ones(size)) * 0.9 + 0.1 / size
    found = draw(q, np.zeros(size), scale, rng, systematic=systematic)
    assert (np.diff(found.indices) > 0).all()
    samples = max(1, math.ceil(scale * effective_size(q)))
    counts = np.exp(found.log_weight) * samples * q[found.indices]
    np.testing.assert_allclose(counts, np.rint(counts), rtol=1e-9)
    assert round(counts.sum()) == samples
    if systematic:
        assert (np.abs(counts - samples * q[found.indices]) < 1 + 1e-6).all()


@pytest.mark.parametrize("systematic", [True, False])
def test_every_point_is_drawn_as_often_as_it_should_be(systematic):
    rng = np.random.default_rng(0)
    q = np.array([0.5, 0.3, 0.15, 0.05])
    total = np.zeros(4)
    for _ in range(2000):
        found = draw(q, np.log(q), 1.0, rng, systematic=systematic)
        total[found.indices] += np.exp(found.log_weight)  # n_j / N
    np.testing.assert_allclose(total / 2000, q, atol=0.02)


def test_a_memory_without_mass_is_searched_uniformly():
    q = importance_distribution(np.zeros(3), np.ones((3, 4)), 1.0, 0.05)
    np.testing.assert_allclose(q, 0.25)


def test_kernels_fall_off_over_the_spacing_as_printed():
    old = PoseLattice(
        np.array([[0.0, 0.0, 1.0]]),
        np.zeros(1),
        np.zeros(1),
        np.zeros(1),
        np.zeros((1, 2)),
        np.zeros(1),
        0.2,
        0.1,
        1.5,
    )
    new = PoseLattice(
        np.array([[math.sin(0.2), 0.0, math.cos(0.2)], [0.0, 0.0, 1.0]]),
        np.zeros(2),
        np.array([math.degrees(0.1), 360.0]),
        np.zeros(2),
        np.array([[1.5, 0.0], [0.0, 0.0]]),
        np.zeros(2),
        0.2,
        0.1,
        1.5,
    )
    direction, in_plane, shift = kernels(old, new, [np.array([0])] * 3)
    np.testing.assert_allclose(direction, [[1 / 4, 1]], rtol=1e-9)
    np.testing.assert_allclose(in_plane, [[1 / 2, 1]], rtol=1e-9)
    np.testing.assert_allclose(shift, [[math.exp(-0.5), 1]], rtol=1e-9)


def test_the_papers_annealing():
    annealing = Annealing()
    assert annealing.uniform(49) == 1
    assert annealing.temperature(49) == math.inf
    assert annealing.uniform(200) == 0.5
    assert annealing.temperature(500) == 2
    assert annealing.uniform(5000) == 0.05
    assert annealing.temperature(5000) == 1.25


def test_what_is_remembered_survives_as_tensors():
    rng = np.random.default_rng(0)
    rows = [SparseRows.of_dense(rng.random((3, size))) for size in (7, 4, 2)]
    memory = PoseMemory(5, 321, (rows[0], rows[1], rows[2]))
    again = PoseMemory.from_tensors(memory.to_tensors())
    assert (again.radius, again.iteration) == (5, 321)
    for old, new in zip(memory.factors, again.factors, strict=True):
        assert len(new) == 3
        for image in range(3):
            for a, b in zip(old.row(image), new.row(image), strict=True):
                np.testing.assert_array_equal(a, b)


def test_little_masses_and_long_tails_are_forgotten():
    values = np.array([[1.0, 1e-9, 0.5, 0.0], [0.0, 3.0, 0.0, 0.0]])
    rows = SparseRows.of_dense(values)
    np.testing.assert_array_equal(rows.row(0)[0], [0, 2])
    np.testing.assert_array_equal(rows.row(1)[0], [1])
    np.testing.assert_array_equal(rows.row(1)[1], [1.0])
    many = SparseRows.of_dense(np.linspace(1, 2, 3 * MOST_POINTS)[None])
    assert len(many.indices) == MOST_POINTS
    assert many.indices.min() == 2 * MOST_POINTS
