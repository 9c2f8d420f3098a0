"""Two regions of different resolution are told apart; noise and solvent have no resolution."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import fft

from half_map_example import ball, frequencies, low_passed, noise_halves, texture, with_noise
from manyviews.maps.bands import Band, HalfSpectra, apply, cropped, linear, local_means
from manyviews.maps.local_resolution import chance_level, local_resolution

BOX = 48
FINE, COARSE = 4.0, 10.0  # voxels, and angstrom: pixels are 1 here


@pytest.fixture(scope="module")
def mask():
    return ball(21, 4, BOX).astype(np.float32)


@pytest.fixture(scope="module")
def halves():
    """Sharp cuts at one resolution above the middle plane and at another below; FSC there about 0.85."""
    noise = texture(1, 0.0, BOX)
    above = np.clip((np.arange(BOX) - BOX // 2) / 3 + 0.5, 0, 1)[:, None, None]
    truth = above * low_passed(noise, 1 / FINE) + (1 - above) * low_passed(noise, 1 / COARSE)
    return with_noise(ball(20, 4, BOX) * truth, 0.4, 2)


def test_two_regions_are_told_apart(halves, mask):
    found = local_resolution(HalfSpectra(*halves, mask, 1.0), 4.2)
    z = (np.arange(BOX) - BOX // 2)[:, None, None]
    inside = mask > 0.99
    fine = found.resolution[inside & (z > 5)]
    coarse = found.resolution[inside & (z < -12)]
    assert np.isfinite(fine).all()
    assert np.median(fine) == pytest.approx(FINE, rel=0.12)
    assert np.median(coarse) == pytest.approx(COARSE, rel=0.25)
    assert np.quantile(coarse, 0.05) > 1.3 * np.quantile(fine, 0.95)
    assert np.isnan(found.resolution[mask < 0.5]).all()
    assert found.quantiles((0.0,))[0] >= found.finest == 2.0


@pytest.mark.parametrize("threshold", [0.5, 0.143])
def test_noise_is_resolved_nowhere(mask, threshold):
    for seed in range(3):
        found = local_resolution(HalfSpectra(*noise_halves(seed, BOX), mask, 1.0), 4.0, threshold=threshold)
        assert np.isnan(found.resolution).all()
        assert np.isnan(found.quantiles((0.5,))[0])


def test_solvent_in_the_mask_is_not_resolved(halves):
    """Most of this mask is solvent, far from the particle."""
    small = with_noise(ball(7, 3, BOX) * texture(1, 0.0, BOX), 0.3, 3)
    whole = ball(23, 2, BOX).astype(np.float32)
    distance = np.linalg.norm(np.indices((BOX,) * 3) - BOX // 2, axis=0)
    found = local_resolution(HalfSpectra(*small, whole, 1.0), 3.0).resolution
    # the lowest band's windows reach eighteen voxels
    assert np.isfinite(found[distance < 5]).all()
    near, far = np.median(found[distance < 4]), found[(distance > 18) & (whole > 0.5)]
    assert np.all(np.isnan(far) | (far > 2.5 * near))


def test_noise_scatters_as_the_number_of_samples_says():
    """As one over the root of the samples, a little less: windows are hardly wider than what is alike."""
    everywhere, inner = np.ones((BOX,) * 3, np.float32), slice(4, -4)
    for centre in (0.2, 0.33, 0.45):
        band = Band(centre)
        squares = []
        for seed in range(4):
            halves = HalfSpectra(*noise_halves(seed, BOX), everywhere, 1.0)
            means = local_means(halves, band, halves.band_maps(band), 0.0)
            scaled = means.correlation * np.sqrt(means.samples)
            squares.append(np.mean(scaled[inner, inner, inner] ** 2))
            assert np.all(means.correlation < chance_level(means, band, halves))
        assert np.sqrt(np.mean(squares)) == pytest.approx(0.88, abs=0.15)


def test_a_place_at_the_rim_of_the_mask_has_fewer_samples(halves, mask):
    spectra = HalfSpectra(*halves, mask, 1.0)
    band = Band(0.25)
    samples = local_means(spectra, band, spectra.band_maps(band), 0.0).samples
    middle = BOX // 2
    assert samples[middle, middle, middle] > 1.3 * samples[middle, middle, middle + 20]


def test_bands_add_up_to_one():
    frequency = np.linspace(0, 0.5, 400)
    centres = 0.06 * 1.25 ** np.arange(12)
    total = sum(Band(centre, lowest=number == 0).weights(frequency) for number, centre in enumerate(centres))
    np.testing.assert_allclose(total, 1, atol=1e-5)


@pytest.mark.parametrize("box", [47, 48])
def test_a_band_is_the_same_on_its_grid(box):
    """Read at the places of the coarse grid, the band of the whole map is that of the coarse one."""
    first, second = noise_halves(5, box)
    halves = HalfSpectra(first, second, np.ones((box,) * 3, np.float32), 1.0)
    band = Band(0.1)
    points = halves.grid(band)
    assert points < box
    coarse = halves.band_maps(band)[0]
    frequency = np.minimum(frequencies(box), 9.0)
    whole = fft.irfftn(fft.rfftn(first) * band.weights(frequency), (box,) * 3)
    spectrum = cropped(fft.rfftn(whole), box, points)
    np.testing.assert_allclose(coarse, fft.irfftn(spectrum, (points,) * 3) * (points / box) ** 3, atol=1e-5)
    assert coarse[0, 0, 0] == pytest.approx(whole[0, 0, 0], abs=1e-4)


def test_reading_between_samples_is_linear():
    weights = linear(np.array([0.0, 1.0, 2.5, 9.0]), 3, 2.0)
    np.testing.assert_allclose(weights, [[1, 0, 0], [0.5, 0.5, 0], [0, 0.75, 0.25], [0, 0, 1]])
    volume = np.random.default_rng(0).normal(size=(3, 3, 3)).astype(np.float32)
    expected = np.einsum("az,by,cx,zyx->abc", weights, weights, weights, volume)
    np.testing.assert_allclose(apply(weights, volume), expected, atol=1e-6)
