"""Hutchinson's estimator: exact on diagonal matrices, elsewhere unbiased, with the variance it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from manyviews.solvers.hutchinson import (
    DiagonalEstimate,
    inverse_diagonal,
    pooled_pairs,
    probe_diagonal,
    random_signs,
)


def test_signs_are_signs(rng):
    signs = random_signs(torch.zeros(3, 1001), rng)
    assert signs.shape == (3, 1001)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert abs(float(signs.mean())) < 0.1


def test_one_probe_is_exact_for_a_diagonal_matrix(rng):
    diagonal = torch.from_numpy(rng.normal(size=50))
    found = probe_diagonal(lambda v: diagonal * v, diagonal, rng)
    torch.testing.assert_close(found, diagonal, rtol=1e-15, atol=0)


def test_unbiased_with_the_variance_of_the_formula(rng):
    factor = rng.normal(size=(8, 12))
    matrix = factor @ factor.T
    dense = torch.from_numpy(matrix)
    like = torch.zeros(8, dtype=torch.float64)
    count = 40_000
    probes = np.stack([probe_diagonal(lambda v: dense @ v, like, rng).numpy() for _ in range(count)])
    expected = np.sum(matrix**2, axis=1) - np.diag(matrix) ** 2
    away = (probes.mean(0) - np.diag(matrix)) / np.sqrt(expected / count)
    assert np.abs(away).max() < 4
    np.testing.assert_allclose(probes.var(0), expected, rtol=0.05)


def test_the_running_estimate_is_the_one_printed(rng):
    probes = [torch.from_numpy(rng.normal(size=6) + 3) for _ in range(4)]
    estimate = DiagonalEstimate.first(probes[0])
    least = max(float(probes[0].mean()), 0.0)
    expected = np.maximum(np.abs(probes[0].numpy()), least)
    np.testing.assert_allclose(estimate.diagonal, expected)
    for count in range(2, 5):
        estimate = estimate.updated(probes[count - 1], 0.9)
        mean = np.mean([probe.numpy() for probe in probes[:count]], axis=0)
        expected = 0.9 * expected + 0.1 * mean
        np.testing.assert_allclose(estimate.mean, mean)
        np.testing.assert_allclose(estimate.diagonal, expected)
    assert estimate.probes == 4


def test_small_and_negative_entries_are_held_back():
    inverse = inverse_diagonal(torch.tensor([2.0, -4.0, 1e-9, 0.0]), 0.5)
    assert inverse.tolist() == [0.5, 0.25, 2.0, 2.0]


def test_pooling_halves_the_variance_of_pairs(rng):
    assert pooled_pairs(torch.tensor([1.0, 3.0, 5.0, 5.0, 9.0])).tolist() == [2.0, 2.0, 5.0, 5.0, 9.0]
    # two copies of one matrix, as real and imaginary part have
    factor = rng.normal(size=(5, 8))
    matrix = torch.from_numpy(np.kron(factor @ factor.T, np.eye(2)))
    like = torch.zeros(10, dtype=torch.float64)
    single = torch.stack([probe_diagonal(lambda v: matrix @ v, like, rng) for _ in range(5000)])
    pooled = torch.stack([pooled_pairs(probe) for probe in single])
    ratio = float((pooled.var(0) / single.var(0)).mean())
    assert ratio == pytest.approx(0.5, abs=0.03)
