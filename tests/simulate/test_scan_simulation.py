"""Parts of simulated scans: angles, fields, deformed specimens and views, motion, photons."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.geometry.interlaced import (
    bit_reversed_angles,
    interlaced_angles,
    radical_inverse,
    repeated_angles,
)
from manyviews.random import Stream, generator
from manyviews.simulate.deformation import (
    FlowPattern,
    deformed_specimen,
    growth,
    inverse_flow,
    read_at,
)
from manyviews.simulate.phantoms import Ellipsoids, Gaussians
from manyviews.simulate.photon_counts import Detector, slow_background
from manyviews.simulate.scan_specimens import scan_specimen
from manyviews.simulate.smooth_fields import SmoothField
from manyviews.simulate.view_motion import ViewMotion, draw_motion, scan_geometry

SHAPE = (24, 32)


def rng(case=0):
    return generator(case, Stream.TEST)


def spots():
    """Soft Gaussians well within a detector of 32 columns."""
    centre = np.array([[5.0, -3.0, 2.0], [-4.0, 2.5, -3.0], [0.5, 4.0, 0.0]])
    return Gaussians.isotropic([1.0, 0.7, 0.4], centre, [1.8, 2.2, 1.6])


def test_radical_inverse_of_base_three():
    ninths = [0, 3, 6, 1, 4, 7, 2, 5, 8]
    assert [radical_inverse(number, 3) for number in range(9)] == pytest.approx(
        [float(Fraction(part, 9)) for part in ninths]
    )


def test_interlaced_rotations_begin_late_and_go_on_beyond_a_turn():
    found = interlaced_angles(12, 3)
    np.testing.assert_allclose(found[:8], [0, 90, 180, 270, 390, 480, 570, 660])
    np.testing.assert_allclose(found[8:], 720 + 60 + 90 * np.arange(4))
    np.testing.assert_allclose(repeated_angles(6, 2, 180), [0, 60, 120, 180, 240, 300])


def test_bit_reversed_angles_are_evenly_spaced_together():
    found = bit_reversed_angles(32, 4)
    assert found[8] == pytest.approx(180 + 2 * 180 / 32)  # the second frame begins half a step late
    np.testing.assert_allclose(np.sort(found % 180), np.arange(32) * 180 / 32, atol=1e-9)
    assert (np.diff(found) > 0).all()


@pytest.mark.parametrize("make", [lambda: interlaced_angles(10, 4), lambda: bit_reversed_angles(12, 3)])
def test_views_that_rotations_cannot_share_are_refused(make):
    with pytest.raises(InputError, match="give"):
        make()


def test_a_field_is_one_long_and_its_slopes_are_its_derivatives():
    field = SmoothField.random(rng(), np.array([15.5, 11.5]), 4)
    places = rng(1).uniform(-10, 10, (50, 2))
    z, x = np.meshgrid(np.linspace(-11.5, 11.5, 60), np.linspace(-15.5, 15.5, 60))
    lengths = np.linalg.norm(field.at(np.stack([x.ravel(), z.ravel()], 1)), axis=1)
    assert lengths.max() == pytest.approx(1, abs=0.02)
    move = np.array([0.05, -0.02])
    wanted = (field.at(places + move) - field.at(places - move)) / 2
    np.testing.assert_allclose(field.slopes(places) @ move, wanted, atol=1e-5)


@pytest.mark.parametrize("kind", ["gaussians", "ellipsoids"])
def test_mass_is_kept_or_density_is(kind):
    field = SmoothField.random(rng(), np.array([15.5, 15.5, 11.5]))
    specimen = spots()
    if kind == "ellipsoids":
        turn = np.tile(np.eye(3), (3, 1, 1))
        specimen = Ellipsoids(specimen.amplitude, specimen.centre, np.array([[2.0, 3.0, 4.0]] * 3), turn)
    moved, kept = (deformed_specimen(specimen, field, 3.0, how) for how in ("move", "mass"))
    np.testing.assert_allclose(kept.mass(), specimen.mass())
    value = "amplitude" if kind == "gaussians" else "value"
    np.testing.assert_array_equal(getattr(moved, value), getattr(specimen, value))
    np.testing.assert_allclose(moved.centre, specimen.centre + 3 * field.at(specimen.centre))
    # a small part is carried along as its surroundings are
    slope = np.eye(3) + 3 * field.slopes(specimen.centre)
    np.testing.assert_allclose(moved.mass() / specimen.mass(), np.linalg.det(slope))


def test_a_deformed_fibre_keeps_its_density():
    fibre = scan_specimen("fibres", (48, 48), 4.0, 0)
    field = SmoothField.random(rng(2), np.array([23.5, 23.5, 23.5]))
    one = fibre.select(np.arange(12))
    other = deformed_specimen(one, field, 4.0, "move")

    def density(part):  # at its own middle, where it is a straight and even chain
        away = part.centre[6] - part.centre
        inverse = np.linalg.inv(part.covariance)
        return float((part.amplitude * np.exp(-0.5 * np.einsum("ni,nij,nj->n", away, inverse, away))).sum())

    assert density(other) == pytest.approx(density(one), rel=0.01)


@pytest.mark.parametrize("theta", [0.0, 37.0, 250.0, 400.0])
def test_a_point_lies_where_the_convention_says(theta):
    point = Gaussians.isotropic([1.0], [[6.0, -4.0, 3.0]], 1.5)
    geometry = scan_geometry(np.array([theta]), SHAPE, 14.3, draw_motion(1))
    image = point.project(geometry, SHAPE, 1.0)[0].astype(float)
    z, x = np.meshgrid(np.arange(SHAPE[0]), np.arange(SHAPE[1]), indexing="ij")
    turn = np.deg2rad(theta)
    assert (image * x).sum() / image.sum() == pytest.approx(
        14.3 + 6 * np.cos(turn) - 4 * np.sin(turn), abs=1e-3
    )
    assert (image * z).sum() / image.sum() == pytest.approx(SHAPE[0] // 2 + 3, abs=1e-3)
    assert image.sum() == pytest.approx(point.mass()[0], rel=1e-4)


def test_moved_views_are_still_ones_read_along_their_flow():
    motion = ViewMotion(np.array([[1.3, -0.7]]), np.array([4.0]))
    still, moved = (
        spots().project(scan_geometry(np.array([30.0]), SHAPE, 15.0, one), SHAPE, 1.0)[0]
        for one in (draw_motion(1), motion)
    )
    flow = motion.flow(0, np.zeros((2, *SHAPE)))
    assert np.abs(flow).max() > 2
    np.testing.assert_allclose(read_at(still, flow), moved, atol=0.01 * still.max())


def test_drawn_motion_is_what_was_asked_for_and_kinds_are_independent():
    both = draw_motion(
        400, jitter=2.0, drift=5.0, jumps=2, jump_pixels=7.0, roll=1.0, roll_jitter=0.5, seed=3
    )
    jitter, drift = draw_motion(400, jitter=2.0, seed=3), draw_motion(400, drift=5.0, seed=3)
    assert jitter.shift.std() == pytest.approx(2, rel=0.1)
    np.testing.assert_allclose(np.abs(drift.shift).max(axis=0), 5)
    assert np.abs(np.diff(drift.shift, axis=0)).max() < 0.2
    jumped = both.shift - jitter.shift - drift.shift
    steps = np.linalg.norm(np.diff(jumped, axis=0), axis=1)
    assert [int(place) + 1 for place in np.flatnonzero(steps > 1e-9)] == list(both.jumps)
    np.testing.assert_allclose(steps[steps > 1e-9], 7)
    assert both.roll_degrees.mean() == pytest.approx(1, abs=0.1)
    assert both.roll_degrees.std() == pytest.approx(0.5, rel=0.1)
    np.testing.assert_array_equal(draw_motion(5).shift, np.zeros((5, 2)))


def test_growth_is_the_papers():
    np.testing.assert_allclose(growth(np.array([0, 0.5, 1])), [0, (1 - np.exp(-1.5)) / (1 - np.exp(-3)), 1])


def test_an_image_keeps_grey_levels_or_mass():
    pattern = FlowPattern.random(rng(3), SHAPE)
    image = spots().project(scan_geometry(np.zeros(1), SHAPE, 15.5, draw_motion(1)), SHAPE, 1.0)[0]
    moved, kept = (pattern.deform(image, 2.5, how) for how in ("move", "mass"))
    np.testing.assert_allclose(moved, read_at(image, 2.5 * pattern.flow), atol=1e-6)
    assert kept.sum() == pytest.approx(image.sum(), rel=2e-3)
    assert abs(moved.sum() / image.sum() - 1) > 0.01


def test_the_inverse_of_a_flow_takes_it_back():
    flow = 2.5 * FlowPattern.random(rng(4), SHAPE).flow
    inverse = inverse_flow(flow)
    back = np.stack([read_at(part, inverse) for part in flow])
    np.testing.assert_allclose(back[:, 4:-4, 4:-4], -inverse[:, 4:-4, 4:-4], atol=2e-3)


def test_counts_have_the_mean_and_variance_of_photons():
    detector = Detector.make((64, 64), 400.0, 5)
    absorbed = np.full((64, 64), 0.5)
    grey = np.stack([detector.view(absorbed, view) for view in range(40)]).astype(float) - 100
    expected = 400 * detector.beam * np.exp(-0.5)
    assert grey.mean() == pytest.approx(expected.mean(), rel=2e-3)
    assert grey.var(axis=0, ddof=1).mean() == pytest.approx(expected.mean() + 2**2, rel=0.02)
    assert detector.flat(0).dtype == np.uint16
    assert not np.array_equal(detector.flat(0), detector.flat(1))
    assert detector.dark(0).mean() == pytest.approx(100, abs=0.2)


def test_bright_beams_fit_sixteen_bits_and_without_noise_the_logarithm_is_exact():
    bright = Detector.make((16, 16), 1e7, 1)
    assert bright.flat(0).mean() == pytest.approx(50_100, rel=0.02)
    exact = Detector.make((16, 16), None, 1)
    absorbed = rng(6).uniform(0, 2, (16, 16))
    np.testing.assert_allclose(-np.log(exact.transmission(exact.view(absorbed, 0))), absorbed, atol=2e-5)


def test_the_background_is_slow_and_differs_between_views():
    one, other = (slow_background((64, 64), view, 0) for view in range(2))
    assert (one.mean(), one.std()) == (pytest.approx(0, abs=1e-9), pytest.approx(1))
    assert np.abs(np.diff(one, axis=1)).mean() < 0.45
    assert abs((one * other).mean()) < 0.3


@pytest.mark.parametrize("kind", ["tubes", "fibres", "ellipsoids", "tissue"])
def test_specimens_stay_on_the_detector(kind):
    specimen = scan_specimen(kind, (40, 48), 5.0, 1)
    views = specimen.project(
        scan_geometry(np.array([0.0, 50.0, 110.0]), (40, 48), 23.5, draw_motion(3)), (40, 48), 1.0
    )
    assert views.max() > 0.5
    border = views.copy()
    border[:, 5:-5, 5:-5] = 0
    assert np.abs(border).max() < 0.02 * views.max()


def test_no_room_for_a_specimen_is_told():
    with pytest.raises(InputError, match="no room"):
        scan_specimen("tubes", (16, 16), 4.0, 0)
    with pytest.raises(InputError, match="no specimen"):
        scan_specimen("cheese", (64, 64), 4.0, 0)
