"""Both ends of a spectrum from products alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from manyviews.solvers.lanczos import extreme_eigenvalues


def matrix_with(values, rng):
    turn, _ = np.linalg.qr(rng.normal(size=(len(values), len(values))))
    return torch.from_numpy(turn * values @ turn.T)


def test_both_ends_of_a_known_spectrum(rng):
    values = np.geomspace(1e-2, 10, 60)
    matrix = matrix_with(values, rng)
    start = torch.from_numpy(rng.normal(size=60))
    found = extreme_eigenvalues(lambda v: matrix @ v, start, products=300, tolerance=1e-6)
    assert found.products < 300
    assert found.largest == pytest.approx(10, rel=1e-6)
    assert found.smallest == pytest.approx(1e-2, rel=1e-4)
    assert found.converged(1e-3)


def test_too_few_products_bound_from_within(rng):
    values = np.geomspace(1e-4, 10, 200)
    matrix = matrix_with(values, rng)
    start = torch.from_numpy(rng.normal(size=200))
    found = extreme_eigenvalues(lambda v: matrix @ v, start, products=10)
    assert found.products == 10
    assert values[0] < found.smallest < found.largest <= values[-1] * (1 + 1e-12)
    assert not found.converged(1e-2)
    # the errors are those of true eigenvalues
    assert np.abs(values - found.largest).min() <= found.largest_error
    assert np.abs(values - found.smallest).min() <= found.smallest_error


def test_an_invariant_start_ends_at_once():
    found = extreme_eigenvalues(lambda v: 3.0 * v, torch.ones(5, dtype=torch.float64))
    assert (found.smallest, found.largest, found.products) == (3.0, 3.0, 1)


@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf")])
def test_a_start_that_leads_nowhere_is_refused(bad):
    with pytest.raises(ValueError, match="cannot start"):
        extreme_eigenvalues(lambda v: v, torch.full((3,), bad))
