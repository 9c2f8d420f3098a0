"""The peak lies where an image was moved to, whatever the edges of what is known of it."""

import numpy as np
import pytest
import scipy.ndimage

from manyviews.alignment.masked_correlation import masked_correlation, masked_peak


@pytest.fixture(scope="module")
def scene():
    noise = np.random.default_rng(0).normal(size=(120, 140))
    return scipy.ndimage.gaussian_filter(noise, 2.0).astype(np.float32)


def test_a_window_elsewhere_is_found_by_its_shift(scene):
    first, second = scene[20:80, 30:94], scene[33:93, 12:76]
    ones = np.ones(first.shape, np.float32)
    peak = masked_peak(first, second, ones, ones)
    # what is at r in the second is at r + (12 - 30, 33 - 20) in the first
    np.testing.assert_allclose(peak.shift, (-18, 13), atol=0.1)
    assert peak.correlation > 0.99
    assert peak.score > 5


def test_nothing_outside_the_masks_counts(scene):
    first, second = scene[20:80, 30:94].copy(), scene[24:84, 27:91].copy()
    mask = np.ones(first.shape, np.float32)
    mask[:, :9] = 0
    first[:, :9], second[:, :9] = 50.0, -80.0
    peak = masked_peak(first, second, mask, mask)
    np.testing.assert_allclose(peak.shift, (-3, 4), atol=0.1)
    assert peak.correlation > 0.99


def test_it_is_the_correlation_coefficient_of_what_overlaps(scene):
    first, second = scene[:30, :40], scene[60:90, 80:120]
    ones = np.ones(first.shape, np.float32)
    found, allowed = masked_correlation(first, second, ones, ones)
    assert allowed[3, 5]
    direct = np.corrcoef(first[3:, 5:].ravel(), second[:-3, :-5].ravel())[0, 1]
    assert found[3, 5] == pytest.approx(direct, abs=1e-6)


def test_reach_and_overlap_are_limits(scene):
    first, second = scene[20:80, 30:94], scene[33:93, 12:76]
    ones = np.ones(first.shape, np.float32)
    assert np.hypot(*masked_peak(first, second, ones, ones, reach=5.0).shift) < 6.5
    assert masked_peak(first, second, ones, 0 * ones).score == 0
