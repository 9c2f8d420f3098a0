"""Which frequencies were measured, with the sign of tilts that the house's views have."""

from __future__ import annotations

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.geometry.missing_wedge import TiltScheme, axis_words, slab_weight, tilt_axis
from manyviews.geometry.views import TiltGeometry, rotation_x, rotation_y, tilt_rotation
from manyviews.simulate.phantoms import Gaussians

BOX, PIXEL = 36, 2.0
BEADS = Gaussians.isotropic(
    [1.0, 0.7, 1.3], [[6.0, 2.0, -5.0], [-7.0, 4.0, 6.0], [1.0, -8.0, 7.0]], [4.0, 4.5, 5.0]
)


def transform_at(volume: np.ndarray, k: np.ndarray) -> np.ndarray:
    """The transform of a volume at frequencies ``(P, 3)`` (x, y, z) in cycles per box, by its definition."""
    along = np.arange(BOX) - BOX // 2
    waves = [np.exp(-2j * np.pi * np.outer(k[:, axis], along) / BOX) for axis in range(3)]
    return np.einsum("zyx,pz,py,px->p", volume, waves[2], waves[1], waves[0])


@pytest.mark.parametrize(("axis", "degrees"), [("y", 0.0), ("x", -90.0), (30.0, 30.0), ("-120", -120.0)])
@pytest.mark.parametrize("tilt", [-35.0, 55.0])
def test_views_of_beads_measure_what_an_asymmetric_range_says(axis, degrees: float, tilt: float):
    """The transform of a view is the beads' where -40 to 60 measures, and not where -60 to 40 does."""
    views = TiltGeometry.from_tilt_axis([tilt], degrees)
    image = BEADS.project(views, (BOX, BOX), PIXEL)[0].astype(np.float64)
    along = np.arange(BOX) - BOX // 2
    seen = np.array([[3, 1], [2, -2], [4, 1], [-1, 3]])
    waves = [np.exp(-2j * np.pi * np.outer(seen[:, part], along) / BOX) for part in range(2)]
    measured_values = np.einsum("yx,py,px->p", image, waves[1], waves[0])

    scheme = TiltScheme.of_tilts([tilt], axis)
    np.testing.assert_allclose(scheme.matrices()[0], views.matrices[0, :3, :3], atol=1e-12)
    k = seen @ scheme.matrices()[0][:2]
    volume = BEADS.density((BOX, BOX, BOX), PIXEL).astype(np.float64)
    np.testing.assert_allclose(measured_values, transform_at(volume, k), atol=0.05)
    mirrored = k * [1, 1, -1]
    assert (
        np.abs(measured_values - transform_at(volume, mirrored)).max() > 0.1 * np.abs(measured_values).max()
    )

    spread = TiltScheme.of_range(-40, 60, axis)
    assert spread.measured(*k.T).all()
    if tilt > 40:
        assert not TiltScheme.of_range(-60, 40, axis).measured(*k.T).any()
    np.testing.assert_allclose(np.mod(spread.angle(*k.T) - tilt + 90, 180), 90, atol=1e-6)
    np.testing.assert_allclose(slab_weight(scheme.matrices()[0][2], *k.T), 1, atol=1e-12)


def test_axis_y_and_beam_z_measure_the_angles_from_x_towards_z():
    scheme = TiltScheme.of_range(-40, 60)
    angles = np.arange(-89, 91)
    kx, kz = np.cos(np.deg2rad(angles)), np.sin(np.deg2rad(angles))
    for turn in (1, -1):  # a transform of something real is its own mirror image
        measured = scheme.measured(turn * 7 * kx, 0.3 * np.ones(180), turn * 7 * kz)
        np.testing.assert_array_equal(measured, (angles >= -40) & (angles <= 60))
    assert scheme.measured(*np.array([[0.0], [5.0], [0.0]])).all()  # along the axis


