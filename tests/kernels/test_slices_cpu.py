"""Slices read from and added to a half grid: exact on affine functions, exact adjoints, safe outside."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from manyviews.kernels import slices_cpu
from manyviews.kernels.slices_cpu import (
    gather_slices,
    read_point,
    splat_slices,
    splat_weighted,
    splat_weights,
)
from manyviews.operators.fourier_points import half_plane

PRECISIONS = [(np.complex64, 1e-5), (np.complex128, 1e-12)]


def random_grid(h, dtype, seed=0):
    rng = np.random.default_rng(seed)
    shape = (2 * h + 1, 2 * h + 1, h + 2)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)


def turns(count, seed=0):
    return Rotation.random(count, random_state=seed).as_matrix()


def plain_gather(grid, rotations, points, padding):
    """Corner by corner, in Python."""
    h = grid.shape[0] // 2
    out = np.zeros((len(rotations), len(points)), np.complex128)
    for m, rotation in enumerate(rotations):
        for p, (kx, ky) in enumerate(points):
            q = padding * (kx * rotation[0] + ky * rotation[1])
            mirrored = q[0] < 0
            q = -q if mirrored else q
            low = np.floor(q).astype(int)
            if low[0] > h or np.any(low[1:] < -h) or np.any(low[1:] + 1 > h):
                continue
            total = 0j
            for corner in np.ndindex(2, 2, 2):
                weight = np.prod(np.where(corner, q - low, 1 - (q - low)))
                i = low + corner
                total += weight * grid[h + i[2], h + i[1], i[0]]
            out[m, p] = np.conj(total) if mirrored else total
    return out


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize(("radius", "padding"), [(0, 2), (3, 1), (7, 2), (5, 3)])
def test_gather_is_trilinear(dtype, tolerance, radius, padding):
    grid = random_grid(padding * radius + 1, dtype)
    points = half_plane(radius, 2 * radius)
    read = gather_slices(grid, turns(4), points, padding)
    assert read.dtype == dtype
    np.testing.assert_allclose(read, plain_gather(grid, turns(4), points, padding), atol=20 * tolerance)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.floats(-180, 180), min_size=3, max_size=3),
    st.lists(st.floats(-2, 2), min_size=4, max_size=4),
    st.integers(1, 3),
)
def test_affine_functions_are_read_exactly(angles, slopes, padding):
    radius = 6
    h = padding * radius + 1
    q = np.arange(-h, h + 1)
    x = np.arange(h + 2)
    # a real even constant and odd imaginary slopes: the mirror image is the conjugate
    rise = slopes[0] * x + slopes[1] * q[:, None] + slopes[2] * q[:, None, None]
    grid = (slopes[3] + 1j * rise).astype(np.complex128)
    rotation = Rotation.from_euler("ZYZ", angles, degrees=True).as_matrix()
    points = half_plane(radius, 12)
    expected = slopes[3] + 1j * padding * (points @ rotation[:2]) @ slopes[:3]
    read = gather_slices(grid, rotation[None], points, padding)[0]
    # a point in the last cell may fall out of the grid by rounding, not inside it
    np.testing.assert_allclose(read, expected, atol=1e-10)


def test_one_point_at_a_time_reads_the_same():
    grid = random_grid(9, np.complex128)
    points = half_plane(4, 8)
    rotations = turns(3, 5)

    @numba.njit
    def one_by_one(grid, rotations, points):
        out = np.empty((len(rotations), len(points)), grid.dtype)
        for m in range(len(rotations)):
            for p in range(len(points)):
                q = 2 * (points[p, 0] * rotations[m, 0] + points[p, 1] * rotations[m, 1])
                out[m, p] = read_point(grid, q[0], q[1], q[2])
        return out

    expected = gather_slices(grid, rotations, points, 2)
    np.testing.assert_allclose(one_by_one(grid, rotations, points), expected, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("count", [1, 40])
def test_splat_is_the_adjoint(dtype, tolerance, count):
    grid, points = random_grid(11, dtype), half_plane(5, 10)
    values = random_grid(30, dtype, 1).reshape(-1)[: count * len(points)].reshape(count, -1)
    read = gather_slices(grid, turns(count), points, 2).astype(np.complex128)
    added = np.zeros_like(grid)
    splat_slices(added, turns(count), points, values, 2)
    left, right = np.vdot(read, values).real, np.vdot(grid.astype(np.complex128), added).real
    assert abs(left - right) <= tolerance * np.linalg.norm(read) * np.linalg.norm(values)


def test_weights_are_added_with_the_values(rng):
    points = half_plane(5, 10)
    values = random_grid(30, np.complex128, 2).reshape(-1)[: 25 * len(points)].reshape(25, -1)
    weights = rng.random(values.shape)
    numerator, denominator = random_grid(11, np.complex128), rng.random((23, 23, 13))
    expected, expected_weights = numerator.copy(), denominator.astype(np.complex128)
    splat_slices(expected, turns(25), points, values, 2)
    # weights are real, so that mirroring does not change them
    splat_slices(expected_weights, turns(25), points, weights.astype(np.complex128), 2)
    splat_weighted(numerator, denominator, turns(25), points, values, weights, 2)
    np.testing.assert_allclose(numerator, expected, atol=1e-12)
    np.testing.assert_allclose(denominator, expected_weights.real, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_squared_shares_are_the_diagonal(rng, dtype, tolerance):
    points, h = half_plane(2, 8), 3
    weights = rng.random((5, len(points)))
    grid = np.zeros((2 * h + 1, 2 * h + 1, h + 2), np.dtype(dtype).type(0).real.dtype)
    splat_weights(grid, turns(5), points, weights, 1, squared=True)
    expected = np.zeros(grid.shape)
    for place in np.ndindex(*grid.shape):
        unit = np.zeros(grid.shape, np.complex128)
        unit[place] = 1.0
        expected[place] = np.sum(weights * np.abs(gather_slices(unit, turns(5), points, 1)) ** 2)
    np.testing.assert_allclose(grid, expected, atol=10 * tolerance)


@pytest.mark.parametrize("threads", [1, 2])
def test_weights_alone_are_added_as_with_values(rng, threads):
    points = half_plane(5, 10)
    weights = rng.random((900, len(points)))
    expected = rng.random((23, 23, 13))
    grid = expected.copy()
    nothing = np.zeros(expected.shape, np.complex128)
    splat_weighted(nothing, expected, turns(900), points, weights.astype(complex), weights, 2)
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        splat_weights(grid, turns(900), points, weights, 2)
    finally:
        numba.set_num_threads(before)
    np.testing.assert_allclose(grid, expected, atol=1e-11)


def test_weights_want_a_half_grid():
    with pytest.raises(ValueError, match="not a contiguous"):
        splat_weights(np.zeros((7, 7, 7)), turns(1), half_plane(2, 8), np.ones((1, 13)), 1)


def test_threads_change_rounding_only_and_reruns_nothing():
    points = half_plane(5, 10)
    values = random_grid(40, np.complex64, 3).reshape(-1)[: 900 * len(points)].reshape(900, -1)
    before, many = numba.get_num_threads(), min(2, numba.config.NUMBA_NUM_THREADS)
    results = []
    try:
        for threads in (1, many, many):
            numba.set_num_threads(threads)
            grid = np.zeros((23, 23, 13), np.complex64)
            splat_slices(grid, turns(900), points, values, 2)
            results.append(grid)
    finally:
        numba.set_num_threads(before)
    np.testing.assert_array_equal(results[1], results[2])
    np.testing.assert_allclose(results[0], results[1], atol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30, 5.0])
def test_points_outside_read_nothing_and_add_nothing(bad):
    grid = random_grid(7, np.complex64)
    points = np.array([[1, 0], [0, 1], [3, 0], [2, 1]])
    rotations = np.full((2, 3, 3), bad)
    assert not np.any(gather_slices(grid, rotations, points, 2))
    before = grid.copy()
    splat_slices(grid, rotations, points, np.ones((2, len(points)), np.complex64), 2)
    np.testing.assert_array_equal(grid, before)


def test_no_rotations_and_no_points():
    grid = random_grid(3, np.complex64)
    assert gather_slices(grid, np.empty((0, 3, 3)), half_plane(1, 2), 2).shape == (0, 3)
    assert gather_slices(grid, turns(2), np.empty((0, 2)), 2).shape == (2, 0)


def test_arrays_of_the_wrong_kind_are_refused():
    points = half_plane(1, 2)
    for bad in (np.zeros((7, 7, 7), np.complex64), np.zeros((7, 7, 5), np.float32)):
        with pytest.raises(ValueError, match="not a contiguous complex"):
            gather_slices(bad, turns(1), points, 2)
    values = np.zeros((1, len(points)), np.complex64)
    with pytest.raises(ValueError, match="denominator"):
        splat_weighted(
            random_grid(3, np.complex64),
            np.zeros((7, 7, 4), np.float32),
            turns(1),
            points,
            values,
            values.real,
            2,
        )


def test_points_are_padded_to_whole_blocks():
    kx, ky = slices_cpu.split_points(half_plane(5, 10), np.float32)
    assert len(kx) % slices_cpu.BLOCK == 0
    assert kx.dtype == np.float32
    np.testing.assert_array_equal(np.stack([kx, ky])[:, len(half_plane(5, 10)) :], 0)
