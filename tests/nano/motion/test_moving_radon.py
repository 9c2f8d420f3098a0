"""Projections of a moving specimen: transposes, derivatives, what is at rest, what is kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from manyviews.nano.motion.basis import MotionBasis, Splines, time_functions
from manyviews.nano.motion.intervals import split_views
from manyviews.nano.motion.moving_radon import Linearised, MovingRadon
from manyviews.nano.motion.view_shifts import read_shifted, shift_step
from manyviews.operators.radon import Radon

ROWS, SIZE, VIEWS = 8, 10, 9
RADON = Radon(np.arange(VIEWS) * 77.0, ROWS, SIZE, 4.3)


def make(*, mass=False, threads=1, intervals=4, shifts=None) -> MovingRadon:
    times = time_functions(VIEWS, 2)
    basis = MotionBasis.of((ROWS, SIZE, SIZE), (2 * ROWS, 2 * SIZE), 2, 2)
    groups = split_views(times, np.zeros((2, 3, *basis.knots)), intervals)
    return MovingRadon.of(RADON, groups, times, basis, mass=mass, threads=threads, shifts=shifts)


def drawn(rng, moving):
    volume = rng.standard_normal(moving.domain).astype(np.float32)
    return volume, 0.7 * rng.standard_normal(moving.motion_shape)


def smooth(moving):
    """A round blob in the middle."""
    z, y, x = (np.arange(n) - n // 2 for n in moving.domain)
    square = z[:, None, None] ** 2 + y[:, None] ** 2 + x**2
    return np.exp(-square / 3.0).astype(np.float32)


def inner(a, b):
    return float(np.vdot(a.astype(float), b.astype(float)))


def test_at_rest_it_is_the_radon_transform(rng):
    moving = make()
    volume, knots = drawn(rng, moving)
    expected = RADON.forward(torch.from_numpy(volume)).numpy()
    np.testing.assert_allclose(moving.forward(volume, 0 * knots), expected, atol=1e-4)


@pytest.mark.parametrize("mass", [False, True])
def test_the_adjoint_is_exact(rng, mass):
    moving = make(mass=mass, shifts=rng.standard_normal((VIEWS, 2)))
    volume, knots = drawn(rng, moving)
    images = rng.standard_normal(moving.range).astype(np.float32)
    forward, adjoint = moving.forward(volume, knots), moving.adjoint(images, knots)
    size = np.linalg.norm(forward) * np.linalg.norm(images)
    assert abs(inner(forward, images) - inner(volume, adjoint)) < 1e-5 * size


@pytest.mark.parametrize("mass", [False, True])
def test_the_derivative_is_that_of_differences_and_its_transpose_is_exact(rng, mass):
    moving = make(mass=mass)
    volume = smooth(moving)
    knots, turn = (0.5 * rng.standard_normal(moving.motion_shape) for _ in range(2))
    change = 0.3 * rng.standard_normal(moving.domain).astype(np.float32)
    linear, step = Linearised(moving, volume, knots), 1e-2
    found = linear.forward(change, turn)
    ahead, behind = (
        moving.forward(volume + np.float32(s * step) * change, knots + s * step * turn) for s in (1, -1)
    )
    expected = (ahead - behind) / (2 * step)
    assert np.linalg.norm(found - expected) < 3e-3 * np.linalg.norm(expected)

    images = rng.standard_normal(moving.range).astype(np.float32)
    by_volume, by_knots = linear.adjoint(images)
    other = inner(change, by_volume) + inner(turn, by_knots)
    assert abs(inner(found, images) - other) < 1e-5 * np.linalg.norm(found) * np.linalg.norm(images)


def test_the_number_of_threads_changes_no_bit(rng):
    one, two = make(threads=1), make(threads=2)
    volume, knots = drawn(rng, one)
    images = one.forward(volume, knots)
    np.testing.assert_array_equal(images, two.forward(volume, knots))
    np.testing.assert_array_equal(one.adjoint(images, knots), two.adjoint(images, knots))


def test_what_is_in_the_specimen_stays_where_mass_is_kept():
    shrinking = {}
    for mass in (False, True):
        moving = make(mass=mass, intervals=VIEWS)
        knots = np.zeros(moving.motion_shape)
        places = [np.linspace(-1, 1, count) for count in moving.basis.knots]
        for part, line in enumerate(np.meshgrid(*places, indexing="ij")):
            knots[0, part] = 1.0 * line  # in the middle the map is X (1 + more with time)
        sums = moving.forward(smooth(moving), knots).sum(axis=(1, 2))
        shrinking[mass] = sums[-1] / sums[0]
    assert shrinking[True] == pytest.approx(1.0, abs=0.05)
    assert shrinking[False] < 0.75


def test_views_shifted_as_a_whole_are_found_by_their_slopes():
    moving = make()
    images = moving.forward(smooth(moving), np.zeros(moving.motion_shape))
    wanted = np.linspace(-0.4, 0.4, 2 * VIEWS).reshape(VIEWS, 2)
    found = shift_step(images, read_shifted(images, wanted) - images)
    np.testing.assert_allclose(found, wanted, atol=0.08)


def test_functions_of_time_are_orthogonal_and_of_mean_zero():
    times = time_functions(VIEWS, 4)
    np.testing.assert_allclose(times.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(times.T @ times / VIEWS, np.eye(4), atol=1e-12)


def test_splines_sum_to_one_and_know_their_slopes():
    places, step = np.linspace(-5.5, 5.5, 23), 1e-6
    splines = Splines.at(places, 6.0, 3)
    np.testing.assert_allclose(splines.values.sum(axis=1), 1.0)
    ahead, behind = (Splines.at(places + s * step, 6.0, 3).values for s in (1, -1))
    np.testing.assert_allclose(splines.slopes, (ahead - behind) / (2 * step), atol=1e-8)


def test_a_displacement_is_the_same_in_pixels_at_all_levels(rng):
    """The same point of the specimen: voxel 5 of 10 lies at the axis, as voxel 10 of 20."""
    coarse = MotionBasis.of((8, 10, 10), (16, 20), 2, 2)
    fine = MotionBasis.of((16, 20, 20), (16, 20), 2, 1)
    knots = rng.standard_normal((3, *coarse.knots))
    between = 0.5 * (fine.expand(knots)[:, 6] + fine.expand(knots)[:, 7])  # rows 6 and 7 are binned
    np.testing.assert_allclose(2 * coarse.expand(knots)[:, 3, 5, 5], between[:, 10, 10], atol=0.02)


def test_intervals_hold_as_much_motion_each(rng):
    times = time_functions(60, 3)
    knots = np.zeros((3, 3, 2, 2, 2))
    early = 1 - np.exp(-6 * np.linspace(0, 1, 60))  # fast at first
    knots += (times.T @ early / 60)[:, None, None, None, None]
    groups = split_views(times, knots, 8)
    np.testing.assert_array_equal(np.concatenate(groups), np.arange(60))
    assert len(groups) == 8
    assert len(groups[0]) < 0.4 * len(groups[-1])
