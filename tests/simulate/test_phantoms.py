import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry
from manyviews.simulate.phantoms import Ellipsoids, Gaussians

PIXEL = 2.5


def anisotropic_gaussians(n=4, seed=3):
    rng = np.random.default_rng(seed)
    turn = Rotation.random(n, random_state=seed).as_matrix()
    widths = rng.uniform(2.0, 4.0, (n, 3)) * PIXEL
    covariance = turn @ (widths[:, :, None] ** 2 * np.eye(3)) @ turn.transpose(0, 2, 1)
    return Gaussians(rng.uniform(0.5, 1.5, n), rng.uniform(-5, 5, (n, 3)) * PIXEL, covariance)


def density_at(gaussians, points):
    difference = points[..., None, :] - gaussians.centre
    q = np.einsum("...ni,nij,...nj->...n", difference, np.linalg.inv(gaussians.covariance), difference)
    return np.sum(gaussians.amplitude * np.exp(-0.5 * q), axis=-1)


def integrate_along_rays(gaussians, matrix, shape):
    """Line integrals of the density by brute force, in units of one pixel of path."""
    y, x = np.indices(shape)
    image_points = np.stack([x - shape[1] // 2, y - shape[0] // 2], -1) * PIXEL - matrix[:2, 3]
    rows = matrix[:2, :3]
    start = image_points @ np.linalg.pinv(rows).T
    direction = np.cross(rows[0], rows[1])
    direction /= np.linalg.norm(direction)
    total = np.zeros(shape)
    steps = np.arange(-60, 60.01, 0.5)
    for step in steps:
        total += density_at(gaussians, start + step * PIXEL * direction) * 0.5
    return total


def test_gaussian_density_is_point_samples():
    phantom = anisotropic_gaussians()
    shape = (21, 30, 25)
    z, y, x = np.indices(shape)
    points = np.stack([x - 12, y - 15, z - 10], -1) * PIXEL
    expected = density_at(phantom, points)
    np.testing.assert_allclose(phantom.density(shape, PIXEL), expected, atol=3e-7)


@pytest.mark.parametrize(("tilt", "axis"), [(0.0, 0.0), (37.0, 0.0), (-60.0, 90.0), (50.0, 33.0)])
def test_gaussian_projection_equals_brute_force_line_integral(tilt, axis):
    phantom = anisotropic_gaussians()
    geometry = TiltGeometry.from_tilt_axis([tilt], axis, shifts=[[3.0, -7.0]])
    expected = integrate_along_rays(phantom, geometry.matrices[0], (31, 28))
    found = phantom.project(geometry, (31, 28), PIXEL)[0]
    np.testing.assert_allclose(found, expected, atol=1e-6 * expected.max())


def test_magnified_and_sheared_view_is_still_a_line_integral():
    phantom = anisotropic_gaussians()
    raw_to_aligned = np.array([[[1.1, 0.15, 4.0], [-0.1, 0.93, -2.0], [0, 0, 1]]])
    geometry = TiltGeometry.from_tilt_axis([25.0], 10.0).with_image_transform(raw_to_aligned)
    expected = integrate_along_rays(phantom, geometry.matrices[0], (31, 28))
    found = phantom.project(geometry, (31, 28), PIXEL)[0]
    np.testing.assert_allclose(found, expected, atol=1e-6 * expected.max())


@settings(max_examples=25, deadline=None)
@given(tilt=st.floats(-70, 70), axis=st.floats(-180, 180))
def test_every_projection_holds_the_whole_mass(tilt, axis):
    phantom = anisotropic_gaussians()
    image = phantom.project(TiltGeometry.from_tilt_axis([tilt], axis), (96, 96), PIXEL, threads=1)
    assert image.sum(dtype=np.float64) * PIXEL**3 == pytest.approx(phantom.mass().sum(), rel=1e-5)


def test_density_holds_the_whole_mass():
    phantom = anisotropic_gaussians()
    volume = phantom.density((80, 80, 80), PIXEL)
    assert volume.sum(dtype=np.float64) * PIXEL**3 == pytest.approx(phantom.mass().sum(), rel=1e-5)


def test_bead_above_the_centre_moves_to_positive_x():
    bead = Gaussians.isotropic([1.0], [[0, 0, 20 * PIXEL]], 2 * PIXEL)
    image = bead.project(TiltGeometry.from_tilt_axis([30.0]), (64, 64), PIXEL)[0]
    y, x = np.indices(image.shape)
    assert np.average(x - 32, weights=image) == pytest.approx(20 * np.sin(np.deg2rad(30)), abs=1e-3)
    assert np.average(y - 32, weights=image) == pytest.approx(0, abs=1e-3)


def test_bead_above_the_centre_moves_to_positive_y_under_an_axis_along_x():
    bead = Gaussians.isotropic([1.0], [[0, 0, 20 * PIXEL]], 2 * PIXEL)
    image = bead.project(TiltGeometry.from_tilt_axis([30.0], 90.0), (64, 64), PIXEL)[0]
    y, x = np.indices(image.shape)
    assert np.average(y - 32, weights=image) == pytest.approx(10.0, abs=1e-3)
    assert np.average(x - 32, weights=image) == pytest.approx(0, abs=1e-3)


def test_untilted_projection_is_the_sum_of_planes():
    phantom = anisotropic_gaussians()
    volume = phantom.density((60, 40, 40), PIXEL)
    image = phantom.project(TiltGeometry.from_tilt_axis([0.0]), (40, 40), PIXEL)[0]
    np.testing.assert_allclose(image, volume.sum(0), atol=1e-5 * image.max())


def test_threads_do_not_change_a_bit():
    phantom = anisotropic_gaussians(50)
    geometry = TiltGeometry.from_tilt_axis([-40.0, 12.0], 45.0)
    one = phantom.project(geometry, (33, 40), PIXEL, threads=1)
    np.testing.assert_array_equal(one, phantom.project(geometry, (33, 40), PIXEL, threads=3))


def ellipsoid(semi_axes, rotation=None, centre=(0.0, 0.0, 0.0), value=1.5):
    turn = np.eye(3) if rotation is None else rotation
    return Ellipsoids(np.array([value]), np.array([centre]), np.array([semi_axes], float), turn[None])


@pytest.mark.parametrize("tilt", [0.0, 30.0, -55.0])
def test_ellipsoid_chord_length_is_exact(tilt):
    a, b, c = 9 * PIXEL, 6 * PIXEL, 12 * PIXEL
    image = ellipsoid((a, b, c)).project(TiltGeometry.from_tilt_axis([tilt]), (41, 41), PIXEL)[0]
    t = np.deg2rad(tilt)
    width_squared = (a * np.cos(t)) ** 2 + (c * np.sin(t)) ** 2
    y, x = (np.indices(image.shape) - 20) * PIXEL
    # a chord of an ellipse at distance x from its centre: 2 a c sqrt(w^2 - x^2) / w^2; the plane at y cuts
    # an ellipse smaller by s = sqrt(1 - y^2 / b^2)
    s_squared = np.clip(1 - y**2 / b**2, 0, None)
    chord = 2 * a * c * np.sqrt(np.clip(width_squared * s_squared - x**2, 0, None)) / width_squared
    np.testing.assert_allclose(image, 1.5 * chord / PIXEL, atol=1e-5)


def test_turned_ellipsoid_equals_turned_view():
    turn = Rotation.from_euler("y", 40, degrees=True).as_matrix()
    axes = np.array([9.0, 6.0, 14.0]) * PIXEL
    straight = ellipsoid(axes).project(TiltGeometry.from_tilt_axis([40.0]), (41, 41), PIXEL)
    turned = ellipsoid(axes, turn).project(TiltGeometry.from_tilt_axis([0.0]), (41, 41), PIXEL)
    np.testing.assert_allclose(straight, turned, atol=1e-4)


def test_ellipsoid_density_is_anti_aliased_and_holds_the_volume():
    turn = Rotation.from_euler("zyx", [20, 40, -15], degrees=True).as_matrix()
    phantom = ellipsoid(np.array([9.0, 6.0, 7.0]) * PIXEL, turn, centre=(1.1, -2.3, 0.4))
    volume = phantom.density((32, 34, 31), PIXEL)
    assert volume.max() == pytest.approx(1.5, rel=1e-5)
    assert np.any((volume > 0.1) & (volume < 1.4))
    assert volume.sum(dtype=np.float64) * PIXEL**3 == pytest.approx(phantom.mass().sum(), rel=1e-3)


def test_bad_phantoms_are_refused():
    with pytest.raises(InputError, match="positive definite"):
        Gaussians.isotropic([1.0], [[0, 0, 0]], 0.0)
    with pytest.raises(InputError, match="semi-axis"):
        ellipsoid((0, 1, 1))
    with pytest.raises(ValueError, match="centre must be"):
        Gaussians(np.ones(2), np.zeros((1, 3)), np.tile(np.eye(3), (2, 1, 1)))
    with pytest.raises(InputError, match="pixel size"):
        Gaussians.isotropic([1.0], [[0, 0, 0]], 1.0).density((4, 4, 4), 0.0)
