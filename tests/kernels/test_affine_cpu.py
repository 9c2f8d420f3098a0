"""The CPU spline resampling against a dense matrix, known images and its own adjoint."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
import torch

from manyviews.kernels.affine_cpu import (
    prefilter_taps,
    resample_spline,
    resample_spline_adjoint,
    spline_prefilter,
)

TOLERANCES = [(torch.float32, 1e-6), (torch.float64, 1e-14)]
CASES = [  # images, input, output, degrees, scale
    (1, (9, 12), (11, 8), 0.0, 1.0),
    (3, (9, 12), (11, 8), 45.0, 1.0),
    (16, (16, 7), (1, 20), 30.0, 1.02),
    (17, (5, 21), (13, 9), -72.5, 0.98),
    (33, (1, 10), (12, 12), 180.0, 1.0),
    (4, (8, 9), (21, 19), 20.0, 0.2),  # magnified five times
    (18, (21, 19), (8, 9), -100.0, 3.5),  # made smaller: most input is skipped
]


def affine_map(degrees, in_shape, out_shape, scale=1.0, shift=(0.0, 0.0)):
    """``(2, 3)`` map of output ``(row, column, 1)`` to input, about both centres."""
    c, s = math.cos(math.radians(degrees)) * scale, math.sin(math.radians(degrees)) * scale
    linear = np.array([[c, -s], [s, c]])
    centre_in = np.array([in_shape[0] // 2 + shift[0], in_shape[1] // 2 + shift[1]])
    offset = centre_in - linear @ np.array([out_shape[0] // 2, out_shape[1] // 2])
    return torch.from_numpy(np.concatenate([linear, offset[:, None]], axis=1))


def spline(distance):
    near = np.abs(distance)
    return np.where(near < 1, 2 / 3 - near**2 + near**3 / 2, np.maximum(2 - near, 0) ** 3 / 6)


def dense_matrix(matrix, in_shape, out_shape):
    """``(H, W, h, w)``: the weight of every coefficient in every output pixel."""
    m = matrix.numpy()
    r, q = np.meshgrid(np.arange(out_shape[0]), np.arange(out_shape[1]), indexing="ij")
    y, x = (row[0] * r + row[1] * q + row[2] for row in m)
    weights_y = spline(y[..., None] - np.arange(in_shape[0]))
    weights_x = spline(x[..., None] - np.arange(in_shape[1]))
    return weights_y[..., :, None] * weights_x[..., None, :]


def random_pair(count, in_shape, out_shape, rng):
    return (
        torch.from_numpy(rng.normal(size=(count, *in_shape))),
        torch.from_numpy(rng.normal(size=(count, *out_shape))),
    )


def images_last(x, lanes):
    """The same images, stored side by side."""
    room = torch.zeros((*x.shape[1:], lanes), dtype=x.dtype)
    room[..., : len(x)] = x.permute(1, 2, 0)
    return room.permute(2, 0, 1)[: len(x)]


def relative(got, wanted):
    return float((got.double() - wanted).norm() / wanted.norm().clamp(min=1e-30))


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
@pytest.mark.parametrize(("count", "in_shape", "out_shape", "degrees", "scale"), CASES)
def test_a_shared_map_equals_the_dense_matrix(
    count, in_shape, out_shape, degrees, scale, dtype, tolerance, rng
):
    images, others = random_pair(count, in_shape, out_shape, rng)
    matrix = affine_map(degrees, in_shape, out_shape, scale, (0.3, -1.7))
    dense = torch.from_numpy(dense_matrix(matrix, in_shape, out_shape))
    forward = resample_spline(images.to(dtype), matrix[None], out_shape)
    back = resample_spline_adjoint(others.to(dtype), matrix[None], in_shape)
    assert (forward.dtype, forward.shape) == (dtype, others.shape)
    assert (back.dtype, back.shape) == (dtype, images.shape)
    assert relative(forward, torch.einsum("rqyx,nyx->nrq", dense, images)) < tolerance
    assert relative(back, torch.einsum("rqyx,nrq->nyx", dense, others)) < tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
@pytest.mark.parametrize("scale", [0.1, 1.0, 1.02, 4.0])
def test_a_map_for_each_equals_the_dense_matrices(scale, dtype, tolerance, rng):
    in_shape, out_shape, angles = (13, 10), (9, 16), (0.0, 45.0, -90.0, 13.3)
    images, others = random_pair(len(angles), in_shape, out_shape, rng)
    maps = torch.stack([affine_map(a, in_shape, out_shape, scale, (-0.6, 1.2)) for a in angles])
    dense = torch.from_numpy(np.stack([dense_matrix(m, in_shape, out_shape) for m in maps]))
    forward = resample_spline(images.to(dtype), maps, out_shape)
    back = resample_spline_adjoint(others.to(dtype), maps, in_shape)
    assert relative(forward, torch.einsum("nrqyx,nyx->nrq", dense, images)) < tolerance
    assert relative(back, torch.einsum("nrqyx,nrq->nyx", dense, others)) < tolerance


def test_a_shear_is_resampled_and_has_its_adjoint(rng):
    """Not only rotations: the window of the gathering adjoint follows any invertible map."""
    matrix = torch.tensor([[0.9, 2.5, -6.0], [0.05, 1.1, -1.0]], dtype=torch.float64)
    images, others = random_pair(17, (12, 15), (14, 11), rng)
    dense = torch.from_numpy(dense_matrix(matrix, (12, 15), (14, 11)))
    assert relative(resample_spline(images, matrix[None], (14, 11)), _apply(dense, images)) < 1e-14
    back = resample_spline_adjoint(others, matrix[None], (12, 15))
    assert relative(back, torch.einsum("rqyx,nrq->nyx", dense, others)) < 1e-14


def _apply(dense, images):
    return torch.einsum("rqyx,nyx->nrq", dense, images)


def test_shared_and_repeated_maps_agree(rng):
    images, others = random_pair(5, (14, 10), (14, 13), rng)
    matrix = affine_map(21.0, (14, 10), (14, 13))[None]
    for kernel, data, shape in (
        (resample_spline, images, (14, 13)),
        (resample_spline_adjoint, others, (14, 10)),
    ):
        repeated = kernel(data, matrix.expand(5, -1, -1), shape)
        torch.testing.assert_close(kernel(data, matrix, shape), repeated, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("kernel", [resample_spline, resample_spline_adjoint])
def test_a_few_images_take_less_room_and_give_the_same_bits(kernel, count, rng):
    """What a thin slab holds in a frame is not sixteen slices; and slabs of any thickness agree."""
    images, _ = random_pair(17, (14, 10), (14, 13), rng)
    for dtype in (torch.float32, torch.float64):
        some = images.to(dtype)
        matrix = affine_map(21.0, (14, 10), (14, 13))[None]
        few, many = kernel(some[:count], matrix, (9, 9)), kernel(some, matrix, (9, 9))
        assert torch.equal(few, many[:count])
        assert few.untyped_storage().nbytes() == (4 if count <= 4 else 8) * 81 * some.itemsize


@pytest.mark.parametrize(("count", "lanes"), [(16, 16), (5, 16), (3, 4), (5, 8), (20, 48)])
def test_images_stored_side_by_side_give_the_same(count, lanes, rng):
    images, others = random_pair(count, (14, 10), (11, 13), rng)
    matrix = affine_map(-33.0, (14, 10), (11, 13))[None]
    for kernel, data, shape in (
        (resample_spline, images, (11, 13)),
        (resample_spline_adjoint, others, (14, 10)),
    ):
        assert torch.equal(kernel(images_last(data, lanes), matrix, shape), kernel(data, matrix, shape))
    torch.testing.assert_close(
        spline_prefilter(images_last(images, lanes)), spline_prefilter(images), rtol=1e-13, atol=1e-13
    )


def test_slices_and_transposes_of_a_larger_tensor_give_the_same(rng):
    room = torch.from_numpy(rng.normal(size=(20, 30, 40)))
    matrix = affine_map(12.0, (15, 10), (9, 9))[None]
    strided = room[::4, ::2, ::4]
    transposed = room[:5, :10, :15].transpose(1, 2)
    for images in (strided, transposed):
        plain = images.contiguous()
        for maps in (matrix, matrix.expand(5, -1, -1)):
            assert torch.equal(resample_spline(images, maps, (9, 9)), resample_spline(plain, maps, (9, 9)))
            back = resample_spline_adjoint(images, maps, (8, 8))
            assert torch.equal(back, resample_spline_adjoint(plain, maps, (8, 8)))
        assert torch.equal(spline_prefilter(images), spline_prefilter(plain))


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads to compare with one")
def test_the_number_of_threads_does_not_change_a_bit(rng):
    images, others = random_pair(18, (40, 44), (41, 39), rng)
    shared = affine_map(30.0, (40, 44), (41, 39))[None]
    before, results = numba.get_num_threads(), []
    try:
        for threads in (1, 2):
            numba.set_num_threads(threads)
            parts = [spline_prefilter(images)]
            for maps in (shared, shared.expand(18, -1, -1)):
                parts.append(resample_spline(images, maps, (41, 39)))
                parts.append(resample_spline_adjoint(others, maps, (40, 44)))
            results.append(parts)
    finally:
        numba.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.0, -2.0)])
def test_whole_pixel_maps_move_pixels(shift, rng):
    """Prefilter and spline together interpolate: white noise comes back in the interior to 2e-4."""
    images = torch.from_numpy(rng.normal(size=(2, 48, 44)))
    matrix = affine_map(0.0, (48, 44), (48, 44), shift=shift)[None]
    again = resample_spline(spline_prefilter(images), matrix, (48, 44))
    moved = torch.roll(images, (-int(shift[0]), -int(shift[1])), dims=(1, 2))
    inner = (slice(None), slice(14, -14), slice(14, -14))
    torch.testing.assert_close(again[inner], moved[inner], rtol=0, atol=2e-4)


def gaussians(shape, sigma, centre):
    y, x = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    return np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * sigma**2))


@pytest.mark.parametrize(("sigma", "tolerance"), [(1.0, 5e-2), (1.5, 1e-2), (2.0, 3e-3), (3.0, 1e-3)])
@pytest.mark.parametrize("degrees", [22.5, 45.0, -70.0, 133.0])
@pytest.mark.parametrize("shape", [(64, 64), (65, 60)])
def test_a_gaussian_is_turned_to_the_right_place(shape, degrees, sigma, tolerance):
    matrix = affine_map(degrees, shape, shape, shift=(0.4, -0.3))
    place = np.array([shape[0] // 2 + 7.3, shape[1] // 2 - 4.6])
    target = np.linalg.solve(matrix.numpy()[:, :2], place - matrix.numpy()[:, 2])
    image = torch.from_numpy(gaussians(shape, sigma, place))[None]
    got = resample_spline(spline_prefilter(image), matrix[None], shape)[0]
    assert relative(got, torch.from_numpy(gaussians(shape, sigma, target))) < tolerance


def test_maps_far_off_the_image_give_zero(rng):
    images, _ = random_pair(17, (6, 6), (6, 6), rng)
    far = affine_map(10.0, (6, 6), (6, 6))[None]
    far[:, :, 2] += torch.tensor([1e9, -1e9])
    for maps in (far, far.expand(17, -1, -1)):
        assert resample_spline(images, maps, (6, 6)).abs().max() == 0
        assert resample_spline_adjoint(images, maps, (6, 6)).abs().max() == 0


@pytest.mark.parametrize("shape", [(1, 5, 30), (3, 17, 16), (2, 1, 9), (4, 33, 50)])
@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_prefilter_is_the_separable_filter_and_self_adjoint(shape, dtype, tolerance, rng):
    x, y = (torch.from_numpy(rng.normal(size=shape)) for _ in range(2))
    taps = torch.from_numpy(prefilter_taps())
    assert float(taps.sum()) == pytest.approx(1.0, abs=1e-15)
    wanted = torch.nn.functional.conv2d(x[:, None], torch.outer(taps, taps)[None, None], padding=8)[:, 0]
    got = spline_prefilter(x.to(dtype))
    assert got.dtype == dtype
    assert relative(got, wanted) < tolerance
    left = (got.double() * y).sum()
    right = (x * spline_prefilter(y.to(dtype)).double()).sum()
    assert abs(left - right) < tolerance * wanted.norm() * y.norm()
