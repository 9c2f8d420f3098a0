"""Where a curve falls below a threshold: for the first time, for the last, and which shell a sample is in."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import fft

from manyviews.metrics.fsc import FscCurve, shell_planes
from manyviews.metrics.fsc import fsc as shell_correlation
from manyviews.metrics.masked_fsc import masked_fsc


def curve(*values):
    return FscCurve(
        np.arange(len(values)) / 20, np.array(values, dtype=float), np.full(len(values), 99.0), 2.0
    )


def test_a_curve_that_dips_and_rises_has_two_crossings():
    one = curve(1, 0.9, 0.5, 0.1, 0.1, 0.6, 0.2, 0.0)
    assert one.first_crossing(0.3) == pytest.approx(20 / 2.5)
    assert one.last_crossing(0.3) == pytest.approx(20 / 5.75)
    once = curve(1, 0.9, 0.5, 0.1, 0.0)
    assert once.first_crossing(0.3) == once.last_crossing(0.3) == once.resolution(0.3)


def test_the_ends_of_a_curve():
    assert curve(1, 0.9, 0.8).first_crossing(0.3) == curve(1, 0.9, 0.8).last_crossing(0.3) == 4.0
    assert math.isinf(curve(1, 0.1, 0.8, 0).first_crossing(0.3))  # shell 0, the mean, says nothing
    assert curve(1, 0.1, 0.8, 0.3).last_crossing(0.3) == 4.0
    assert math.isinf(curve(1, 0.1, 0.2).last_crossing(0.3))
    assert curve(0, 0.9, 0.1).first_crossing(0.5) == pytest.approx(20 / 1.5)


def test_half_integer_shells_go_outwards():
    """Along the short axis of this box frequencies are 1.5 shells apart."""
    shape = (6, 9, 9)
    planes = [plane.reshape(9, 5) for plane in shell_planes(shape)]
    assert [int(plane[0, 0]) for plane in planes] == [0, 2, 3, 5, 3, 2]  # of 0, 1.5, 3, 4.5, 3, 1.5
    for z, plane in enumerate(planes):
        radius = np.sqrt(
            (np.fft.fftfreq(6)[z] * 9) ** 2 + (np.fft.fftfreq(9)[:, None] * 9) ** 2 + np.arange(5.0) ** 2
        )
        np.testing.assert_array_equal(plane, np.floor(radius + 0.5 + 1e-9))


@pytest.mark.parametrize("box", [16, 17])
def test_a_wave_is_in_the_nearest_shell(box):
    """Half a shell off would be half of the frequency, at the first one."""
    for k in ((1, 1, 0), (2, 2, 1), (3, 1, 1), (0, 0, 5)):
        phase = 2 * np.pi * np.einsum("azyx,a->zyx", np.indices((box,) * 3), np.array(k) / box)
        rng = np.random.default_rng(0)
        halves = [np.cos(phase) + 0.01 * rng.normal(size=phase.shape) for _ in range(2)]
        found = shell_correlation(*halves, 1.0).correlation
        assert np.flatnonzero(found[1:] > 0.9).tolist() == [math.floor(np.linalg.norm(k) + 0.5) - 1]


def test_phases_may_be_random_from_the_first_shell_below():
    """A dip in front of the longest run of agreement counts for RELION's rule."""
    rng = np.random.default_rng(3)
    spectra = [np.fft.rfftn(rng.normal(size=(24,) * 3)) for _ in range(3)]
    shells = np.concatenate([plane.reshape(1, 24, -1) for plane in shell_planes((24,) * 3)])
    own = (shells == 2) | (shells > 8)
    halves = [fft.irfftn(np.where(own, one, spectra[2]), (24,) * 3) for one in spectra[:2]]
    mask = np.ones((24,) * 3, np.float32)
    assert masked_fsc(*halves, 1.0, mask).random_from == 9
    first = masked_fsc(*halves, 1.0, mask, from_first_below=True)
    assert first.random_from == 2
    np.testing.assert_array_equal(first.corrected.correlation[:4], first.masked.correlation[:4])
    same = masked_fsc(halves[0], halves[0], 1.0, mask, from_first_below=True)
    assert same.random_from == 13
