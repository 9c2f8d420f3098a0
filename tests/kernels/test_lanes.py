"""Sixteen lanes at a time do what numpy does one by one."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from manyviews.kernels.lanes import WIDTH, add_scaled, load, scale_add, store, zeros

DTYPES = [np.float32, np.float64]


@njit
def copy_lanes(source, offset, target, place):
    store(target, place, load(source, offset))


@njit
def sum_of_scaled_rows(rows, weights, out):
    total = zeros(rows)
    for k in range(len(weights)):
        total = add_scaled(total, weights[k], rows, k * rows.shape[1])
    store(out, 0, total)


@njit
def scale_and_add(weight, rows, out):
    store(out, 0, scale_add(weight, load(rows, 0), load(rows, rows.shape[1])))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offset", [0, 1, 7, 24])
def test_load_and_store_at_any_offset(offset, dtype, rng):
    """No alignment beyond that of one element is needed; neighbours stay as they are."""
    source = rng.normal(size=(5, 8)).astype(dtype)
    target = np.full(64, -1.0, dtype)
    copy_lanes(source, offset, target, offset + 3)
    wanted = np.full(64, -1.0, dtype)
    wanted[offset + 3 : offset + 3 + WIDTH] = source.ravel()[offset : offset + WIDTH]
    np.testing.assert_array_equal(target, wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_add_scaled_from_zeros(dtype, rng):
    rows = rng.normal(size=(9, WIDTH)).astype(dtype)
    weights = rng.normal(size=9).astype(dtype)
    out = np.full(WIDTH, np.nan, dtype)
    sum_of_scaled_rows(rows, weights, out)
    np.testing.assert_allclose(out, weights @ rows, rtol=0, atol=16 * np.finfo(dtype).eps * 9)
    sum_of_scaled_rows(rows[:0], weights[:0], out)
    np.testing.assert_array_equal(out, 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scale_add(dtype, rng):
    rows = rng.normal(size=(2, WIDTH)).astype(dtype)
    out = np.empty(WIDTH, dtype)
    scale_and_add(dtype(0.375), rows, out)
    np.testing.assert_allclose(out, 0.375 * rows[0] + rows[1], rtol=0, atol=8 * np.finfo(dtype).eps)
