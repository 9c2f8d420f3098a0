"""The wedge measured from power: simulated particles whose wedge is known, and what contradicts it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from manyviews.errors import InputError
from manyviews.geometry.missing_wedge import TiltScheme
from manyviews.operators.contrast_transfer import Optics
from manyviews.subtomo.simulate import simulate_subtomograms
from manyviews.subtomo.simulate_options import SimulateOptions
from manyviews.subtomo.wedge.contradiction import contradiction
from manyviews.subtomo.wedge.measure import MeasuredWedge, mean_power, measure_wedge
from manyviews.subtomo.wedge.transfer import transfer

BOX = 32
OPTIONS = SimulateOptions(box=BOX, pixel_size=8.0, count=20, snr=0.003, tilt_step=2.0, seed=1)
PLUS_MINUS_60 = TiltScheme.of_range(-60, 60)


def particles(low: float, high: float, axis: str = "y", **changes) -> np.ndarray:
    options = replace(OPTIONS, tilt_range=(float(low), float(high)), tilt_axis=axis, **changes)
    return simulate_subtomograms(options).volumes


def noise_behind_a_wedge(schemes, count: int = 20) -> np.ndarray:
    """White noise whose transform is cut as the schemes say: quick, and all that the measurement needs."""
    c = transfer(BOX, 8.0, schemes)
    spectrum = np.fft.rfftn(noise((count, BOX, BOX, BOX)), axes=(1, 2, 3))
    return np.fft.irfftn(spectrum * c, s=(BOX,) * 3, axes=(1, 2, 3))


def measured(volumes: np.ndarray) -> MeasuredWedge:
    return measure_wedge(*mean_power(volumes))


def noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(2)).normal(size=shape)


def smooth_leak(volumes: np.ndarray, part: float) -> np.ndarray:
    """Weak power everywhere, as an iterative reconstruction or interpolation leaves it."""
    return volumes + part * volumes.std() * noise(volumes.shape)


@pytest.mark.parametrize(
    ("low", "high", "axis", "changes"),
    [
        (-60, 60, "y", {}),
        (-40, 40, "y", {"defocus": 60_000.0}),
        (-40, 60, "x", {"noise_only": True}),
        (-60, 40, "30", {"snr": 1.0, "count": 3}),
    ],
)
def test_ends_of_the_range_and_axis_are_found_in_simulated_particles(low, high, axis, changes):
    """At a signal of 3 thousandths of the noise; half a step beyond the last tilt belongs to it."""
    found = measured(particles(low, high, axis, **changes))
    told = TiltScheme.of_range(low, high, axis)
    assert found.scheme is not None
    assert found.scheme.beam == told.beam
    assert abs(np.dot(found.scheme.axis, told.axis)) > np.cos(np.deg2rad(1.5))
    assert found.scheme.low == pytest.approx(low - 1, abs=2.5)
    assert found.scheme.high == pytest.approx(high + 1, abs=2.5)
    assert found.leak < 0.1
    assert found.particles == changes.get("count", 20)
    assert contradiction(found, told) is None


@pytest.mark.parametrize(
    "told",
    [
        TiltScheme.of_range(-60, 60),
        TiltScheme.of_range(-40, 60),
        TiltScheme.of_range(-40, 60, "x"),
        TiltScheme.of_range(-40, 60, 75),
        TiltScheme.of_range(-60, 40, "z", "x"),
        TiltScheme.of_range(-40, 60, "z", "y"),
        TiltScheme.of_range(-65, 65, "x", "y"),
        TiltScheme.of_range(-70, 70, "y", "x"),
        TiltScheme.of_range(-20, 20),
    ],
    ids=TiltScheme.described,
)
def test_every_axis_and_beam_is_found(told: TiltScheme):
    found = measured(noise_behind_a_wedge(told))
    assert found.scheme is not None
    assert found.scheme.beam == told.beam
    assert abs(np.dot(found.scheme.axis, told.axis)) > np.cos(np.deg2rad(1.5))
    low, high = (found.scheme.low, found.scheme.high)
    if np.dot(found.scheme.axis, told.axis) < 0:  # the same, counted the other way about
        low, high = -high, -low
    assert (low, high) == pytest.approx((told.low, told.high), abs=2.5)
    assert contradiction(found, told) is None


@pytest.mark.parametrize(("low", "high", "axis"), [(-60, 60, "y"), (-40, 60, "x")])
def test_weak_power_in_the_wedge_does_not_matter(low: float, high: float, axis: str):
    volumes = smooth_leak(noise_behind_a_wedge(TiltScheme.of_range(low, high, axis)), 0.3)
    found = measured(volumes)
    assert found.scheme is not None
    assert (found.scheme.low, found.scheme.high) == pytest.approx((low, high), abs=3)
    assert 0.03 < found.leak < 0.3
    assert contradiction(found, TiltScheme.of_range(low, high, axis)) is None


def test_strong_anisotropic_particles_do_not_hide_the_wedge():
    """Layer lines of filaments that all lie alike, across the wedge: planes of high power."""
    volumes = noise_behind_a_wedge(PLUS_MINUS_60, 5)
    along = np.arange(BOX)
    stripes = np.sin(2 * np.pi * along * 7 / BOX)[:, None] * np.ones((BOX, BOX, BOX))
    found = measured(volumes + 3 * volumes.std() * stripes)
    assert found.scheme is not None
    assert (found.scheme.axis, found.scheme.beam) == ((0, 1, 0), (0, 0, 1))
    assert (found.scheme.low, found.scheme.high) == pytest.approx((-60, 60), abs=2.5)


def test_where_nothing_is_missing_nothing_is_found():
    found = measured(noise((20, BOX, BOX, BOX)))
    assert (found.found, found.scheme) == ("complete", None)
    assert found.described() == "nothing is missing"
    assert found.leak == pytest.approx(1, abs=0.05)
    # weighted back-projection leaves less noise near the tilt axis, which is no wedge
    assert measured(particles(-90, 88, count=5)).scheme is None
    truth = simulate_subtomograms(replace(OPTIONS, count=1)).truth
    assert measured(truth[None]).found == "complete"
    assert contradiction(found, TiltScheme.of_range(-90, 90)) is None
    assert "nothing seems to be missing" in (contradiction(found, PLUS_MINUS_60) or "")


@pytest.fixture(scope="module")
def asymmetric() -> MeasuredWedge:
    return measured(noise_behind_a_wedge(TiltScheme.of_range(-40, 60)))


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (TiltScheme.of_range(-60, 40), "to be -60 to 40 degrees about y, beam z.*shows -4[0-2] to 6[0-2]"),
        (TiltScheme.of_range(-60, 40), "the sign of the tilts is turned"),
        (TiltScheme.of_range(-40, 60, "x"), "the tilt axis is another"),
        (TiltScheme.of_range(-40, 60, 20), "an axis 20 degrees from y.*the tilt axis is another"),
        (TiltScheme.of_range(-40, 60, "y", "x"), "the beam is another"),
        (TiltScheme.of_range(-60, 60), "range of the tilts is another"),
        (TiltScheme.of_range(-90, 90), "said to be measured at all frequencies"),
        (np.ones((BOX, BOX, BOX // 2 + 1)), "said to be measured at all frequencies.*tilts from -4"),
        (transfer(BOX, 8.0, TiltScheme.of_range(-60, 40)), "sign of the tilts is turned"),
        ([PLUS_MINUS_60, TiltScheme.of_range(-60, 60, "x")], "about y, beam z and -60 to 60 degrees about x"),
    ],
)
def test_a_wedge_that_is_told_wrong_is_told_so(asymmetric: MeasuredWedge, told, words: str):
    found = contradiction(asymmetric, told)
    assert found is not None
    assert re.search(words, found), found


@pytest.mark.parametrize("shift", [0, 3])
def test_the_right_wedge_in_any_form_is_no_contradiction(asymmetric: MeasuredWedge, shift: float):
    optics = Optics.make(300.0, 2.0, 0.1, [[50_000.0, 50_000.0]])
    scheme = TiltScheme.of_range(-40 + shift, 60 - shift)
    listed = TiltScheme.of_tilts(np.arange(-40, 61, 5.0))
    for told in (
        scheme,
        [scheme],
        listed,
        transfer(BOX, 8.0, scheme),
        transfer(BOX, 8.0, scheme, ctf=optics),
        transfer(BOX, 8.0, TiltScheme.of_tilts(np.arange(-40, 61, 2.0)), ctf=optics, radius=15),
        TiltScheme(-60, 40, (), (0.0, -1.0, 0.0)),  # the other way about the other direction
    ):
        assert contradiction(asymmetric, told) is None, told


def test_two_axes_are_judged_by_what_they_leave_out():
    both = [PLUS_MINUS_60, TiltScheme.of_range(-60, 60, "x")]
    c = transfer(BOX, 8.0, both)
    found = measured(noise_behind_a_wedge(both))
    assert (found.found, found.described()) == ("unclear", "no single wedge")
    assert contradiction(found, both) is None
    assert contradiction(found, c) is None
    assert contradiction(found, PLUS_MINUS_60) is not None


def test_empty_particles_are_passed_over_and_none_left_is_refused():
    volumes = noise_behind_a_wedge(PLUS_MINUS_60, 4)
    with_empty = [*volumes, np.zeros((BOX,) * 3), np.full((BOX,) * 3, 7.0)]
    power, count = mean_power(with_empty)
    assert count == 4
    np.testing.assert_allclose(power, mean_power(volumes)[0])
    with pytest.raises(InputError, match="no wedge can be measured"):
        mean_power([np.zeros((BOX,) * 3)])


def test_scale_and_offset_of_a_particle_do_not_matter():
    volumes = noise_behind_a_wedge(PLUS_MINUS_60, 3)
    changed = [volume * factor + factor for volume, factor in zip(volumes, (1.0, -50.0, 1e-3), strict=True)]
    np.testing.assert_allclose(mean_power(changed)[0], mean_power(volumes)[0], rtol=1e-2)


def test_a_real_tomogram_shows_its_axis_and_that_its_range_is_not_symmetric(subtomogram_data: Path):
    """A microtubule, SIRT, 36 planes thick, said to be tilted about y by about +-60 degrees."""
    with Image.open(subtomogram_data / "cylindra_13pf_MT.tif") as pages:
        tomogram = np.array([np.array(page) for page in ImageSequence.Iterator(pages)], dtype=np.float32)
    boxes = [
        tomogram[z : z + 32, y : y + 32, x : x + 32]
        for z in (0, 4)
        for y in range(0, 174, 29)
        for x in (0, 31, 62)
    ]
    found = measured(boxes)
    assert found.scheme is not None
    assert (found.scheme.axis, found.scheme.beam) == ((0, 1, 0), (0, 0, 1))
    assert (found.scheme.low, found.scheme.high) == pytest.approx((-67, 57), abs=2)
    assert found.leak < 0.1
    assert "tilt axis is another" in (contradiction(found, TiltScheme.of_range(-60, 60, "x")) or "")
    assert contradiction(found, TiltScheme.of_range(-65, 55)) is None
