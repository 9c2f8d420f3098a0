"""From two half maps to all that is made of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from half_map_example import BOX, PIXEL, ball, distances, molecule, noise_halves, texture, with_noise
from manyviews.errors import InputError
from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.maps.postprocess import Postprocessing, check_halves, given_mask, postprocess
from manyviews.maps.symmetric import symmetric_mask, symmetry_correlation


@pytest.fixture(scope="module")
def halves():
    return with_noise(molecule(), 2.0, 1)


@pytest.fixture(scope="module")
def found(halves):
    return postprocess(*halves, PIXEL)


def test_all_of_it_is_made(halves, found):
    assert found.mask.kind == "automatic"
    assert 4 < found.resolution < 9
    np.testing.assert_allclose(found.mean, (halves[0] + halves[1]) / 2, atol=1e-6)
    for volume in (found.sharpened, found.locally_filtered, found.filtered.volume, found.local.resolution):
        assert volume.shape == (BOX,) * 3
        assert volume.dtype == np.float32
    best, middle, worst = found.local.quantiles((0.05, 0.5, 0.95))
    assert 0.8 * found.resolution < best <= middle <= worst < 30
    assert found.b_factor <= 0
    inside = distances() < 0.25 * BOX
    error = [np.std((one - molecule())[inside]) for one in (found.mean, found.filtered.volume)]
    assert error[1] < 0.8 * error[0]


def test_the_same_seed_gives_the_same(halves, found):
    again = postprocess(*halves, PIXEL)
    other = postprocess(*halves, PIXEL, Postprocessing(seed=1))
    random = [one.agreement.curves.random.correlation for one in (found, again, other)]
    np.testing.assert_array_equal(random[0], random[1])
    assert not np.array_equal(random[0], random[2])
    np.testing.assert_array_equal(found.sharpened, again.sharpened)


def test_a_given_b_factor_and_mask_are_taken(halves):
    mask = ball(15, 5).astype(np.float32)
    given = postprocess(*halves, PIXEL, Postprocessing(b_factor=-40.0), mask=mask)
    plain = postprocess(*halves, PIXEL, Postprocessing(b_factor=0.0), mask=mask)
    np.testing.assert_array_equal(given.mask.volume, mask)
    assert (given.mask.kind, given.b_factor, plain.b_factor) == ("given", -40.0, 0.0)
    ratio = np.abs(np.fft.rfftn(given.sharpened))[0, 0, 4] / np.abs(np.fft.rfftn(plain.sharpened))[0, 0, 4]
    assert ratio == pytest.approx(np.exp(10 * (4 / (BOX * PIXEL)) ** 2), rel=1e-3)


@pytest.mark.parametrize("seed", range(2))
def test_noise_comes_to_nothing(seed):
    nothing = postprocess(*noise_halves(seed), PIXEL)
    assert math.isinf(nothing.resolution)
    assert nothing.sharpened is nothing.local is nothing.locally_filtered is None
    assert nothing.mask.kind == "sphere"
    assert "no resolution" in " ".join(nothing.warnings)


def _symmetric(group):
    """Blobs that the group makes equal, so that nothing is interpolated."""
    places = symmetry_rotations(group) @ np.array([7.0, 3.0, 4.0])
    grid = np.indices((BOX,) * 3)[::-1].astype(float) - BOX // 2
    squared = [np.sum((grid - place[:, None, None, None]) ** 2, axis=0) for place in places]
    return sum(np.exp(-one / 8) for one in squared) * 6


def test_symmetry_is_seen_and_given_to_the_mask(halves):
    truth = _symmetric("C4")
    pair = with_noise(truth, 0.3, 2)
    four = postprocess(*pair, 4.0, Postprocessing(symmetry="C4"))
    assert four.symmetry_correlation > 0.9
    turned = np.rot90(four.mask.volume[:, 1:, 1:], axes=(1, 2))  # about index n // 2
    assert np.abs(turned - four.mask.volume[:, 1:, 1:]).max() < 0.02
    assert np.all(four.mask.volume >= postprocess(*pair, 4.0).mask.volume - 1e-5)
    wrong = postprocess(*pair, 4.0, Postprocessing(symmetry="C3"))
    assert wrong.symmetry_correlation < 0.8
    assert "has no symmetry C3" in " ".join(wrong.warnings)
    np.testing.assert_array_equal(wrong.mask.volume, postprocess(*pair, 4.0).mask.volume)


def test_coarse_turns_of_large_maps():
    box = 120
    mask = ball(20, 4, box).astype(np.float32)
    moved = np.roll(mask, 25, axis=2)
    both = symmetric_mask(moved, "C2")
    np.testing.assert_allclose(both, np.maximum(moved, np.roll(mask, -25, axis=2)), atol=0.25)
    assert symmetry_correlation(mask, np.ones_like(mask), "C2") > 0.99
    assert symmetry_correlation(moved, np.ones_like(mask), "C2") < 0.2
    assert symmetry_correlation(moved, np.ones_like(mask), "C1") == 1.0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a, b: (a, a), "the same map"),
        (lambda a, b: (a, 3 * a + 1), "the same map"),
        (lambda a, b: (a, b[1:, 1:, 1:]), "differ in size"),
        (lambda a, b: (a[1:], b[1:]), "not cubes"),
        (lambda a, b: (a, b * np.nan), "half map 2 holds NaN"),
        (lambda a, b: (np.ones_like(a), b), "half map 1 is constant"),
        (lambda a, b: (a[:8, :8, :8], b[:8, :8, :8]), "fewer than 16"),
    ],
)
def test_what_are_no_half_maps_is_refused(halves, change, said):
    with pytest.raises(InputError, match=said):
        check_halves(*change(*halves))


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.ones((BOX,) * 3, np.float32), "nearly the whole box"),
        (ball(2.0, 1.0).astype(np.float32), "nearly empty"),
        (np.ones((8,) * 3, np.float32), "40 voxels"),
    ],
)
def test_masks_that_hide_nothing_or_all_are_refused(mask, said):
    with pytest.raises(InputError, match=said):
        given_mask(mask, BOX)


def test_odd_boxes_work():
    box = 33
    truth = ball(10, box=box) * (texture(3, box=box) + 2)
    odd = postprocess(*with_noise(truth, 0.8, 4), PIXEL)
    assert math.isfinite(odd.resolution)
    assert np.isfinite(odd.locally_filtered).all()