def test_edges_and_whole_turns_belong_to_the_range():
    diagonal = np.array([[1.0, 1.0], [0.0, 3.0], [1.0, -1.0]])
    assert TiltScheme.of_range(-45, 45).measured(*diagonal).all()
    assert TiltScheme.of_range(100, 170).measured(np.array(-1.0), np.array(0.0), np.array(1.0))  # 135
    assert (
        TiltScheme.of_range(-90, 90)
        .measured(*np.random.Generator(np.random.PCG64(1)).normal(size=(3, 50)))
        .all()
    )


@pytest.mark.parametrize(("axis", "beam"), [("y", "z"), ("x", "z"), ("z", "x"), ("z", "y"), ("x", "y")])
def test_normals_of_listed_tilts_are_the_planes_of_the_range(axis, beam):
    """A frequency in the plane of a tilt has that tilt's angle, whatever axis and beam."""
    scheme = TiltScheme.of_tilts([-35.0, 10.0, 50.0], axis, beam)
    for matrix, tilt in zip(scheme.matrices(), scheme.tilts, strict=True):
        assert np.linalg.det(matrix) == pytest.approx(1)
        in_plane = matrix[0] * 3 + matrix[1] * 2
        angle = float(scheme.angle(*in_plane))
        assert np.isclose(np.mod(angle - tilt + 90, 180), 90)
    flat = TiltScheme.of_tilts([0.0], axis, beam).matrices()[0]
    np.testing.assert_array_equal(flat[2], scheme.beam)


def test_the_ramp_gives_each_tilt_what_lies_between_its_neighbours():
    scheme = TiltScheme.of_tilts([10.0, -30.0, 0.0])
    np.testing.assert_allclose(np.rad2deg(scheme.spacings()), [10.0, 30.0, 20.0])
    np.testing.assert_allclose(np.rad2deg(TiltScheme.of_tilts([5.0]).spacings()), 180)
    k = np.array([[0.0, 0.0, 2.0, 100.0], [0.0, 9.0, 4.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    wanted = np.deg2rad(20) * np.array([0.25, 0.25, 2.0, 0.0])
    wanted[3] = 1  # slabs that do not touch
    np.testing.assert_allclose(scheme.view_weights(2, *k), wanted)


def test_slabs_one_cycle_apart_add_up_to_one():
    height = np.linspace(-3, 3, 61)
    zero = np.zeros(61)
    total = sum(slab_weight((0.0, 0.0, 1.0), zero, zero, height - at) for at in range(-5, 6))
    np.testing.assert_allclose(total, 1)


def test_names_of_axes():
    assert tilt_axis("x") == tilt_axis(-90) == tilt_axis("-90") == (1.0, 0.0, 0.0)
    assert tilt_axis(0) == (0.0, 1.0, 0.0)
    np.testing.assert_allclose(tilt_axis(30), tilt_rotation(0, 30) @ [-0.5, np.sqrt(3) / 2, 0])
    np.testing.assert_allclose(TiltScheme.of_tilts([20.0], "x").matrices()[0], rotation_x(20))
    np.testing.assert_allclose(TiltScheme.of_tilts([20.0]).matrices()[0], rotation_y(20))
    assert axis_words(tilt_axis(90)) == "-x"
    assert axis_words(tilt_axis(30)) == "an axis 30 degrees from y"
    assert TiltScheme.of_range(-40, 60).described() == "-40 to 60 degrees about y, beam z"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TiltScheme.of_range(60, -60), "from 60 to -60 degrees are no range"),
        (lambda: TiltScheme.of_range(-60, np.nan), "not a number from -180"),
        (lambda: TiltScheme.of_tilts([]), "no tilts"),
        (lambda: TiltScheme.of_tilts([0, 200]), "not a number from -180"),
        (lambda: TiltScheme.of_range(-60, 60, "z"), "both along z"),
        (lambda: TiltScheme.of_range(-60, 60, "y", "y"), "both along y"),
        (lambda: TiltScheme.of_range(-60, 60, "w"), "no tilt axis 'w'"),
        (lambda: TiltScheme.of_range(-60, 60, 30, "y"), "needs a beam along z"),
        (lambda: TiltScheme.of_range(-60, 60, "y", "w"), "no beam axis 'w'"),
    ],
)
def test_what_is_no_tilt_scheme(make, words):
    with pytest.raises(InputError, match=words):
        make()
