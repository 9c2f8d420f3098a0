import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from manyviews.geometry.poses import (
    angular_distance,
    direction_matrices,
    euler_to_matrices,
    matrices_to_euler,
    random_directions,
    random_rotations,
    rotations_from_vectors,
    uniform_rotations,
    view_directions,
)
from random_steps import random_steps

ANGLE = st.floats(-400, 400)


@given(ANGLE, ANGLE, ANGLE)
def test_the_matrix_is_that_of_relion(rot, tilt, psi):
    expected = Rotation.from_euler("ZYZ", [rot, tilt, psi], degrees=True).inv().as_matrix()
    np.testing.assert_allclose(euler_to_matrices([rot, tilt, psi]), expected, atol=1e-12)


@given(ANGLE, ANGLE, ANGLE)
def test_angles_come_back_as_the_same_matrix(rot, tilt, psi):
    matrix = euler_to_matrices([rot, tilt, psi])
    found = matrices_to_euler(matrix)
    assert 0 <= found[1] <= 180
    np.testing.assert_allclose(euler_to_matrices(found), matrix, atol=1e-7)


@pytest.mark.parametrize("tilt", [0.0, 180.0])
def test_angles_at_the_poles(tilt):
    matrix = euler_to_matrices([[30.0, tilt, 50.0], [0.0, tilt, -170.0]])
    found = matrices_to_euler(matrix)
    np.testing.assert_array_equal(found[:, 0], 0)
    np.testing.assert_allclose(euler_to_matrices(found), matrix, atol=1e-12)


def test_rows_are_the_axes_of_the_image_in_the_volume():
    upright = euler_to_matrices([90.0, 0.0, 0.0])  # a turn about z: image x lies along volume y
    np.testing.assert_allclose(upright, [[0, 1, 0], [-1, 0, 0], [0, 0, 1]], atol=1e-15)
    side = euler_to_matrices([0.0, 90.0, 0.0])  # seen along x
    np.testing.assert_allclose(view_directions(side), [1, 0, 0], atol=1e-15)


def test_poses_look_along_their_directions():
    directions = random_directions(50, np.random.default_rng(0))
    poses = direction_matrices(directions[:, None], np.array([0.0, 35.0, 180.0]))
    assert poses.shape == (50, 3, 3, 3)
    np.testing.assert_allclose(view_directions(poses), np.repeat(directions[:, None], 3, axis=1), atol=1e-14)
    turned = poses[:, 1] @ poses[:, 0].transpose(0, 2, 1)  # psi turns in the plane of the image
    expected = Rotation.from_euler("z", -35, degrees=True).as_matrix()
    np.testing.assert_allclose(turned, np.broadcast_to(expected, (50, 3, 3)), atol=1e-12)


@pytest.mark.parametrize("make", [lambda n: random_rotations(n, np.random.default_rng(1)), uniform_rotations])
def test_rotations_are_uniform(make):
    rotations = make(20_000)
    np.testing.assert_allclose(
        rotations @ rotations.transpose(0, 2, 1), np.broadcast_to(np.eye(3), rotations.shape), atol=1e-12
    )
    assert np.linalg.det(rotations).min() > 0.999
    # mean of a matrix is 0, and of products of two elements 1/3 for equal ones (Schur)
    flat = rotations.reshape(-1, 9)
    np.testing.assert_allclose(flat.mean(axis=0), 0, atol=0.02)
    np.testing.assert_allclose(flat.T @ flat / len(flat), np.eye(9) / 3, atol=0.02)


def test_the_grid_of_rotations_has_no_holes():
    grid = uniform_rotations(2000)
    spacing = np.rad2deg((8 * np.pi**2 / 2000) ** (1 / 3))
    probes = random_rotations(200, np.random.default_rng(2))
    nearest = [angular_distance(grid, probe).min() for probe in probes]
    assert max(nearest) < 1.1 * spacing
    assert np.mean(nearest) < 0.65 * spacing


@given(st.floats(0, 180), st.integers(0, 1000))
def test_distance_is_the_angle_of_the_turn(degrees, seed):
    rng = np.random.default_rng(seed)
    start = random_rotations(1, rng)[0]
    turn = rotations_from_vectors(np.deg2rad(degrees) * random_directions(1, rng)[0])
    # of a half turn an angle is known to the square root of rounding, some 1e-6 degrees
    assert angular_distance(start, turn @ start) == pytest.approx(degrees, abs=4e-6)
    assert angular_distance(start, start @ turn) == pytest.approx(degrees, abs=4e-6)


def test_small_steps_are_as_small_as_asked_for():
    steps = random_steps(5000, 2.0, np.random.default_rng(3))
    angles = angular_distance(steps, np.eye(3))
    assert np.sqrt(np.mean(angles**2)) == pytest.approx(2 * np.sqrt(3), rel=0.03)
