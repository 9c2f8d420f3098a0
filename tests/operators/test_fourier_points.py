"""The list of image frequencies, and images to coefficients and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyviews.operators.fourier_points import (
    extract,
    extract_solid,
    half_ball,
    half_plane,
    insert,
    shells,
    take_solid,
)


@given(st.integers(1, 24), st.floats(0, 1))
def test_every_frequency_or_its_mirror_image_is_there_once(box, part):
    radius = part * box / 2
    found = {tuple(point) for point in half_plane(radius, box).tolist()}
    mirrored = {(-kx, -ky) for kx, ky in found}
    reach = range(-box, box + 1)
    assert found | mirrored == {(x, y) for x in reach for y in reach if x * x + y * y <= radius**2}
    assert found & mirrored == {(0, 0)}


@given(st.integers(0, 15), st.integers(0, 15))
def test_a_smaller_radius_is_the_beginning(a, b):
    small, large = (half_plane(radius, 30) for radius in sorted((a, b)))
    np.testing.assert_array_equal(large[: len(small)], small)


def test_order_is_fixed():
    expected = [[0, 0], [1, 0], [0, 1], [1, -1], [1, 1], [2, 0], [0, 2]]
    np.testing.assert_array_equal(half_plane(2, 4), expected)
    assert half_plane(2, 4).dtype == np.int32


def test_a_radius_beyond_nyquist_is_refused():
    for radius in (-1, 5.5):
        with pytest.raises(ValueError, match="does not fit"):
            half_plane(radius, 10)


def test_shells():
    points = half_plane(5, 10)
    radius = np.hypot(*points.T)
    assert np.all(np.abs(shells(points) - radius) <= 0.5)
    in_space = np.stack(np.mgrid[-4:5, -4:5, 0:5], axis=-1).reshape(-1, 3)
    assert np.array_equal(shells(in_space), np.rint(np.linalg.norm(in_space, axis=1)))


@pytest.mark.parametrize("box", [9, 10])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-4), (np.float64, 1e-12)])
def test_coefficients_are_the_transform_about_the_origin(rng, box, dtype, tolerance):
    images = rng.normal(size=(3, box, box)).astype(dtype)
    points = half_plane(box // 2, box)
    along = np.arange(box) - box // 2
    phase_x, phase_y = (np.exp(-2j * np.pi * np.outer(k, along) / box) for k in points.T)
    expected = np.einsum("nyx,py,px->np", images.astype(np.float64), phase_y, phase_x)
    np.testing.assert_allclose(extract(images, points), expected, atol=tolerance)


@pytest.mark.parametrize("box", [9, 10])
def test_images_come_back(rng, box):
    points = half_plane((box - 1) // 2, box)
    values = rng.normal(size=(3, len(points))) + 1j * rng.normal(size=(3, len(points)))
    values[:, 0] = values[:, 0].real
    images = insert(values, points, box)
    assert images.shape == (3, box, box)
    np.testing.assert_allclose(extract(images, points), values, atol=1e-11)
    np.testing.assert_allclose(insert(extract(images, points), points, box), images, atol=1e-11)


def test_images_that_are_no_squares_are_refused():
    with pytest.raises(ValueError, match="squares"):
        extract(np.zeros((1, 4, 6), np.float32), half_plane(2, 4))


@pytest.mark.parametrize(("radius", "box"), [(4, 9), (4.5, 10), (1, 4), (6, 24)])
def test_every_frequency_of_space_or_its_mirror_image_is_there_once(radius, box):
    found = {tuple(point) for point in half_ball(radius, box).tolist()}
    mirrored = {(-kx, -ky, -kz) for kx, ky, kz in found}
    reach = range(-box, box + 1)
    ball = {(x, y, z) for x in reach for y in reach for z in reach if x * x + y * y + z * z <= radius**2}
    assert found | mirrored == ball - {(0, 0, 0)}
    assert not found & mirrored
    assert min(point[0] for point in found) == 0  # what a half spectrum holds
    lengths = np.linalg.norm(half_ball(radius, box), axis=1)
    assert (np.diff(lengths) >= 0).all()


def test_a_smaller_ball_is_the_beginning():
    large = half_ball(7, 20)
    for radius in (1, 3, 5.5):
        small = half_ball(radius, 20)
        np.testing.assert_array_equal(large[: len(small)], small)
    np.testing.assert_array_equal(half_ball(1, 4), [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert half_ball(1, 4).dtype == np.int32


@pytest.mark.parametrize(("radius", "box"), [(0, 10), (5, 10), (-1, 10), (4.5, 9)])
def test_a_ball_up_to_nyquist_is_refused(radius, box):
    with pytest.raises(ValueError, match="below"):
        half_ball(radius, box)


@pytest.mark.parametrize("box", [9, 10])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-4), (np.float64, 1e-11)])
def test_coefficients_of_a_volume_are_the_transform_about_the_origin(rng, box, dtype, tolerance):
    volume = rng.normal(size=(box,) * 3).astype(dtype)
    points = half_ball(4, box)
    along = np.arange(box) - box // 2
    x, y, z = (np.exp(-2j * np.pi * np.outer(k, along) / box) for k in points.T)
    expected = np.einsum("zyx,pz,py,px->p", volume.astype(np.float64), z, y, x, optimize=True)
    found = extract_solid(volume, points)
    assert found.dtype == np.empty(0, dtype).astype(np.result_type(dtype, np.complex64)).dtype
    np.testing.assert_allclose(found, expected, atol=tolerance)
    plain = np.fft.rfftn(volume)
    np.testing.assert_allclose(take_solid(plain, points), [plain[c, b, a] for a, b, c in points])


def test_volumes_that_are_no_cubes_are_refused():
    with pytest.raises(ValueError, match="cube"):
        extract_solid(np.zeros((4, 4, 5), np.float32), half_ball(1, 4))
