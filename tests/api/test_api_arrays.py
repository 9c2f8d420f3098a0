"""Projection and back-projection of NumPy arrays, and the geometries that go with them."""

from __future__ import annotations

import numpy as np
import pytest

import manyviews as mv
from manyviews.simulate.phantoms import Gaussians

SHAPE = (9, 24, 31)
GEOMETRY = mv.TiltGeometry.from_angles(np.linspace(-60, 60, 5), (0.0, 90.0))


@pytest.fixture(autouse=True)
def _quick(one_thread):
    pass


def test_a_geometry_of_the_same_tilts_about_several_axes():
    assert len(GEOMETRY) == 10
    np.testing.assert_array_equal(GEOMETRY.series, [0] * 5 + [1] * 5)
    np.testing.assert_array_equal(GEOMETRY.axis_degrees, [0.0] * 5 + [90.0] * 5)
    one = mv.TiltGeometry.from_angles(30, 12.5)
    np.testing.assert_array_equal(one.matrices, mv.TiltGeometry.from_tilt_axis([30.0], 12.5).matrices)
    for wrong in ([], [[1.0, 2.0]], [np.nan]):
        with pytest.raises(mv.InputError, match="tilt angles of shape"):
            mv.TiltGeometry.from_angles(wrong)


def test_projections_are_those_of_the_phantom():
    pixel = 4.0
    phantom = Gaussians.isotropic([1.0, 2.0], np.array([[3.0, -2, 1], [-5, 4, -1]]) * pixel, 2 * pixel)
    images = mv.project(phantom.density(SHAPE, pixel), GEOMETRY, pixel_size=pixel)
    expected = phantom.project(GEOMETRY, SHAPE[1:], pixel)
    assert images.dtype == np.float32
    assert np.corrcoef(images.ravel(), expected.ravel())[0, 1] > 0.999


@pytest.mark.parametrize(("dtype", "agree"), [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_back_projection_is_the_adjoint_and_keeps_the_type(rng, dtype, agree):
    volume = rng.normal(size=SHAPE).astype(dtype)
    images = rng.normal(size=(len(GEOMETRY), 20, 33)).astype(dtype)
    projected = mv.project(volume, GEOMETRY, image_shape=(20, 33))
    square = rng.normal(size=(len(GEOMETRY), *SHAPE[1:])).astype(dtype)
    summed = mv.backproject(square, GEOMETRY, SHAPE[0])
    assert (projected.dtype, summed.dtype) == (dtype, dtype)
    assert (projected.shape, summed.shape) == (images.shape, SHAPE)
    left = np.vdot(mv.project(volume, GEOMETRY), square)
    norm = np.linalg.norm(volume) * np.linalg.norm(summed)
    assert abs(left - np.vdot(volume, summed)) < agree * norm


def test_any_real_array_does_and_none_is_changed(rng):
    volume = rng.integers(0, 9, SHAPE)
    expected = mv.project(volume.astype(np.float32), GEOMETRY)
    volume.flags.writeable = False
    turned = volume[:, ::-1].copy()[:, ::-1]
    for same in (volume, volume.tolist(), volume.astype(">i2"), np.asfortranarray(volume), turned):
        np.testing.assert_array_equal(mv.project(same, GEOMETRY), expected)
    assert mv.project(volume.astype(">f8"), GEOMETRY).dtype == np.float64


VOLUME, IMAGES = np.zeros(SHAPE), np.zeros((len(GEOMETRY), 24, 31))
NO_VIEW = GEOMETRY.select(np.zeros(10, bool))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: mv.project(VOLUME[0], GEOMETRY), r"shape \(24, 31\), not three axes \(z, y, x\)"),
        (lambda: mv.project(VOLUME[:0], GEOMETRY), r"shape \(0, 24, 31\), not three"),
        (lambda: mv.project(VOLUME + 0j, GEOMETRY), "holds complex128, not real numbers"),
        (lambda: mv.project(VOLUME, [0, 30]), "not as list; make one with manyviews.TiltGeometry"),
        (lambda: mv.project(VOLUME, NO_VIEW), "at least one of them"),
        (lambda: mv.project(VOLUME, GEOMETRY, (24, 0)), r"\(9, 24, 31\) and images of shape \(24, 0\)"),
        (lambda: mv.project(VOLUME, GEOMETRY, (2, 3, 4)), r"images of shape \(2, 3, 4\) cannot be"),
        (lambda: mv.project(VOLUME, GEOMETRY, pixel_size=0), "0 is not a positive number; give angstrom"),
        (lambda: mv.backproject(IMAGES[1:], GEOMETRY, 9), r"are \(9, 24, 31\) but .* wants \(10, 24, 31\)"),
        (lambda: mv.backproject(IMAGES[0], GEOMETRY, 9), r"shape \(24, 31\), not three axes \(view, y, x\)"),
        (lambda: mv.backproject(IMAGES, GEOMETRY, 0), r"shape \(0, 24, 31\) and images"),
        (lambda: mv.backproject(IMAGES, GEOMETRY, 9.5), r"shape \(9.5, 24, 31\) and images"),
    ],
)
def test_what_does_not_fit_is_refused_with_both_shapes(call, said):
    with pytest.raises(mv.InputError, match=said):
        call()
