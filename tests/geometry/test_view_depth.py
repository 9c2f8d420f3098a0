import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.geometry.view_depth import DepthPlane
from manyviews.geometry.views import TiltGeometry


def test_one_tilt_about_y_is_as_the_docstring_says():
    depth = DepthPlane.of(TiltGeometry.from_tilt_axis([50.0]).matrices[0])
    tilt = np.deg2rad(50.0)
    np.testing.assert_allclose(depth.slope, [-np.tan(tilt), 0.0], atol=1e-12)
    assert depth.rise == pytest.approx(1 / np.cos(tilt))
    assert depth.offset == pytest.approx(0.0)


@pytest.mark.parametrize("axis", [0.0, 25.0, 90.0, -130.0])
def test_depth_of_points_where_the_image_shows_them(axis):
    rng = np.random.default_rng(0)
    geometry = TiltGeometry.from_tilt_axis([-60.0, -7.0, 44.0], axis, shifts=rng.normal(0, 20, (3, 2)))
    turns = np.tile(np.eye(3), (3, 1, 1))
    turns[:, :2, :2] = [[0.96, -0.28], [0.28, 0.96]]
    points = rng.normal(0, 100, (20, 3))
    for matrix in geometry.with_image_transform(turns).matrices:
        seen = np.c_[points, np.ones(20)] @ matrix.T
        depth = DepthPlane.of(matrix)
        found = seen[:, :2] @ depth.slope + depth.rise * points[:, 2] + depth.offset
        np.testing.assert_allclose(found, seen[:, 2], atol=1e-9)


def test_pixels_count_from_the_middle():
    matrix = TiltGeometry.from_tilt_axis([30.0]).matrices[0]
    plane = DepthPlane.of(matrix).on_pixels((4, 6), 2.0)
    assert plane.shape == (4, 6)
    np.testing.assert_allclose(plane[:, 3], 0.0, atol=1e-12)
    np.testing.assert_allclose(plane[0, 5], -4.0 * np.tan(np.deg2rad(30.0)))


def test_a_view_that_sees_the_plane_edge_on_is_refused():
    with pytest.raises(InputError, match="tilted by about 90 degrees"):
        DepthPlane.of(TiltGeometry.from_tilt_axis([90.0]).matrices[0])


@pytest.mark.parametrize("axis", [0.0, 35.0, 90.0])
@pytest.mark.parametrize("shape", [(7, 12), (12, 7), (1, 5)])
def test_the_span_is_that_of_all_pixels(axis, shape):
    for matrix in TiltGeometry.from_tilt_axis([-50.0, 0.0, 63.0], axis).matrices:
        plane = DepthPlane.of(matrix)
        pixels = plane.on_pixels(shape, 2.7)
        assert plane.span(shape, 2.7) == (pixels.min(), pixels.max())
