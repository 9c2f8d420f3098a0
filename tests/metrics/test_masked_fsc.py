"""What a mask adds to a Fourier shell correlation is measured, taken out, and told."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import fft

from manyviews.errors import InputError
from manyviews.metrics.fsc import FscCurve, fsc, fsc_of_transforms, shell_planes, transform
from manyviews.metrics.masked_fsc import FscCurves, masked_fsc, with_random_phases

BOX, PIXEL, CUT = 48, 4.0, 8  # the halves share what is below shell CUT


def shells(box=BOX):
    return np.concatenate([plane.reshape(1, box, -1) for plane in shell_planes((box,) * 3)])


def filtered(seed, low, high):
    """White noise between two shells."""
    spectrum = fft.rfftn(np.random.default_rng(seed).normal(size=(BOX,) * 3))
    inside = (shells() >= low) & (shells() < high)
    return fft.irfftn(np.where(inside, spectrum, 0), (BOX,) * 3).astype(np.float32)


@pytest.fixture(scope="module")
def halves():
    """Strong below shell `CUT` and the same there, weak and independent above."""
    common = 20 * filtered(1, 1, CUT) + 3
    return tuple(common + filtered(seed, CUT, BOX) for seed in (2, 3))


def ball(radius, edge):
    along = np.arange(BOX) - BOX // 2
    distance = np.sqrt(along[:, None, None] ** 2 + along[:, None] ** 2 + along**2)
    return np.clip((radius - distance) / edge + 0.5, 0, 1).astype(np.float32)


def test_only_the_phases_from_the_shell_on_change():
    volume = np.random.default_rng(0).normal(size=(BOX, BOX - 3, BOX + 1)).astype(np.float32)
    made = with_random_phases(volume, 9, np.random.default_rng(1))
    assert made.shape == volume.shape
    before, after = transform(volume), transform(made)
    np.testing.assert_allclose(np.abs(after), np.abs(before), atol=2e-3)
    assert fsc(volume, made, 1.0).correlation[:9].min() > 0.9999
    assert np.abs(fsc(volume, made, 1.0).correlation[12:]).max() < 0.1


def test_what_the_mask_carries_from_a_shared_map_is_taken_out(halves):
    """Halves that share what is below shell `CUT`, as noise aligned to one map does, agree so far only."""
    mask = ball(12, 4)
    apart, told = (masked_fsc(*halves, PIXEL, mask, shared=shared) for shared in (None, CUT - 1))
    assert apart.corrected.correlation[CUT] > 0.5  # two shells are left as they are
    assert told.random_from == CUT
    assert told.corrected.correlation[CUT - 1] > 0.9
    assert np.abs(told.corrected.correlation[CUT : CUT + 4]).max() < 0.143
    # halves that agree far beyond what they share are judged as others
    far, other = (masked_fsc(*halves, PIXEL, mask, shared=shared) for shared in (2, None))
    np.testing.assert_array_equal(far.corrected.correlation, other.corrected.correlation)


def test_a_sharp_mask_adds_correlation_that_is_taken_out_and_told(halves):
    mask = ball(8, 1e-6)
    curves = masked_fsc(*halves, PIXEL, mask)
    assert curves.random_from == CUT
    np.testing.assert_array_equal(curves.unmasked.correlation, fsc(*halves, PIXEL).correlation)
    np.testing.assert_array_equal(curves.masked.correlation, fsc(*halves, PIXEL, mask=mask).correlation)
    beyond = slice(CUT + 2, None)
    assert curves.masked.correlation[beyond].mean() > 0.6
    assert curves.random.correlation[beyond].mean() > 0.6
    assert abs(curves.corrected.correlation[beyond].mean()) < 0.1
    true = BOX * PIXEL / CUT
    assert curves.masked.resolution(0.143) < 0.5 * true
    assert curves.corrected.resolution(0.143) == pytest.approx(true, rel=0.25)
    assert curves.warning().startswith("the mask is too tight or its edge too sharp")
    assert f"{curves.corrected.resolution(0.143):.3g} angstrom" in curves.warning()


def test_a_wide_soft_mask_adds_nothing():
    common = 3 * filtered(1, 1, CUT)
    pair = (common + filtered(2, CUT, BOX), common + filtered(3, CUT, BOX))
    curves = masked_fsc(*pair, PIXEL, ball(16, 12))
    assert abs(curves.random.correlation[CUT + 2 :].mean()) < 0.02
    assert curves.corrected.resolution(0.143) == pytest.approx(BOX * PIXEL / CUT, rel=0.15)
    assert curves.warning() == ""


def test_a_true_signal_is_what_is_left():
    """White signal and noise alike give 0.5 everywhere, with the mask's part or without."""
    signal = filtered(7, 0, BOX)
    pair = (signal + filtered(8, 0, BOX), signal + filtered(9, 0, BOX))
    curves = masked_fsc(*pair, PIXEL, ball(16, 6))
    assert curves.random_from == 1  # 0.8 is never reached
    assert np.mean(curves.corrected.correlation[5:]) == pytest.approx(0.5, abs=0.03)
    np.testing.assert_allclose(curves.corrected.correlation[:3], curves.masked.correlation[:3])


