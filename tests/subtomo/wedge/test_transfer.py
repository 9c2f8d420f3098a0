"""Transfers of subtomograms: their layout, their values, and that they are of something real."""

from __future__ import annotations

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.geometry.missing_wedge import TiltScheme
from manyviews.operators.contrast_transfer import Optics, ctf_values
from manyviews.subtomo.wedge.transfer import exposure_decay, frequency_radius, lattice, transfer

ONE_DEGREE = np.arange(-60, 61)
OPTICS = Optics.make(300.0, 2.0, 0.1, [[30_000.0, 30_000.0]])


@pytest.mark.parametrize("box", [15, 16])
@pytest.mark.parametrize("axis", ["x", "y", 25.0])
def test_a_range_is_binary_and_of_something_real(box: int, axis):
    found = transfer(box, 6.0, TiltScheme.of_range(-40, 60, axis))
    assert found.shape == (box, box, box // 2 + 1)
    assert found.dtype == np.float32
    assert set(np.unique(found)) == {0.0, 1.0}
    assert found[0, 0, 0] == 1
    back = np.fft.rfftn(np.fft.irfftn(found, s=(box,) * 3, axes=(0, 1, 2)))
    np.testing.assert_allclose(back, found, atol=1e-6)


def test_a_range_measures_where_the_angle_is_in_it():
    found = transfer(32, 6.0, TiltScheme.of_range(-40, 60))
    # (kz, ky, kx): kz = kx tan(t)
    assert found[5, 3, 8] == 1  # 32 degrees
    assert found[14, 3, 8] == 0  # 60.3
    assert found[-6, 3, 8] == 1  # -37
    assert found[-8, 3, 8] == 0  # -45
    assert found[7, 0, 0] == 0
    assert found[0, 7, 0] == 1


def test_listed_tilts_one_degree_apart_are_the_range():
    box = 32
    listed = transfer(box, 6.0, TiltScheme.of_tilts(ONE_DEGREE))
    ranged = transfer(box, 6.0, TiltScheme.of_range(-60, 60))
    kx, _, kz = lattice(box)
    inner = TiltScheme.of_range(-50, 50).measured(*lattice(box)) & (np.hypot(kx, kz) > 5)
    np.testing.assert_allclose(listed[inner], 1, atol=0.06)
    assert listed[inner].mean() > 0.99
    assert (ranged[inner] == 1).all()
    outer = (np.hypot(kx, kz) > 8) & (transfer(box, 6.0, TiltScheme.of_range(-70, 70)) == 0)
    assert not listed[outer].any()
    edge = TiltScheme.of_range(59.9, 60.1).measured(*lattice(box)) & (np.hypot(kx, kz) > 5)
    np.testing.assert_allclose(listed[edge], 0.5, atol=0.1)


def test_tilts_far_apart_leave_gaps_between_them():
    box = 32
    found = transfer(box, 6.0, TiltScheme.of_tilts([0.0, 30.0]))
    assert found[0, 4, 10] == 1
    assert found[3, 0, 14] == 0  # 12 degrees, 2.9 cycles above the plane of no tilt
    # half a cycle off the plane of no tilt, far from the other
    half = transfer(box, 6.0, TiltScheme.of_tilts([np.rad2deg(np.arctan(0.5 / 10))]))
    assert half[0, 0, 10] == pytest.approx(1.5 - 20 * np.sin(np.arctan(0.05)), abs=1e-6)


def test_weights_and_dose_are_factors_of_their_tilt():
    box = 32
    tilts = [-60.0, 0.0, 60.0]
    found = transfer(box, 4.0, TiltScheme.of_tilts(tilts), weights=[0.5, 1.0, 0.25], dose=[0.0, 20.0, 0.0])
    # in the plane of no tilt, far from the others
    assert found[0, 0, 12] == pytest.approx(exposure_decay(12 / 128, 20.0), rel=1e-5)
    # on the axis each stands for a third of half a turn, half a cycle from the axis
    ramp = np.pi / 3 / 2
    assert 3 * ramp > 1  # so it is their mean
    assert found[0, 9, 0] == pytest.approx((0.75 + exposure_decay(9 / 128, 20.0)) / 3, rel=1e-5)
    assert exposure_decay(0.0, 50.0) == 1.0
    assert exposure_decay(1 / 3, 10.0) == pytest.approx(np.exp(-5 / (0.24499 * 3**1.6649 + 2.8141)))


@pytest.mark.parametrize("images_ctf", ["signed", "flipped", "multiplied"])
@pytest.mark.parametrize("scheme", [TiltScheme.of_range(-60, 60), TiltScheme.of_tilts(ONE_DEGREE)])
def test_a_round_ctf_is_the_ctf_at_the_length_of_the_frequency(scheme, images_ctf):
    box, pixel = 32, 6.0
    found = transfer(box, pixel, scheme, ctf=OPTICS, images_ctf=images_ctf)
    for k in ((0, 0, 0), (4, 3, 0), (6, 2, 4), (2, 8, -1)):
        value = float(ctf_values(OPTICS, np.array([[np.linalg.norm(k), 0]]), box, pixel)[0, 0])
        wanted = {"signed": value, "flipped": abs(value), "multiplied": value**2}[images_ctf]
        # a slab's frequencies are seen a little nearer to the middle than they are
        tolerance = 1e-6 if not scheme.tilts else 0.03
        assert found[k[2], k[1], k[0]] == pytest.approx(wanted, abs=tolerance), k
    assert (found.min() < -0.5) == (images_ctf == "signed")


def test_ctf_of_each_tilt_is_that_of_its_plane():
    box, pixel = 32, 6.0
    optics = Optics.make(
        300.0, 2.7, 0.07, [[20_000.0, 26_000.0], [40_000.0, 40_000.0]], defocus_angle=[30.0, 0.0]
    )
    found = transfer(box, pixel, TiltScheme.of_tilts([0.0, 90.0]), ctf=optics)
    first = ctf_values(optics.select(slice(0, 1)), np.array([[9, 4]]), box, pixel)
    assert found[0, 4, 9] == pytest.approx(float(first[0, 0]), abs=1e-6)
    # tilted by 90 degrees about y the image's x axis is the volume's z
    second = ctf_values(optics.select(slice(1, 2)), np.array([[9, 4]]), box, pixel)
    assert found[9, 4, 0] == pytest.approx(float(second[0, 0]), abs=1e-6)


def test_two_axes_measure_the_union():
    y, x = TiltScheme.of_range(-60, 60, "y"), TiltScheme.of_range(-60, 60, "x")
    both = transfer(16, 6.0, [y, x])
    np.testing.assert_array_equal(both, np.maximum(transfer(16, 6.0, y), transfer(16, 6.0, x)))
    missing = 1 - both[:, :8, :8].mean()
    assert missing < 0.6 * (1 - transfer(16, 6.0, y)[:, :8, :8].mean())


@pytest.mark.parametrize("box", [15, 16])
def test_slabs_and_ctf_are_of_something_real(box: int):
    optics = Optics.make(300.0, 2.7, 0.07, [[20_000.0, 26_000.0]], defocus_angle=30.0)
    found = transfer(box, 6.0, TiltScheme.of_tilts([-40, -7, 33, 60]), ctf=optics, dose=[0, 3, 6, 9])
    back = np.fft.rfftn(np.fft.irfftn(found, s=(box,) * 3, axes=(0, 1, 2)))
    np.testing.assert_allclose(back, found, atol=1e-6)


def test_nothing_beyond_the_radius():
    found = transfer(16, 6.0, TiltScheme.of_range(-60, 60), radius=5)
    assert not found[frequency_radius(16) > 5].any()
    assert found[0, 0, 5] == 1


@pytest.mark.parametrize(
    ("schemes", "more", "words"),
    [
        ([], {}, "no tilt scheme"),
        ([TiltScheme.of_range(-60, 60), TiltScheme.of_tilts([0.0])], {}, "some lists"),
        (TiltScheme.of_range(-60, 60), {"weights": [1.0]}, "a range of tilts has no views"),
        (TiltScheme.of_tilts([0.0, 3.0]), {"weights": [1.0]}, "1 weights were given for 2 tilts"),
        (TiltScheme.of_tilts([0.0, 3.0]), {"dose": [1.0, np.nan]}, "doses of tilts are not all numbers"),
        (TiltScheme.of_tilts([0.0, 3.0, 6.0]), {"ctf": Optics.make(300, 2, 0.1, np.ones((2, 2)))}, "2 CTFs"),
        (TiltScheme.of_range(-60, 60), {"ctf": Optics.make(300, 2, 0.1, [[1, 2]])}, "without astigmatism"),
    ],
)
def test_what_does_not_fit(schemes, more, words):
    with pytest.raises(InputError, match=words):
        transfer(16, 6.0, schemes, **more)
