"""What halves agree in, and what is said where it is doubtful."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import fft

from half_map_example import BOX, PIXEL, ball, frequencies, molecule, noise_halves, with_noise
from manyviews.maps.agreement import agreement, as_relion_counts
from manyviews.metrics.fsc import FscCurve, fsc
from manyviews.metrics.masked_fsc import masked_fsc

MASK = ball(0.36 * BOX, 6).astype(np.float32)


def test_halves_that_agree_have_one_resolution():
    halves = with_noise(molecule(), 2.0, 1)
    found = agreement(*halves, PIXEL, MASK)
    expected = masked_fsc(*halves, PIXEL, MASK, from_first_below=True)
    np.testing.assert_array_equal(found.curves.corrected.correlation, expected.corrected.correlation)
    assert found.resolution == found.curves.corrected.first_crossing(0.143) == found.last_crossing
    assert found.resolution < fsc(*halves, PIXEL).first_crossing(0.143)
    assert found.directional.shape == (24,)
    assert found.directional.min() <= found.resolution * 1.05
    assert found.warnings == ()
    below = np.flatnonzero(found.curves.corrected.correlation < 0.143)[0]
    assert as_relion_counts(found.curves.corrected) == pytest.approx(BOX * PIXEL / (below - 1))


@pytest.mark.parametrize("seed", range(5))
def test_noise_has_no_resolution(seed):
    """In the sphere, and in a mask that was made of the very noise."""
    halves = noise_halves(seed)
    low = fft.irfftn(fft.rfftn(halves[0] + halves[1]) * (frequencies() < 0.08), (BOX,) * 3)
    for mask in (MASK, np.clip(low / low.std() - 0.5, 0, 1).astype(np.float32)):
        found = agreement(*halves, PIXEL, mask)
        assert math.isinf(found.resolution)
        assert np.all(found.curves.corrected.correlation[5:] < 0.143)
        assert "there is no resolution" in found.warnings[0]
        assert found.cones == ()


def test_a_curve_that_rises_again_is_told():
    shared = np.random.default_rng(2).normal(size=(BOX,) * 3)
    spectra = [fft.rfftn(half) for half in (*noise_halves(3), shared)]
    shells = frequencies() * BOX
    common = (shells < 9.5) | ((shells > 12.5) & (shells < 15.5))
    halves = [fft.irfftn(np.where(common, spectra[2], one), (BOX,) * 3) for one in spectra[:2]]
    found = agreement(*halves, PIXEL, ball(17, 8).astype(np.float32))
    assert BOX * PIXEL / found.resolution == pytest.approx(10, abs=1)
    assert BOX * PIXEL / found.last_crossing == pytest.approx(16, abs=1)
    assert any("rises again" in sentence for sentence in found.warnings)


def test_a_map_without_some_directions_is_told():
    halves = with_noise(molecule(), 0.5, 4)
    along = fft.fftfreq(BOX)
    near_z = np.abs(along)[:, None, None] > 0.85 * np.maximum(frequencies(), 1e-9)
    lost = near_z & (frequencies() > 0.12)
    noise = [fft.rfftn(half) for half in noise_halves(5)]
    cut = [
        fft.irfftn(np.where(lost, one, fft.rfftn(half)), (BOX,) * 3)
        for half, one in zip(halves, noise, strict=True)
    ]
    found = agreement(*cut, PIXEL, MASK)
    worst = found.cones[int(np.argmax(found.directional))]
    assert abs(worst.direction[2]) > 0.7
    assert any("depends on the direction" in sentence for sentence in found.warnings)


def test_agreement_to_the_end_is_told():
    found = agreement(*with_noise(molecule(), 1e-3, 6), PIXEL, MASK)
    assert found.resolution == 2 * PIXEL
    assert any("Nyquist" in sentence for sentence in found.warnings)


def test_the_resolution_that_relion_counts_is_a_shell():
    curve = FscCurve(np.arange(5) / 20, np.array([1, 0.5, 0.2, 0.1, 0.3]), np.ones(5), 2.0)
    assert as_relion_counts(curve) == 10.0
    assert math.isinf(as_relion_counts(FscCurve(curve.frequency, np.zeros(5), np.ones(5), 2.0)))
    assert as_relion_counts(FscCurve(curve.frequency, np.ones(5), np.ones(5), 2.0)) == 5.0
