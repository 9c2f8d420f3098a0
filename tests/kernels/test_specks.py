"""Hot pixels and X-rays are found and mended; beads, edges and noise are not."""

from __future__ import annotations

import numpy as np
import pytest

from manyviews.kernels import specks as kernel
from manyviews.kernels.specks import find_specks, noise_deviation

SIDE = 48
# rows and columns of one speck, and its height in standard deviations of the noise
SPECKS = {
    "one pixel": ([10], [20], 60.0),
    "a huge one": ([10], [20], 1e5),
    "a negative one": ([10], [20], -60.0),
    "a cluster of 2 x 2": ([10, 10, 11, 11], [20, 21, 20, 21], 60.0),
    "two over a corner": ([10, 11], [20, 21], 40.0),
    "in a corner": ([0], [0], 30.0),
    "a cluster at the border": ([23, 23, 24, 24], [46, 47, 46, 47], 60.0),
    "at the border": ([47, 47], [20, 21], -30.0),
    "second from the border": ([1], [30], 25.0),
}


@pytest.fixture
def noise(rng):
    return rng.normal(5, 2, size=(3, SIDE, SIDE)).astype(np.float32)


def blobs(rng, sigma, height, count=60, side=64):
    """Images of one smooth bead each, somewhere, in noise of 1."""
    y, x = np.mgrid[:side, :side]
    u, v = rng.uniform(0, side, (2, count, 1, 1))
    return height * np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * sigma**2)) + rng.normal(
        size=(count, side, side)
    )


@pytest.mark.parametrize("name", SPECKS)
def test_a_speck_is_found_pixel_by_pixel_and_mended(noise, name):
    rows, columns, height = SPECKS[name]
    spoilt = noise.copy()
    spoilt[1, rows, columns] += 2 * height
    found = find_specks(spoilt)
    assert set(zip(found.image, found.row, found.column, strict=True)) == {
        (1, row, column) for row, column in zip(rows, columns, strict=True)
    }
    np.testing.assert_allclose(found.excess / found.noise, height, atol=4, rtol=0.06)
    np.testing.assert_allclose(found.level, 5, atol=2)
    mended = spoilt.copy()
    found.mend(mended)
    assert np.abs(mended[1, rows, columns] - 5).max() < 2
    np.testing.assert_array_equal(mended[[0, 2]], noise[[0, 2]])
    found.mend(mended, 3.0)
    np.testing.assert_allclose(mended[1, rows, columns] - found.level, np.sign(height) * 6, rtol=0.1)


def test_several_specks_of_an_image_do_not_hide_one_another(noise):
    noise[0, 5, 5], noise[0, 5, 8], noise[0, 30, 30] = 1e6, 100, -100
    assert len(find_specks(noise)) == 3


def test_clean_noise_has_none_and_its_deviation_is_measured(rng):
    images = rng.normal(3, 7, size=(100, SIDE, SIDE)).astype(np.float32)
    assert len(find_specks(images)) == 0
    np.testing.assert_allclose(noise_deviation(images), 7, rtol=0.2)
    np.testing.assert_allclose(noise_deviation(5 * images + 100), 5 * noise_deviation(images), rtol=1e-4)
    counts = rng.poisson(3.0, size=(1, 300, 300)).astype(np.float32)
    assert len(find_specks(counts)) == 0


@pytest.mark.parametrize("sigma", [1.1, 1.6, 3.0, 8.0])
@pytest.mark.parametrize("height", [15, 60, -200])
def test_beads_are_no_specks(rng, sigma, height):
    """As narrow as the optics of any microscope leave them, in pixels; over the edge of the image too."""
    assert len(find_specks(blobs(rng, sigma, height).astype(np.float32))) == 0


def test_sharp_disks_lines_and_edges_are_no_specks(rng):
    image = rng.normal(size=(1, 64, 64)).astype(np.float32)
    y, x = np.mgrid[:64, :64]
    image[0, (x - 20) ** 2 + (y - 20) ** 2 <= 6.5] += 80
    image[0, 40] += 80  # a dead row
    image[0, :, 50:] -= 300
    assert len(find_specks(image)) == 0


def test_images_without_noise_keep_their_structure():
    y, x = np.mgrid[:64, :64]
    smooth = np.exp(-((x - 30.2) ** 2 + (y - 33.7) ** 2) / 8).astype(np.float32)
    assert len(find_specks(smooth[None])) == 0
    assert len(find_specks(np.zeros((1, 64, 64), np.float32))) == 0
    smooth[5, 5] = 1
    assert len(find_specks(smooth[None])) == 1


def test_too_many_are_noise_of_another_kind(rng):
    image = rng.normal(size=(1, SIDE, SIDE)).astype(np.float32)
    image[0, ::7, ::7] += 100
    assert len(find_specks(image)) == 0


def test_images_of_two_rows_have_none():
    assert len(find_specks(np.array([[[0, 1, 50], [0, 2, 1]]], np.float32))) == 0


def test_strips_change_nothing(rng, monkeypatch):
    images = rng.normal(size=(5, 40, 50)).astype(np.float32)
    images[:, ::19, ::23] += 50
    whole = find_specks(images)
    assert len(whole) > 15
    monkeypatch.setattr(kernel, "_STRIP_PIXELS", 7 * 50)
    monkeypatch.setattr(kernel, "_AT_ONCE", 4)
    again = find_specks(images)
    for name in ("image", "row", "column", "level", "excess", "noise"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))
