"""A filter chosen in each place by prediction of the other half beats the best single one."""

from __future__ import annotations

import numpy as np
import pytest

from half_map_example import ball, distances, low_passed, noise_halves, texture, with_noise
from manyviews.maps.bands import HalfSpectra, LocalMeans
from manyviews.maps.local_filter import local_filter, prediction_weight
from manyviews.maps.radial import radial_filter
from manyviews.metrics.fsc import fsc

BOX = 48
MASK = ball(21, 4, BOX).astype(np.float32)


def error(volume, truth):
    return np.sqrt(np.sum(MASK * (volume - truth) ** 2) / np.sum(MASK * truth**2))


def best_single_error(halves, truth):
    """Of the Wiener filter of the masked FSC, and of the best of many low-passes, chosen with the truth."""
    mean = (halves[0] + halves[1]) / 2
    curve = fsc(*halves, 1.0, mask=MASK)
    correlation = np.clip(curve.correlation, 0, 1)
    wiener = 2 * correlation / (1 + correlation)
    filters = [lambda f: np.interp(f, curve.frequency, wiener)]
    filters += [lambda f, cut=cut: 1 / np.sqrt(1 + (f / cut) ** 16) for cut in np.linspace(0.04, 0.5, 24)]
    return min(error(radial_filter(mean, 1.0, one), truth) for one in filters)


@pytest.mark.parametrize(("deviation", "most"), [(0.5, 0.93), (1.0, 0.93), (2.0, 1.0)])
def test_a_rigid_core_in_a_blurred_rim_gains(deviation, most):
    core = 1 / (1 + np.exp((distances(BOX) - 10) / 1.5))
    detail = texture(3, 60.0, BOX)
    truth = ball(19, 4, BOX) * (core * detail + (1 - core) * low_passed(detail, 0.05, 0.03))
    rng = np.random.default_rng(4)
    spread = deviation * (0.6 + 1.2 * (1 - core))
    halves = tuple((truth + spread * rng.normal(size=truth.shape)).astype(np.float32) for _ in range(2))
    found = local_filter(HalfSpectra(*halves, MASK, 1.0))
    assert error(found.volume, truth) < most * best_single_error(halves, truth)
    assert found.predicted > found.predicted_by_one
    assert np.all(found.lowest <= found.middle)
    assert np.all(found.middle <= found.highest)
    assert found.highest.max() > 0.4


@pytest.mark.parametrize("deviation", [0.3, 1.0])
def test_where_all_is_alike_nothing_is_lost(deviation):
    truth = ball(19, 4, BOX) * texture(5, 60.0, BOX)
    halves = with_noise(truth, deviation, 6)
    found = local_filter(HalfSpectra(*halves, MASK, 1.0))
    assert error(found.volume, truth) < 1.02 * best_single_error(halves, truth)


def test_noise_is_filtered_away():
    halves = noise_halves(7, BOX)
    found = local_filter(HalfSpectra(*halves, MASK, 1.0))
    mean = (halves[0] + halves[1]) / 2
    assert found.volume.std() < 0.03 * mean.std()
    assert found.middle.max() < 0.1


def test_equal_halves_come_back():
    volume = (ball(18, 4, BOX) * texture(8, 60.0, BOX)).astype(np.float32)
    found = local_filter(HalfSpectra(volume, volume, np.ones_like(volume), 1.0))
    np.testing.assert_allclose(found.volume, volume, atol=0.03)
    assert found.predicted > 0.999


def test_the_weight_is_the_one_that_predicts_best():
    """Of many weights none has a smaller squared error of one half, weighted, to the other, both ways."""
    rng = np.random.default_rng(9)
    signal = rng.normal(size=5000)
    first, second = (signal + 0.8 * rng.normal(size=5000) for _ in range(2))
    sums = [
        np.full((1, 1, 1), np.sum(product), np.float32) for product in (first * second, first**2, second**2)
    ]
    means = LocalMeans(*sums, np.full((1, 1, 1), 5000, np.float32))
    weight = float(prediction_weight(means)[0, 0, 0])

    def misfit(g):
        return np.sum((g * first - second) ** 2) + np.sum((g * second - first) ** 2)

    tried = np.linspace(0, 1, 2001)
    assert weight == pytest.approx(tried[np.argmin([misfit(g) for g in tried])], abs=1e-3)


def test_weights_of_noise_are_damped():
    """One and a half standard deviations of noise above nothing count a quarter, six of them in full."""
    samples = np.full((1, 1, 2), 100, np.float32)
    ones = np.full((1, 1, 2), 1.0, np.float32)
    means = LocalMeans(np.array([[[0.15, 0.6]]], np.float32), ones, ones, samples)
    np.testing.assert_allclose(prediction_weight(means), [[[0.15 / 4, 0.6]]], rtol=1e-6)
    few = LocalMeans(means.cross, ones, ones, np.full((1, 1, 2), 4, np.float32))
    np.testing.assert_allclose(prediction_weight(few), [[[0.15 * 0.3**2, 0.6]]], rtol=1e-6)


def test_slow_density_is_kept():
    """A level of the particle above the solvent is in the lowest bands, of few samples."""
    truth = ball(14, 3, BOX) * (texture(11, 60.0, BOX) + 3)
    found = local_filter(HalfSpectra(*with_noise(truth, 0.5, 12), MASK, 1.0))
    assert found.middle[0] > 0.95
    around = (distances(BOX) > 18) & (distances(BOX) < 21)
    assert abs(found.volume[around].mean()) < 0.02 * 3
