"""What no projection can tell: exact on motions that are known, silent on all others, applied to the
object.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from manyviews.errors import InputError
from manyviews.kernels.warp_cpu import pull_back, push_forward
from manyviews.nano.flow.gauge import Gauge, compare_flows, remove_gauge, remove_shift_gauge

ROWS, COLUMNS = 12, 16
THETA = np.concatenate([np.arange(0, 360, 24.0) + 360 * turn + 8 * turn for turn in range(3)])


def some_gauge(rng, rows=ROWS, center=7.2):
    a, b, c, eps = rng.standard_normal((4, rows)) * [[2.0], [2.0], [1.5], [0.05]]
    return Gauge(a, b, c, eps, center)


@pytest.mark.parametrize("theta", [THETA, np.linspace(0, 180, 31), np.linspace(-76, 76, 39)])
def test_a_gauge_leaves_nothing(rng, theta):
    gauge = some_gauge(rng)
    rest, found = remove_gauge(gauge.flow(theta, COLUMNS), theta, center=7.2)
    assert np.abs(rest).max() < 1e-5
    for name in ("cosine", "sine", "vertical", "dilation"):
        np.testing.assert_allclose(getattr(found, name), getattr(gauge, name), atol=2e-5, err_msg=name)


def test_what_is_orthogonal_stays_and_twice_is_once(rng):
    """Also beside a gauge, which leaves it as it was."""
    flow = rng.standard_normal((len(THETA), 2, ROWS, COLUMNS)).astype(np.float32)
    rest, _ = remove_gauge(flow, THETA, center=7.2)
    assert np.abs(rest).max() > 1
    np.testing.assert_allclose(remove_gauge(rest, THETA, center=7.2)[0], rest, atol=1e-5)
    both = rest + some_gauge(rng).flow(THETA, COLUMNS)
    np.testing.assert_allclose(remove_gauge(both, THETA, center=7.2)[0], rest, atol=2e-5)


def test_motions_that_projections_tell_stay():
    """Drift in time, a wave over the detector, a jitter of single views: none of them is touched."""
    theta = np.arange(0, 720, 10.0)
    time = np.linspace(-1, 1, len(theta))[:, None, None]
    x = np.arange(COLUMNS) - 0.5 * (COLUMNS - 1)
    flow = np.zeros((len(theta), 2, ROWS, COLUMNS), np.float32)
    flow[:, 0] = time * np.cos(2 * np.pi * x / 7.5)  # even about the axis, and its mean over time is none
    flow[:, 1] = time * 3
    flow[::2, 1] += 0.5
    flow[1::2, 1] -= 0.5
    expected = flow.copy()
    rest, gauge = remove_gauge(flow, theta)
    np.testing.assert_allclose(rest[:, 1], expected[:, 1], atol=1e-5)
    np.testing.assert_allclose(gauge.dilation, 0, atol=1e-6)


def test_smooth_functions_of_the_height(rng):
    """With few cosines, smooth gauges still leave nothing, and rough ones only what is smooth of them."""
    z = (np.arange(ROWS) + 0.5) / ROWS
    smooth = np.cos(np.pi * z)
    gauge = Gauge(2 * smooth, 1 - smooth, smooth, 0.02 * smooth, 7.5)
    rest, _ = remove_gauge(gauge.flow(THETA, COLUMNS), THETA, terms=2)
    assert np.abs(rest).max() < 1e-5
    rough = Gauge(smooth + np.cos(5 * np.pi * z), 0 * z, 0 * z, 0 * z, 7.5)
    _, found = remove_gauge(rough.flow(THETA, COLUMNS), THETA, terms=2)
    np.testing.assert_allclose(found.cosine, smooth, atol=1e-5)


def test_views_without_weight_do_not_count_and_dilation_may_stay(rng):
    gauge = some_gauge(rng)
    flow = gauge.flow(THETA, COLUMNS)
    flow[3] = 99
    weights = np.where(np.arange(len(THETA)) == 3, 0.0, 1.0)
    _, found = remove_gauge(flow, THETA, center=7.2, weights=weights)
    np.testing.assert_allclose(found.cosine, gauge.cosine, atol=2e-5)
    _, found = remove_gauge(gauge.flow(THETA, COLUMNS), THETA, dilation=False)
    np.testing.assert_array_equal(found.dilation, 0)
    with pytest.raises(InputError, match="every view has weight 0"):
        remove_gauge(flow, THETA, weights=0 * weights)
    with pytest.raises(InputError, match="are not those of"):
        remove_gauge(flow, THETA[:-1])


def test_one_angle_knows_one_direction(rng):
    theta = np.full(5, 30.0)
    flow = np.zeros((5, 2, ROWS, COLUMNS), np.float32)
    flow[:, 0] = 1.0
    rest, gauge = remove_gauge(flow, theta)
    assert np.abs(rest).max() < 1e-6
    np.testing.assert_allclose(gauge.cosine[0], np.cos(np.radians(30)), atol=1e-6)


def test_flows_are_compared_without_what_none_can_tell(rng):
    truth = rng.standard_normal((len(THETA), 2, ROWS, COLUMNS)).astype(np.float32)
    gauge = some_gauge(rng)
    apart = compare_flows(truth + gauge.flow(THETA, COLUMNS), truth, THETA, center=7.2)
    assert apart.rms_pixels > 1
    assert apart.rms_without_gauge < 1e-5
    np.testing.assert_allclose(apart.gauge.vertical, gauge.vertical, atol=1e-5)
    moved = truth.copy()
    moved[7, 0] += 1.0
    where = np.zeros((len(THETA), ROWS, COLUMNS), bool)
    where[7] = True
    apart = compare_flows(moved, truth, THETA, where=where)
    assert 0.9 < apart.rms_without_gauge < 1.0
    assert np.argmax(apart.by_view) == 7


def test_shifts_have_the_same_gauge(rng):
    theta = np.radians(THETA)
    shifts = np.stack([np.cos(theta) - 2 * np.sin(theta), np.full(len(theta), 3.0)], axis=1)
    rest, moved = remove_shift_gauge(shifts, THETA)
    np.testing.assert_allclose(rest, 0, atol=1e-6)
    np.testing.assert_allclose(moved, [1, -2, 3], atol=1e-6)


def project(volume, theta_degrees):
    """Ray sums, the axis at the pixels ``n // 2`` of the volume and of the detector, by cubic
    interpolation.
    """
    slices, _, n = volume.shape
    s, t = np.meshgrid(np.arange(n) - n // 2, np.arange(n) - n // 2, indexing="ij")
    result = np.empty((len(theta_degrees), slices, n))
    for view, theta in enumerate(np.radians(theta_degrees)):
        x, y = s * np.cos(theta) - t * np.sin(theta) + n // 2, s * np.sin(theta) + t * np.cos(theta) + n // 2
        for z in range(slices):
            result[view, z] = map_coordinates(volume[z], [y, x], order=3).sum(axis=1)
    return result


@pytest.mark.parametrize("mass", [False, True])
def test_the_object_moves_as_its_projections_do(rng, mass):
    """``D_f R u = R u'`` for a smooth object and every function at once."""
    n, slices, theta = 40, 20, np.array([0.0, 37.0, 115.0, 250.0])
    z, y, x = np.meshgrid(np.arange(slices) - 10, np.arange(n) - 20, np.arange(n) - 20, indexing="ij")
    spots = np.zeros((slices, n, n))
    for at_z, at_y, at_x in ((-2, 4, -5), (1, -6, 2), (3, 1, 6)):
        spots += np.exp(-0.5 * ((z - at_z) ** 2 + (y - at_y) ** 2 + (x - at_x) ** 2) / 2.5**2)
    height = (np.arange(slices) - 10) / 10
    gauge = Gauge(1.5 * height, 1 - height**2, 0.8 * np.cos(height), 0.1 - 0.05 * height, float(n // 2))
    warp = push_forward if mass else pull_back
    expected = warp(project(spots, theta), gauge.flow(theta, n))
    moved = gauge.move_object(spots.astype(np.float32), mass=mass)
    error = np.linalg.norm(project(moved, theta) - expected) / np.linalg.norm(expected)
    assert error < 0.02 < np.linalg.norm(project(spots, theta) - expected) / np.linalg.norm(expected)
    if mass:
        np.testing.assert_allclose(moved.sum(), spots.sum(), rtol=1e-4)


def test_gauge_motion_is_smooth_enough_to_undo(rng):
    """The gauge of a random smooth flow takes away, never adds."""
    flow = np.stack([gaussian_filter(rng.standard_normal((2, ROWS, COLUMNS)), (0, 3, 3)) for _ in THETA])
    rest, _ = remove_gauge(flow.astype(np.float32), THETA)
    assert np.sum(rest**2) < np.sum(flow**2)
