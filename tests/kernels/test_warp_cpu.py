"""Images read at moved places, against SciPy, polynomials and the matrix written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from manyviews.kernels.warp_cpu import pull_back, push_forward

SHAPE = (3, 21, 75)
Z, X = np.meshgrid(np.arange(SHAPE[1]), np.arange(SHAPE[2]), indexing="ij")


def some_flow(rng, reach=3.0):
    return (reach * rng.standard_normal((SHAPE[0], 2, *SHAPE[1:]))).astype(np.float32)


def test_linear_is_that_of_scipy_with_the_edge_beyond_the_edge(rng):
    images, flow = rng.standard_normal(SHAPE), some_flow(rng, 6.0)
    for image, moved, (along_x, along_z) in zip(images, pull_back(images, flow, 1), flow, strict=True):
        expected = map_coordinates(image, [Z + along_z, X + along_x], order=1, mode="nearest")
        np.testing.assert_allclose(moved, expected, atol=1e-12)


@pytest.mark.parametrize("order", [1, 3])
def test_polynomials_are_read_exactly(rng, order):
    """Planes by linear interpolation, paraboloids by cubic, where no border is near."""

    def value(z, x):
        return 2.0 + 0.3 * z - 0.7 * x + (order == 3) * (0.05 * x * x - 0.02 * z * z + 0.01 * x * z)

    flow = np.clip(some_flow(rng, 1.0), -2, 2)
    moved = pull_back(np.stack([value(Z, X)] * 3), flow, order)[:, 4:-4, 4:-4]
    expected = value(Z + flow[:, 1].astype(float), X + flow[:, 0])[:, 4:-4, 4:-4]
    np.testing.assert_allclose(moved, expected, atol=1e-10)


@pytest.mark.parametrize("order", [1, 3])
def test_whole_pixels_are_shifted(rng, order):
    images = rng.standard_normal(SHAPE).astype(np.float32)
    flow = np.zeros((3, 2, *SHAPE[1:]), np.float32)
    flow[:, 0], flow[:, 1] = 5, -2
    padded = np.pad(images, ((0, 0), (2, 2), (5, 5)), mode="edge")
    np.testing.assert_array_equal(pull_back(images, flow, order), padded[:, : SHAPE[1], 10:])


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 6), (2, 5, 1), (1, 7, 64)])
@pytest.mark.parametrize("order", [1, 3])
def test_the_transpose_is_the_matrix_turned(rng, shape, order):
    pixels = shape[1] * shape[2]
    flow = 2 * rng.standard_normal((1, 2, *shape[1:]))
    every = np.repeat(flow, pixels, axis=0)
    unit = np.eye(pixels).reshape(pixels, *shape[1:])
    matrix = pull_back(unit, every, order).reshape(pixels, pixels)
    turned = push_forward(unit, every, order).reshape(pixels, pixels)
    np.testing.assert_allclose(turned, matrix.T, atol=1e-14)


@pytest.mark.parametrize("order", [1, 3])
def test_mass_is_kept_and_goes_where_the_flow_points(rng, order):
    image = np.zeros((1, 40, 50))
    image[0, 12, 20] = 2.0
    flow = np.zeros((1, 2, 40, 50))
    flow[0, 0], flow[0, 1] = 3.25, -1.5
    moved = push_forward(image, flow, order)[0]
    assert moved.sum() == pytest.approx(2.0)
    assert (moved.sum(axis=0) @ np.arange(50)) / 2 == pytest.approx(23.25)
    assert (moved.sum(axis=1) @ np.arange(40)) / 2 == pytest.approx(10.5)
    images, flow = rng.random(SHAPE), some_flow(rng, 9.0)
    np.testing.assert_allclose(push_forward(images, flow, order).sum((1, 2)), images.sum((1, 2)))


@pytest.mark.parametrize("order", [1, 3])
def test_undefined_and_far_places_stay_inside(order):
    images = np.arange(24.0).reshape(1, 4, 6)
    flow = np.zeros((1, 2, 4, 6))
    flow[0, 0, 0] = np.nan
    flow[0, 0, 1], flow[0, 1, 2] = np.inf, -1e30
    moved = pull_back(images, flow, order)[0]
    np.testing.assert_array_equal(moved[0], 0)
    np.testing.assert_array_equal(moved[1], 11)
    np.testing.assert_array_equal(moved[2], np.arange(6))
    assert push_forward(images, flow, order).sum() == pytest.approx(images.sum())


def test_no_bit_depends_on_threads(rng):
    images, flow = rng.standard_normal(SHAPE).astype(np.float32), some_flow(rng)
    before, made = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        made.append((pull_back(images, flow), push_forward(images, flow)))
    torch.set_num_threads(before)
    for one, other in zip(*made, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_does_not_belong_together_is_refused(rng):
    images, flow = rng.random(SHAPE), some_flow(rng)
    with pytest.raises(ValueError, match="is not that of images"):
        pull_back(images, flow[:2])
    with pytest.raises(ValueError, match="no interpolation of order 2"):
        push_forward(images, flow, 2)
    with pytest.raises(ValueError, match="not like the images"):
        pull_back(images, flow, out=np.empty(SHAPE, np.float32))
