import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from manyviews.geometry.euler import (
    half_pixel_offset,
    move_image_origin,
    rotation_zyx,
    split_view,
    zyx_angles,
)
from manyviews.geometry.views import rotation_z, tilt_rotation

ANGLES = st.floats(-180, 180)


@given(x=ANGLES, y=st.floats(-90, 90), z=ANGLES)
def test_angles_give_the_rotation_back(x, y, z):
    rotation = rotation_zyx(x, y, z)
    assert np.allclose(rotation, Rotation.from_euler("xyz", [x, y, z], degrees=True).as_matrix(), atol=1e-12)
    assert np.allclose(rotation_zyx(*zyx_angles(rotation)), rotation, atol=1e-8)


def test_a_tilt_about_a_vertical_axis_is_y_tilt_alone():
    assert zyx_angles(tilt_rotation(40, 0)) == pytest.approx((0, 40, 0))
    x_tilt, _, _ = zyx_angles(tilt_rotation(40, 30))
    assert abs(x_tilt) > 1


@given(x=ANGLES, y=st.floats(-80, 80), z=ANGLES, magnification=st.floats(0.5, 2), stretch=st.floats(0.9, 1.1))
def test_views_are_split_and_put_together_again(x, y, z, magnification, stretch):
    matrix = np.eye(4)
    transform = np.array([[magnification, 0.05], [0.0, magnification * stretch]])
    matrix[:3, :3] = rotation_zyx(x, y, z)
    matrix[:2, :3] = transform @ matrix[:2, :3]
    matrix[:2, 3] = 3, -4
    parts = split_view(matrix)
    assert np.allclose(parts.stretch @ parts.rotation[:2], matrix[:2, :3])
    assert np.allclose(parts.rotation @ parts.rotation.T, np.eye(3))
    assert np.linalg.det(parts.rotation) == pytest.approx(1)
    assert parts.shift.tolist() == [3, -4]


def test_a_magnified_rotation_keeps_its_rotation():
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_zyx(5, 30, 84)
    matrix[:2, :3] *= 1.02
    parts = split_view(matrix)
    assert np.allclose(parts.stretch, 1.02 * np.eye(2))
    assert np.allclose(parts.rotation, rotation_zyx(5, 30, 84))


def test_centre_of_even_and_odd_images():
    assert half_pixel_offset((5, 6)).tolist() == [0.5, 0.0]
    assert half_pixel_offset((6, 5)).tolist() == [0.0, 0.5]


def test_moving_the_origin():
    transform = np.eye(3)
    transform[:2, :2] = rotation_z(90)[:2, :2]
    moved = move_image_origin(transform[None], [1.0, 0.0])[0]
    # The raw point (2, 0) from the new origin is (3, 0) from the old one.
    assert moved @ [2, 0, 1] == pytest.approx(transform @ [3, 0, 1])
