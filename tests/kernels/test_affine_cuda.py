"""The Triton spline resampling against a plain reference; in Triton's interpreter where there is no GPU."""

from __future__ import annotations

import math
import os

import pytest
import torch

from manyviews.errors import InputError

pytest.importorskip("triton", reason="triton is not installed")
HAS_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if HAS_GPU else "cpu")
if not HAS_GPU:
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are imported

from manyviews.kernels import affine_cpu, affine_cuda  # noqa: E402


def rotation(degrees, in_shape, out_shape, scale=1.0, shift=(0.0, 0.0)):
    """Map of output (row, column) to input about both centres, with a scale and a shift."""
    c, s = math.cos(math.radians(degrees)) * scale, math.sin(math.radians(degrees)) * scale
    linear = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    centre_in = torch.tensor([in_shape[0] // 2, in_shape[1] // 2]) + torch.tensor(shift)
    centre_out = torch.tensor([out_shape[0] // 2, out_shape[1] // 2], dtype=torch.float64)
    return torch.cat([linear, (centre_in - linear @ centre_out)[:, None]], dim=1)


# Tiles are 4 x 64 pixels: one, a whole one or two in each direction. The interpreter takes long for each.
CASES = [
    ((5, 12), (7, 8), (0.0, 0.0)),
    ((5, 12), (7, 8), (45.0, -90.0)),
    ((8, 7), (1, 70), (30.0, 60.0)),
    ((5, 66), (6, 9), (-12.5, 89.0)),
]


def make_case(in_shape, out_shape, angles, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    maps = [rotation(a, in_shape, out_shape, scale, (0.3, -1.7)) for a in angles]
    images = torch.randn((len(angles), *in_shape), generator=generator, dtype=torch.float64)
    others = torch.randn((len(angles), *out_shape), generator=generator, dtype=torch.float64)
    return images, others, torch.stack(maps)


def spline(distance):
    near = distance.abs()
    inner = 2 / 3 - near**2 + near**3 / 2
    return torch.where(near < 1, inner, (2 - near).clamp(min=0) ** 3 / 6)


def reference_matrix(matrix, in_shape, out_shape):
    """``(H, W, h, w)`` float64: the weight of every input pixel in every output pixel."""
    r = torch.arange(out_shape[0], dtype=torch.float64)[:, None]
    q = torch.arange(out_shape[1], dtype=torch.float64)[None, :]
    y, x = (row[0] * r + row[1] * q + row[2] for row in matrix)
    weights_y = spline(y[..., None] - torch.arange(in_shape[0]))
    weights_x = spline(x[..., None] - torch.arange(in_shape[1]))
    return weights_y[..., :, None] * weights_x[..., None, :]


def relative(got, wanted):
    return float(
        (got.double().cpu() - wanted.double().cpu()).norm() / wanted.double().norm().clamp(min=1e-30)
    )


@pytest.mark.parametrize(
    ("in_shape", "out_shape", "angles", "dtype", "tolerance"),
    [(*case, torch.float64, 1e-13) for case in CASES] + [(*case, torch.float32, 1e-6) for case in CASES[1:3]],
)
def test_both_directions_equal_the_dense_matrix(in_shape, out_shape, angles, dtype, tolerance):
    images, others, maps = make_case(in_shape, out_shape, angles)
    dense = torch.stack([reference_matrix(matrix, in_shape, out_shape) for matrix in maps])
    forward = affine_cuda.resample_spline(images.to(DEVICE, dtype), maps, out_shape)
    assert forward.dtype == dtype
    assert relative(forward, torch.einsum("nrqyx,nyx->nrq", dense, images)) < tolerance
    back = affine_cuda.resample_spline_adjoint(others.to(DEVICE, dtype), maps, in_shape)
    assert relative(back, torch.einsum("nrqyx,nrq->nyx", dense, others)) < tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("scale", [0.25, 3.0])
def test_exact_adjoint_at_any_scale(scale, dtype, tolerance):
    in_shape, out_shape = (4, 11), (12, 17)
    images, others, maps = make_case(in_shape, out_shape, (33.0,), seed=1, scale=scale)
    x, y = images.to(DEVICE, dtype), others.to(DEVICE, dtype)
    forward = affine_cuda.resample_spline(x, maps, out_shape)
    back = affine_cuda.resample_spline_adjoint(y, maps, in_shape)
    left, right = (forward.double() * y.double()).sum(), (x.double() * back.double()).sum()
    assert abs(left - right) < tolerance * forward.double().norm() * y.double().norm()


def test_one_map_serves_all_images():
    images, others, maps = make_case((4, 10), (4, 13), (21.0, 0.0), seed=2)
    shared, repeated = maps[:1], maps[:1].expand(2, -1, -1)
    for kernel, data, shape in (
        (affine_cuda.resample_spline, images, (4, 13)),
        (affine_cuda.resample_spline_adjoint, others, (4, 10)),
    ):
        assert torch.equal(kernel(data.to(DEVICE), shared, shape), kernel(data.to(DEVICE), repeated, shape))


def test_maps_far_off_the_image_give_zero():
    images, _, maps = make_case((6, 6), (6, 6), (10.0,), seed=3)
    far = maps.clone()
    far[:, :, 2] += torch.tensor([1e12, -1e12])
    assert affine_cuda.resample_spline(images.to(DEVICE), far, (6, 6)).abs().max() == 0
    assert affine_cuda.resample_spline_adjoint(images.to(DEVICE), far, (6, 6)).abs().max() == 0


def test_prefilter_undoes_the_spline():
    """Coefficients read at the samples give the samples back, away from the edge."""
    images = torch.randn((1, 40, 44), generator=torch.Generator().manual_seed(4), dtype=torch.float64).to(
        DEVICE
    )
    identity = rotation(0.0, (40, 44), (40, 44))[None]
    again = affine_cuda.resample_spline(affine_cuda.spline_prefilter(images), identity, (40, 44))
    inner = (slice(None), slice(17, -17), slice(17, -17))
    torch.testing.assert_close(again[inner], images[inner], rtol=0, atol=2e-4)


@pytest.mark.parametrize("shape", [(1, 5, 30), (3, 17, 16), (2, 1, 9)])
def test_prefilter_is_the_separable_filter_and_self_adjoint(shape):
    generator = torch.Generator().manual_seed(5)
    x, y = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    taps = (math.sqrt(3) - 2) ** torch.arange(-8, 9, dtype=torch.float64).abs()
    taps /= taps.sum()
    wanted = torch.nn.functional.conv2d(x[:, None], torch.outer(taps, taps)[None, None], padding=8)[:, 0]
    got = affine_cuda.spline_prefilter(x.to(DEVICE))
    torch.testing.assert_close(got.cpu(), wanted, rtol=1e-12, atol=1e-12)
    left, right = (got.cpu() * y).sum(), (x * affine_cuda.spline_prefilter(y.to(DEVICE)).cpu()).sum()
    assert abs(left - right) < 1e-13 * got.norm().cpu() * y.norm()
    single = affine_cuda.spline_prefilter(x.to(DEVICE, torch.float32))
    assert relative(single, wanted) < 1e-6


def test_bad_arguments_are_named():
    images = torch.zeros(3, 4, 5, device=DEVICE)
    with pytest.raises(InputError, match=r"matrices of shape \(3, 2, 3\)"):
        affine_cuda.resample_spline(images, torch.zeros(2, 2, 3), (4, 5))
    with pytest.raises(InputError, match="singular"):
        affine_cuda.resample_spline_adjoint(images, torch.zeros(1, 2, 3), (4, 5))
    with pytest.raises(InputError, match="three axes"):
        affine_cuda.spline_prefilter(images[0])
    with pytest.raises(InputError, match="float32 and float64"):
        affine_cuda.spline_prefilter(images.to(torch.int32))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("in_shape", "out_shape", "angles"), CASES[1:3])
def test_agrees_with_the_cpu_kernel(in_shape, out_shape, angles, shared):
    images, others, maps = make_case(in_shape, out_shape, angles, seed=6)
    maps = maps[1:2] if shared else maps
    x, y = images.float(), others.float()
    filtered = affine_cpu.spline_prefilter(x)
    assert relative(affine_cuda.spline_prefilter(x.to(DEVICE)), filtered) < 1e-6
    ours = affine_cuda.resample_spline(x.to(DEVICE), maps, out_shape)
    assert relative(ours, affine_cpu.resample_spline(x, maps, out_shape)) < 1e-6
    ours = affine_cuda.resample_spline_adjoint(y.to(DEVICE), maps, in_shape)
    assert relative(ours, affine_cpu.resample_spline_adjoint(y, maps, in_shape)) < 1e-6


@pytest.mark.cuda
@pytest.mark.skipif(not HAS_GPU, reason="needs an NVIDIA GPU")
def test_large_images_on_the_gpu_are_adjoint_and_repeat_bit_for_bit():
    images, others, maps = make_case((301, 260), (280, 333), (45.0, -30.0), seed=7)
    x, y = images.float().cuda(), others.float().cuda()
    forward = affine_cuda.resample_spline(x, maps, (280, 333))
    back = affine_cuda.resample_spline_adjoint(y, maps, (301, 260))
    left, right = (forward.double() * y.double()).sum(), (x.double() * back.double()).sum()
    assert abs(left - right) < 1e-6 * forward.double().norm() * y.double().norm()
    assert torch.equal(back, affine_cuda.resample_spline_adjoint(y, maps, (301, 260)))
