import math

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.metrics.fsc import FscCurve, fsc

SLAB = (12, 40, 33)


def noise(seed, shape=SLAB):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def brute_force(a, b):
    """Sums over the whole spectrum, no half-spectrum, no shortcuts."""
    fa, fb = np.fft.fftn(a), np.fft.fftn(b)
    grids = np.meshgrid(*(np.fft.fftfreq(n) for n in a.shape), indexing="ij")
    shells = np.floor(np.sqrt(sum(grid**2 for grid in grids)) * max(a.shape) + 0.5 + 1e-9).astype(int)
    curve = []
    for shell in range(max(a.shape) // 2 + 1):
        x, y = fa[shells == shell], fb[shells == shell]
        cross = np.sum(x * y.conj()).real
        curve.append(cross / np.sqrt(np.sum(abs(x) ** 2) * np.sum(abs(y) ** 2)))
    return np.array(curve), np.bincount(shells.ravel())[: len(curve)]


@pytest.mark.parametrize("shape", [SLAB, (16, 16, 16), (9, 24, 30), (7, 21, 9)])
def test_equals_brute_force_on_any_shape(shape):
    a = noise(1, shape)
    b = a + noise(2, shape)
    curve = fsc(a, b, 3.0)
    expected, counts = brute_force(a, b)
    np.testing.assert_allclose(curve.correlation, expected, atol=2e-6)
    np.testing.assert_allclose(2 * curve.samples, counts)
    np.testing.assert_allclose(curve.frequency, np.arange(len(expected)) / (max(shape) * 3.0))


def test_equal_volumes_reach_the_nyquist_limit():
    a = noise(1)
    curve = fsc(a, 2 * a, 3.0)
    np.testing.assert_allclose(curve.correlation, 1, atol=1e-5)
    assert curve.resolution(0.143) == 6.0


def test_unrelated_noise_has_no_resolution():
    curve = fsc(noise(1, (24, 64, 64)), noise(2, (24, 64, 64)), 3.0)
    assert np.abs(curve.correlation[10:]).max() < 0.15
    # under the 1/sqrt(n) scatter of independent samples
    scatter = curve.correlation[5:] * np.sqrt(2 * curve.samples[5:])
    assert np.std(scatter) == pytest.approx(1, abs=0.35)
    assert math.isinf(curve.resolution(0.99))


def test_resolution_of_a_sharp_cut_in_a_slab_is_the_cut():
    shape, pixel_size, cut = (20, 80, 80), 2.0, 1 / 12.0
    grids = np.meshgrid(*(np.fft.fftfreq(n, pixel_size) for n in shape), indexing="ij")
    inside = np.sqrt(sum(grid**2 for grid in grids)) <= cut
    common, one, two = (np.fft.fftn(noise(seed, shape)) for seed in (1, 2, 3))
    a, b = (np.fft.ifftn(np.where(inside, common, own)).real.astype(np.float32) for own in (one, two))
    for threshold in (0.5, 0.143):
        found = fsc(a, b, pixel_size).resolution(threshold)
        assert 1 / found == pytest.approx(cut, abs=1 / (80 * pixel_size))


def test_white_noise_gives_the_expected_plateau():
    signal = noise(1, (32, 32, 32))
    curve = fsc(signal + noise(2, signal.shape), signal + noise(3, signal.shape), 1.0)
    assert np.mean(curve.correlation[6:]) == pytest.approx(0.5, abs=0.02)


def test_soft_mask_hides_what_it_covers():
    a, b = noise(1), noise(1)
    b[:, :10] += 5 * noise(2)[:, :10]
    mask = np.ones(SLAB, dtype=np.float32)
    mask[:, :10] = 0
    assert fsc(a, b, 1.0).correlation.min() < 0.9
    np.testing.assert_allclose(fsc(a, b, 1.0, mask=mask).correlation, 1, atol=1e-5)


def test_crossing_is_interpolated():
    frequency = np.arange(5) * 0.1
    curve = FscCurve(frequency, np.array([1, 0.9, 0.7, 0.3, 0.0]), np.full(5, 100.0), 1.0)
    assert curve.resolution(0.5) == pytest.approx(1 / 0.25)
    assert curve.resolution(-0.1) == 2.0
    assert math.isinf(curve.resolution(0.95))
    assert FscCurve(frequency, np.array([1, 0.1, 0.7, 0.3, 0]), np.ones(5), 1.0).resolution(0.5) == 4.0
    assert np.all(curve.half_bit() > 0.2071 / 1.2071)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="same shape"):
        fsc(noise(1), noise(1)[:, :, :-1], 1.0)


def test_a_written_curve_is_read_again(tmp_path):
    frequency = np.arange(4) / 24.0
    curve = FscCurve(frequency, np.array([1, 0.75, -0.125, 0.5]), np.full(4, 9.0), 4.0)
    curve.write_csv(tmp_path / "fsc.csv")
    assert (tmp_path / "fsc.csv").read_text().splitlines()[:2] == ["frequency_per_angstrom,fsc", "0,1.000000"]
    read = FscCurve.read_csv(tmp_path / "fsc.csv")
    assert read is not None
    np.testing.assert_allclose(read.frequency, frequency, rtol=1e-7)
    np.testing.assert_array_equal(read.correlation, curve.correlation)
    assert read.pixel_size == pytest.approx(4.0)
    with pytest.raises(InputError, match="exists"):
        curve.write_csv(tmp_path / "fsc.csv")
    curve.write_csv(tmp_path / "fsc.csv", samples=True, overwrite=True)
    header, first = (tmp_path / "fsc.csv").read_text().splitlines()[:2]
    assert header == "frequency_per_angstrom,fsc,half_bit,samples"
    assert first.startswith("0,1.000000,")
    assert first.endswith(",9")
    assert FscCurve.read_csv(tmp_path / "absent.csv") is None
