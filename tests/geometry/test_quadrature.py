import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import sph_harm_y

from manyviews.geometry.poses import angular_distance, random_rotations
from manyviews.geometry.quadrature import (
    angular_spacing,
    gaussian_shifts,
    in_plane_angles,
    pose_quadrature,
    quadrature_size,
    spiral_directions,
)


@pytest.mark.parametrize(("radius", "sigma"), [(0.5, 0.0), (1.0, 2.0), (3.7, 2.0), (12.0, 1.0), (50.0, 0.0)])
def test_poses_are_counted_without_making_them(radius, sigma):
    assert quadrature_size(radius, sigma) == pose_quadrature(radius, sigma).size


@given(st.floats(1.1, 500))
def test_the_spacing_is_the_papers(radius):
    printed = math.acos((radius**2 - 1) / (radius**2 + 1)) / 2
    assert angular_spacing(radius) == pytest.approx(printed, rel=1e-6)


@pytest.mark.parametrize("radius", [6.0, 13.0, 24.0])
def test_counts_are_the_papers(radius):
    found = pose_quadrature(radius, 5.0)
    alpha = angular_spacing(radius)
    assert len(found.directions) == math.ceil((3.6 / alpha) ** 2)
    assert len(found.in_plane_degrees) == math.ceil(2 * math.pi / alpha)
    assert len(found.shifts) == round(radius) ** 2
    assert found.size == len(found.directions) * len(found.in_plane_degrees) * len(found.shifts)
    for weights in (found.direction_weights, found.in_plane_weights, found.shift_weights):
        assert weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("count", [2, 50, 400, 3000])
def test_neighbours_on_the_sphere_are_as_far_as_promised(count):
    directions = spiral_directions(count)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    if count < 50:
        return
    closeness = directions @ directions.T
    np.fill_diagonal(closeness, -1)
    nearest = np.arccos(closeness.max(axis=1))
    promised = 3.6 / math.sqrt(count)
    assert nearest.min() > 0.55 * promised  # the first two steps from a pole
    assert np.median(nearest) == pytest.approx(promised, rel=0.03)
    assert nearest.max() < 1.03 * promised


@pytest.mark.parametrize("radius", [6.0, 12.0])
def test_spherical_harmonics_integrate_to_nothing(radius):
    """Up to the degree that the frequency can see, those of an image's amplitude."""
    directions = spiral_directions(len(pose_quadrature(radius, 0.0).directions))
    polar, azimuth = np.arccos(directions[:, 2]), np.arctan2(directions[:, 1], directions[:, 0])
    for degree in range(1, round(radius) + 1):
        for order in range(degree + 1):
            mean = np.mean(sph_harm_y(degree, order, polar, azimuth))
            # the poles are points of the spiral though no area is theirs: 1/count of a harmonic's peak each
            peak = math.sqrt((2 * degree + 1) / (4 * math.pi))
            assert abs(mean) < 2 * peak / len(directions)


def test_in_plane_angles_are_exact_below_their_number():
    angles = np.deg2rad(in_plane_angles(13))
    for order in range(1, 13):
        assert abs(np.mean(np.exp(1j * order * angles))) < 1e-14


@pytest.mark.parametrize("count", [1, 2, 5, 12, 36])
def test_hermite_points_are_exact_for_polynomials(count):
    sigma = 4.2
    points, weights = gaussian_shifts(count, sigma)
    assert points.shape == (count**2, 2)
    assert weights.sum() == pytest.approx(1)
    for degree in range(min(2 * count, 16)):
        moment = 0 if degree % 2 else math.prod(range(1, degree, 2)) * sigma**degree
        for axis in (0, 1):
            assert weights @ points[:, axis] ** degree == pytest.approx(
                moment, rel=1e-9, abs=1e-9 * sigma**degree
            )
    if count > 1:
        product = weights @ (points[:, 0] ** 2 * points[:, 1] ** 2)
        assert product == pytest.approx(sigma**4)


def test_shifts_of_no_weight_can_be_left_out():
    full, _ = gaussian_shifts(20, 3.0)
    kept, weights = gaussian_shifts(20, 3.0, least_weight=1e-4)
    assert len(kept) < len(full) / 2
    assert weights.sum() == pytest.approx(1)
    assert weights @ (kept**2).sum(axis=1) == pytest.approx(2 * 9, rel=0.01)
    one, weight = gaussian_shifts(20, 0.0)
    assert one.tolist() == [[0, 0]]
    assert weight.tolist() == [1]


def test_all_rotations_are_near_a_point_and_turning_the_grid_keeps_that():
    quadrature = pose_quadrature(6.0, 0.0)
    probes = random_rotations(40, np.random.default_rng(0))
    for turn in (None, random_rotations(1, np.random.default_rng(1))[0]):
        poses = quadrature.rotations(turn).reshape(-1, 3, 3)
        nearest = [angular_distance(poses, probe).min() for probe in probes]
        assert max(nearest) < 1.2 * quadrature.spacing_degrees


def test_undersampling_saves_its_cube():
    fine, coarse = pose_quadrature(20.0, 0.0), pose_quadrature(20.0, 0.0, undersampling=2.0)
    assert fine.size / coarse.size == pytest.approx(8, rel=0.05)
    assert coarse.direction_weights.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("radius", "sigma", "undersampling"), [(0, 1, 1), (-3, 1, 1), (5, -1, 1), (5, 1, 0), (math.nan, 1, 1)]
)
def test_impossible_requests_are_refused(radius, sigma, undersampling):
    with pytest.raises(ValueError, match="no quadrature"):
        pose_quadrature(radius, sigma, undersampling=undersampling)
