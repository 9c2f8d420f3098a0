"""A B factor that is put into a map is found and taken out; where it cannot be found that is told."""

from __future__ import annotations

import math

import numpy as np
import pytest

from half_map_example import ball, filtered, frequencies, texture, with_noise
from manyviews.maps.radial import shell_amplitudes
from manyviews.maps.sharpening import fsc_weights, guinier, sharpen
from manyviews.metrics.fsc import FscCurve, fsc, transform

BOX, PIXEL, B = 48, 1.5, 80.0


@pytest.fixture(scope="module")
def halves():
    truth = ball(16, box=BOX) * texture(2, B / PIXEL**2, BOX)
    return with_noise(truth, 0.7, 3)


@pytest.fixture(scope="module")
def mask():
    return ball(20, 6, BOX).astype(np.float32)


def fitted(halves, mask, resolution=None):
    curve = fsc(*halves, PIXEL, mask=mask)
    mean = (halves[0] + halves[1]) / 2
    return guinier(mean * mask, curve, resolution or curve.first_crossing(0.143)), curve, mean


def test_the_b_factor_of_a_map_is_found_and_taken_out(halves, mask):
    plot, curve, mean = fitted(halves, mask)
    assert plot.b_factor == pytest.approx(-B, rel=0.15)
    assert (plot.fit_from, plot.warnings) == (10.0, ())
    assert plot.correlation < -0.95
    resolution = curve.first_crossing(0.143)
    sharp = sharpen(mean, PIXEL, plot.b_factor, resolution, curve=curve)
    again = guinier(
        sharp * mask, FscCurve(curve.frequency, np.ones(BOX // 2 + 1), curve.samples, PIXEL), resolution
    )
    assert abs(again.b_factor) < 0.2 * B


def test_weights_are_those_of_the_mean_of_two_halves():
    correlation = np.array([-1, 1, 0.5, 0.0, 0.2])
    curve = FscCurve(np.arange(5) / 20, correlation, np.ones(5), 2.0)
    np.testing.assert_allclose(fsc_weights(curve, 20 / 3), [1, 1, np.sqrt(2 / 3), 0, 0])
    np.testing.assert_array_equal(correlation, curve.correlation)


def test_the_filter_is_what_it_says():
    volume = texture(4, 0.0, 24)
    resolution, b_factor = 4.0, -60.0
    frequency = frequencies(24) / PIXEL
    width = 2 / (24 * PIXEL)
    edge = 0.5 + 0.5 * np.cos(np.pi * np.clip((frequency - 1 / resolution) / width, 0, 1))
    expected = filtered(volume, edge * np.exp(-b_factor / 4 * frequency**2))
    np.testing.assert_allclose(sharpen(volume, PIXEL, b_factor, resolution), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("resolution", "begins", "said"),
    [
        (4.0, 10.0, ""),
        (6.0, 10.0, "the line is short"),
        (8.0, 15.0, "fitted from 15 on"),
        (12.0, math.nan, "not sharpened"),
    ],
)
def test_the_fit_begins_later_or_not_at_all_where_the_map_ends_early(halves, mask, resolution, begins, said):
    plot, _, _ = fitted(halves, mask, resolution)
    np.testing.assert_equal(plot.fit_from, begins)
    assert plot.fitted == math.isfinite(begins)
    assert said in " ".join(plot.warnings)
    assert bool(plot.warnings) == bool(said)


def test_a_map_that_rises_is_told(mask):
    sharp = with_noise(ball(16, box=BOX) * texture(2, -150.0, BOX), 0.01, 3)
    plot, _, _ = fitted(sharp, mask, 4.0)
    assert plot.b_factor > 0
    assert "which is not applied" in plot.warnings[0]


def test_amplitudes_by_shell_are_means():
    volume = texture(5, 0.0, 16)
    spectrum = transform(volume)
    shells = np.floor(frequencies(16) * 16 + 0.5 + 1e-9)
    expected = [np.abs(spectrum[shells == shell]).mean() for shell in range(9)]
    np.testing.assert_allclose(shell_amplitudes(spectrum), expected)
