"""Bad lines and borders are found in noise and nowhere else, and are filled by what is around them."""

import numpy as np
import pytest
import scipy.ndimage

from manyviews.tilt.pixels.borders import find_border
from manyviews.tilt.pixels.faults import Faults, filled
from manyviews.tilt.pixels.lines import always_bad, line_levels

SIDE, NOISE = 96, 0.2


def specimen(rng, noise=NOISE):
    """Blobs of spread 1, in noise."""
    smooth = scipy.ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), 3.0)
    return (smooth / smooth.std() + noise * rng.standard_normal((SIDE, SIDE))).astype(np.float32)


def bad(image, axis):
    return line_levels(image, axis, NOISE).bad.tolist()


@pytest.mark.parametrize("axis", [0, 1])
def test_a_line_that_is_off_is_found_alone(rng, axis):
    image = specimen(rng)
    assert bad(image, axis) == []
    image[40 if axis == 0 else slice(None), slice(None) if axis == 0 else 40] += 1.0
    assert bad(image, axis) == [40]
    assert bad(image, 1 - axis) == []


def test_lines_without_texture_or_with_much_of_it_are_found(rng):
    image = specimen(rng)
    image[20] += 3.0 * rng.standard_normal(SIDE).astype(np.float32)
    image[60] = image.mean()
    assert bad(image, 0) == [20, 60]


def test_a_rod_along_a_line_is_specimen(rng):
    image = specimen(rng)
    image[30, : SIDE // 3] += 2.0
    assert bad(image, 0) == []


def test_a_line_that_is_off_a_little_in_all_images_is_found_in_their_mean(rng):
    images = [specimen(rng, 1.0) for _ in range(40)]
    for image in images:
        image[:, 17] += 0.6
    levels = [line_levels(image, 1, 1.0) for image in images]
    assert sum(17 in level.bad for level in levels) < 20
    mean = np.mean([level.off for level in levels], axis=0)
    assert always_bad(mean, 40, SIDE).tolist() == [17]
    assert always_bad(np.delete(mean, [16, 17, 18]), 40, SIDE).tolist() == []


def test_a_slice_that_curves_in_all_images_is_specimen_and_two_bad_lines_together_are_not(rng):
    """A line across the tilt axis sees the same slice in every image, which the mean does not take out."""
    off = 0.01 * rng.standard_normal(SIDE)
    off[30:34] = [-0.18, -0.25, -0.24, -0.15]
    off[60:64] = [-0.15, 0.3, 0.3, -0.15]  # the mean of neighbours on both sides is wrong too
    off[80:83] = [0.0, 0.4, 0.0]
    assert set(always_bad(off, 40, SIDE)) <= {61, 62, 81}
    assert {81} < set(always_bad(off, 40, SIDE))


def test_a_specimen_that_curves_in_little_noise_has_no_bad_line(rng):
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    ridge = np.exp(-0.5 * (y / 3.0) ** 2) * (1.0 + 0.1 * np.cos(x / 9.0))
    image = (ridge + 0.01 * rng.standard_normal((SIDE, SIDE))).astype(np.float32)
    assert line_levels(image, 0, 0.01).bad.tolist() == []
    image[20] += 0.2
    assert line_levels(image, 0, 0.01).bad.tolist() == [20]


def test_small_images_are_not_judged(rng):
    image = rng.standard_normal((20, 20)).astype(np.float32)
    image[5] += 50
    assert line_levels(image, 0, 1.0).bad.tolist() == []


def test_borders_of_one_level_are_found_and_widened(rng):
    image = specimen(rng)
    assert find_border(image) is None
    image[:, :7] = image.mean()
    image[:5] = image.mean()
    border = find_border(image)
    expected = np.zeros(image.shape, bool)
    expected[:, :9] = expected[:7] = True
    np.testing.assert_array_equal(border, expected)


def test_slanted_borders_are_found(rng):
    image = specimen(rng)
    y, x = np.indices(image.shape)
    image[x + 0.2 * y < 14] = 0.0
    border = find_border(image)
    assert border[x + 0.2 * y < 14].all()
    assert not border[x + 0.2 * y > 20].any()


def test_images_of_few_counts_have_no_border(rng):
    assert find_border(rng.poisson(0.2, (SIDE, SIDE)).astype(np.float32)) is None


def test_weights_are_0_where_faults_are(rng):
    image = specimen(rng)
    faults = Faults(rows=(3,), columns=(8,), discs=np.array([[50.0, 60.0, 4.0], [-1.0, 0.0, 3.0]]))
    weights = faults.weights(image)
    assert (weights[3] == 0).all()
    assert (weights[:, 8] == 0).all()
    assert weights[50, 64] == weights[54, 60] == weights[0, 2] == 0
    assert weights[50, 65] == weights[20, 20] == 1
    assert (weights == 0).sum() == pytest.approx(2 * SIDE - 1 + np.pi * 16 + 8, abs=8)
    assert not Faults()


def test_filled_pixels_are_like_those_around_them_and_others_stay(rng):
    image = specimen(rng, 0.0)
    weights = np.ones_like(image)
    weights[:, 40:42] = 0
    spoilt = np.where(weights > 0, image, np.float32(1e6))
    found = filled(spoilt, weights)
    np.testing.assert_array_equal(found[weights > 0], image[weights > 0])
    assert np.abs(found - image)[:, 40:42].mean() < 0.3
    assert filled(image, np.ones_like(image)) is image
    weights[:, :60] = 0
    assert np.abs(filled(spoilt, weights)).max() < 10