def test_the_formula_and_where_it_begins(halves):
    curves = masked_fsc(*halves, PIXEL, ball(10, 2))
    total, noise = curves.masked.correlation, np.maximum(curves.random.correlation, 0)
    expected = np.where(np.arange(len(total)) < CUT + 2, total, (total - noise) / (1 - noise))
    np.testing.assert_allclose(curves.corrected.correlation, expected)
    assert (curves.corrected.correlation <= total + 1e-12).all()


def test_random_halves_that_disagree_by_chance_add_nothing():
    curves = masked_fsc(filtered(4, 0, BOX), filtered(5, 0, BOX), PIXEL, ball(16, 6))
    disagree = curves.random.correlation < 0
    assert 3 < np.count_nonzero(disagree) < 23
    np.testing.assert_array_equal(curves.corrected.correlation[disagree], curves.masked.correlation[disagree])
    assert np.abs(curves.random.correlation[3:]).max() < 0.3


def test_seeds_decide_and_equal_halves_need_no_correction(halves):
    mask = ball(10, 2)
    one, again, other = (masked_fsc(*halves, PIXEL, mask, seed=seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one.random.correlation, again.random.correlation)
    assert not np.array_equal(one.random.correlation, other.random.correlation)
    same = masked_fsc(halves[0], halves[0], PIXEL, mask)
    assert same.random_from == BOX // 2 + 1
    np.testing.assert_allclose(same.corrected.correlation, 1, atol=1e-5)
    assert same.warning() == ""


def test_weights_leave_out_what_was_not_measured(halves):
    """Frequencies that both halves share by being empty of data must not count."""
    spectra = [transform(half) for half in halves]
    wedge = np.abs(fft.fftfreq(BOX))[:, None, None] > 0.6 * fft.rfftfreq(BOX)
    wedge = np.broadcast_to(wedge, spectra[0].shape)
    artefact = transform(30 * filtered(11, 1, BOX))
    spectra = [np.where(wedge, artefact, one) for one in spectra]
    shape = halves[0].shape
    plain = fsc_of_transforms(*spectra, shape, PIXEL)
    counted = fsc_of_transforms(*spectra, shape, PIXEL, weights=~wedge)
    assert plain.correlation[CUT + 2 :].min() > 0.5
    assert np.abs(counted.correlation[CUT + 2 :]).max() < 0.15
    np.testing.assert_allclose(counted.correlation[1:CUT], 1, atol=1e-3)
    # a sample that counts half everywhere is a whole sample
    half = fsc_of_transforms(*spectra, shape, PIXEL, weights=0.5 * ~wedge)
    np.testing.assert_allclose(half.samples, counted.samples)
    np.testing.assert_allclose(half.correlation, counted.correlation)
    assert counted.samples[10] < plain.samples[10]


def test_curves_are_written_and_read(tmp_path, halves):
    path = tmp_path / "fsc.csv"
    curves = masked_fsc(*halves, PIXEL, ball(8, 1e-6))
    curves.write_csv(path)
    read = FscCurves.read_csv(path)
    for name in ("unmasked", "masked", "random", "corrected"):
        one, other = getattr(read, name), getattr(curves, name)
        np.testing.assert_allclose(one.correlation, other.correlation, atol=1e-6)
        np.testing.assert_allclose(one.frequency, other.frequency, rtol=1e-7)
    assert read.random_from == CUT
    assert read.warning() == curves.warning()
    np.testing.assert_allclose(FscCurve.read_csv(path).correlation, curves.corrected.correlation, atol=1e-6)
    curves.corrected.write_csv(path, overwrite=True)
    assert FscCurves.read_csv(path) is None
    assert FscCurves.read_csv(tmp_path / "none.csv") is None
    path.write_text(
        "frequency_per_angstrom,fsc,fsc_unmasked,fsc_masked,fsc_random_phases\n0,1,1,1,1\n.1,1,7,1,1\n"
    )
    with pytest.raises(InputError, match="not between -1 and 1"):
        FscCurves.read_csv(path)


def test_what_cannot_be_compared_is_refused(halves):
    with pytest.raises(ValueError, match="same shape"):
        masked_fsc(*halves, PIXEL, np.ones((4, 4, 4)))
    with pytest.raises(ValueError, match="inside the mask"):
        masked_fsc(*halves, PIXEL, np.zeros_like(halves[0]))
    nothing = masked_fsc(filtered(1, 0, BOX), filtered(2, 0, BOX), PIXEL, ball(16, 8))
    assert nothing.corrected.resolution(0.5) > BOX * PIXEL / 4  # a few coarse samples may agree
    assert math.isinf(nothing.unmasked.resolution(0.8))
