"""The Triton streams against a plain reference; in Triton's interpreter where there is no GPU."""

from __future__ import annotations

import os
import subprocess
import textwrap

import pytest
import torch

from manyviews.errors import InputError

pytest.importorskip("triton", reason="triton is not installed")
HAS_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if HAS_GPU else "cpu")
if not HAS_GPU:
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are imported

from manyviews.kernels import streams_cpu, streams_cuda  # noqa: E402

# Two patches along z or s, four along s with two blocks of bins, a row of each kind. The interpreter takes a
# third of a millisecond for every operation, so no more.
FRAMES = [(5, 6, 7), (2, 16, 20), (1, 6, 3), (5, 1, 17)]
TILTS = [0.0, -37.5, 89.0, 120.0]
# All in double precision, and two in single
SINGLES = FRAMES[:2]


def triangle_integral(u):
    """Integral of the triangle max(0, 1 - |u|) from minus infinity."""
    u = u.clamp(-1, 1)
    return torch.where(u < 0, 0.5 * (1 + u) ** 2, 1 - 0.5 * (1 - u) ** 2)


def reference_matrix(cosines, sines, offsets, sharpening, depth, width_s, bins):
    """The projection as a dense ``(view, T, Z, S)`` float64 array, from the definition of the footprint."""
    c, n, o, m = (values.double()[:, None, None, None] for values in (cosines, sines, offsets, sharpening))
    s = torch.arange(width_s) - width_s // 2
    z = (torch.arange(depth) - depth // 2)[:, None]
    distance = c * s + n * z + o - torch.arange(bins)[:, None, None]
    width = torch.maximum(c.abs(), n.abs())
    footprint = (triangle_integral(distance + width / 2) - triangle_integral(distance - width / 2)) / width
    ones = torch.ones(bins - 1, dtype=torch.float64)
    neighbours = torch.diag(ones, 1) + torch.diag(ones, -1)
    return (1 + m) * footprint - 0.5 * m * torch.einsum("tu,vuzs->vtzs", neighbours, footprint)


def make_case(frame, bins, seed=0, tilts=TILTS):
    generator = torch.Generator().manual_seed(seed)
    angles = torch.deg2rad(torch.tensor(tilts, dtype=torch.float64))
    offsets = bins // 2 + 3.0 * torch.randn(len(tilts), generator=generator, dtype=torch.float64)
    sharpening = 0.3 * torch.rand(len(tilts), generator=generator, dtype=torch.float64)
    views = (torch.cos(angles), torch.sin(angles), offsets, sharpening)
    volume = torch.randn(frame, generator=generator, dtype=torch.float64)
    detector = torch.randn((len(tilts), bins, frame[2]), generator=generator, dtype=torch.float64)
    return volume, detector, views


def project(volume, views, bins):
    out = torch.full((len(views[0]), bins, volume.shape[2]), torch.nan, dtype=volume.dtype, device=DEVICE)
    return streams_cuda.project_streams(volume.to(DEVICE), *views, out)


def back_project(detector, views, frame):
    out = torch.zeros(frame, dtype=detector.dtype, device=DEVICE)
    return streams_cuda.back_project_streams(detector.to(DEVICE), *views, out)


def relative(got, wanted):
    return float(
        (got.double().cpu() - wanted.double().cpu()).norm() / wanted.double().norm().clamp(min=1e-30)
    )


def dot_mismatch(volume, detector, views):
    forward = project(volume, views, detector.shape[1]).double().cpu()
    back = back_project(detector, views, volume.shape).double().cpu()
    difference = (forward * detector.double()).sum() - (volume.double() * back).sum()
    return float(abs(difference) / (forward.norm() * detector.double().norm()))


@pytest.mark.parametrize(
    ("frame", "dtype", "tolerance"),
    [(frame, torch.float64, 2e-9) for frame in FRAMES] + [(frame, torch.float32, 1e-6) for frame in SINGLES],
)
def test_both_directions_equal_the_dense_matrix(frame, dtype, tolerance):
    bins = frame[1] + 2
    volume, detector, views = make_case(frame, bins)
    matrix = reference_matrix(*views, frame[0], frame[1], bins)
    forward = project(volume.to(dtype), views, bins)
    assert relative(forward, torch.einsum("vtzs,zsw->vtw", matrix, volume)) < tolerance
    back = back_project(detector.to(dtype), views, frame)
    assert relative(back, torch.einsum("vtzs,vtw->zsw", matrix, detector)) < tolerance


@pytest.mark.parametrize(
    ("frame", "dtype", "tolerance"),
    [(frame, torch.float64, 1e-14) for frame in FRAMES] + [(frame, torch.float32, 1e-6) for frame in SINGLES],
)
def test_exact_adjoint(frame, dtype, tolerance):
    volume, detector, views = make_case(frame, frame[1] + 1, seed=1)
    assert dot_mismatch(volume.to(dtype), detector.to(dtype), views) < tolerance


@pytest.mark.parametrize("tilt", [90.0, 89.93, 89.0, 45.0, 150.0])
def test_no_contribution_is_missed_at_any_slope(tilt):
    """Detector wide enough for all: the projection keeps the volume's mass, with few or many s a bin."""
    frame, bins = (2, 9, 2), 24
    _, _, views = make_case(frame, bins, tilts=[tilt, -tilt])
    volume = torch.rand(frame, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    mass = project(volume, views, bins).sum(dim=1).cpu()
    torch.testing.assert_close(mass, volume.sum(dim=(0, 1)).expand(2, -1), rtol=1e-12, atol=0)


def test_back_projection_adds_and_views_may_be_split():
    frame = (3, 10, 6)
    _, detector, views = make_case(frame, 11, seed=4)
    whole = back_project(detector, views, frame)
    parts = torch.zeros(frame, dtype=torch.float64, device=DEVICE)
    for chosen in (slice(0, 2), slice(2, None)):
        part_views = tuple(values[chosen] for values in views)
        result = streams_cuda.back_project_streams(detector[chosen].to(DEVICE), *part_views, parts)
        assert result is parts
    torch.testing.assert_close(parts, whole, rtol=1e-13, atol=1e-13)


def test_views_far_off_and_empty_arrays_give_zero():
    volume = torch.ones((2, 4, 3))
    views = (torch.ones(3), torch.zeros(3), torch.tensor([1e12, -1e12, 1e6]), torch.zeros(3))
    assert project(volume, views, 5).abs().max() == 0
    assert back_project(torch.ones(3, 5, 3), views, (2, 4, 3)).abs().max() == 0
    none = (torch.zeros(0),) * 4
    assert project(volume, none, 5).shape == (0, 5, 3)
    assert back_project(torch.ones(0, 5, 3), none, (2, 4, 3)).abs().max() == 0


def test_any_strides():
    """As a slice's transpose is the frame of an axis along y, and an image's transpose its detector."""
    frame, bins = (2, 6, 35), 7
    volume, detector, views = make_case(frame, bins, seed=5, tilts=[20.0, -50.0])
    straight, straight_back = project(volume, views, bins), back_project(detector, views, frame)
    turned = volume.transpose(1, 2).contiguous().transpose(1, 2).to(DEVICE)
    out = torch.zeros(2, 35, bins, dtype=torch.float64, device=DEVICE).transpose(1, 2)
    assert torch.equal(streams_cuda.project_streams(turned, *views, out), straight)
    turned = detector.transpose(1, 2).contiguous().transpose(1, 2).to(DEVICE)
    out = torch.zeros(35, 2, 6, dtype=torch.float64, device=DEVICE).permute(1, 2, 0)
    assert torch.equal(streams_cuda.back_project_streams(turned, *views, out), straight_back)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"volume": torch.zeros(2, 3)}, "three axes"),
        ({"volume": torch.zeros(2, 3, 4, dtype=torch.int32)}, "float32 and float64"),
        ({"volume": torch.zeros(2, 3, 4).double()}, "dtype, device and length"),
        ({"volume": torch.zeros(2, 3, 5)}, "dtype, device and length"),
        ({"volume": torch.zeros(1).expand(1, 2**30, 4)}, "too large"),
        ({"sines": torch.zeros(3)}, "one number a view"),
        ({"out": torch.zeros(3, 7, 4)}, "3 views but 2 cosines"),
    ],
)
def test_bad_arguments_are_named(change, says):
    arguments = {"volume": torch.zeros(2, 3, 4), "cosines": torch.ones(2), "sines": torch.zeros(2)}
    arguments |= {
        "offsets": torch.zeros(2),
        "sharpening": torch.zeros(2),
        "out": torch.zeros(2, 3, 4),
    } | change
    for name in ("volume", "out"):
        if arguments[name].numel() < 2**20:
            arguments[name] = arguments[name].to(DEVICE)
    with pytest.raises(InputError, match=says):
        streams_cuda.project_streams(**arguments)


def run_python(python, code, **environment):
    clean = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [*python, "-c", textwrap.dedent(code)],
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_triton_the_sentence_says_what_to_install(warm):
    said = run_python(
        warm,
        """
        import sys
        assert "triton" not in sys.modules
        sys.modules["triton"] = None
        from manyviews.errors import InputError
        try:
            import manyviews.kernels.streams_cuda
        except InputError as error:
            print(error)
        """,
    )
    assert 'pip install "manyviews[cuda]"' in said


def test_cpu_tensors_are_refused_outside_the_interpreter(warm):
    said = run_python(
        warm,
        """
        import torch
        from manyviews.errors import InputError
        from manyviews.kernels.streams_cuda import project_streams
        try:
            project_streams(torch.zeros(2, 2, 2), *torch.zeros(4, 1), torch.zeros(1, 2, 2))
        except InputError as error:
            print(error)
        """,
    )
    assert "needs it on a CUDA device" in said


def test_kernels_compile_for_a_hopper_gpu_without_one(warm, tmp_path):
    """The interpreter forgives what the compiler does not, as arguments that it turns into constants."""
    said = run_python(
        warm,
        """
        from triton import compile as compile_kernel
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource
        from manyviews.kernels import affine_cuda, streams_cuda

        POINTERS = {name: "*i64" for name in ("s_positions", "z_positions")} | {"candidates": "*i32"}
        SINGLE = "volume detector images coefficients out taps inverse_cosines reaches source target"
        POINTERS |= {name: "*fp32" for name in SINGLE.split()}
        POINTERS |= {name: "*fp64" for name in ("matrices", "inverses", "halves", "strengths")}
        SCALARS = {"row_reach": "fp32", "column_reach": "fp32"}
        SIZES = {"BINS": 16, "BLOCK_W": 128, "BLOCK_Z": 4, "BLOCK_S": 4}
        SIZES |= {"ROWS": 4, "COLUMNS": 64, "RADIUS": 8, "BLOCK": 512}
        KERNELS = (
            streams_cuda._project_kernel,
            streams_cuda._back_project_kernel,
            streams_cuda._sharpen_kernel,
            affine_cuda._resample_kernel,
            affine_cuda._resample_adjoint_kernel,
            affine_cuda._convolve_kernel,
        )
        for kernel in KERNELS:
            for all_ones in (False, True):
                names = kernel.arg_names
                fixed = {name: SIZES[name] for name in names if name in SIZES}
                lengths = [name for name in names if name not in {**POINTERS, **SCALARS, **SIZES}]
                fixed |= dict.fromkeys(lengths, 1) if all_ones else {}
                types = POINTERS | SCALARS | dict.fromkeys(fixed, "constexpr")
                signature = {name: types.get(name, "i32") for name in names}
                constants = {(names.index(name),): value for name, value in fixed.items()}
                source = ASTSource(kernel, signature=signature, constexprs=constants)
                target = GPUTarget("cuda", 90, 32)
                assert compile_kernel(source, target=target, options={"enable_fp_fusion": True}).asm["ptx"]
        print("compiled")
        """,
        TRITON_CACHE_DIR=str(tmp_path),
    )
    assert "compiled" in said


@pytest.mark.parametrize("frame", FRAMES[:2])
def test_agrees_with_the_cpu_kernel(frame):
    bins = frame[1] + 3
    volume, detector, views = make_case(frame, bins, seed=6, tilts=[0.0, -60.0, 60.0, 89.0])
    x, y = volume.float(), detector.float()
    wanted = streams_cpu.project_streams(streams_cpu.pack_frame(x), *views, torch.zeros_like(y))
    assert relative(project(x, views, bins), wanted) < 1e-6
    wanted = streams_cpu.back_project_streams(y, *views, torch.zeros_like(x))
    assert relative(back_project(y, views, frame), wanted) < 1e-6


@pytest.mark.cuda
@pytest.mark.skipif(not HAS_GPU, reason="needs an NVIDIA GPU")
def test_large_arrays_on_the_gpu_are_adjoint_and_repeat_bit_for_bit():
    frame, bins = (64, 300, 257), 311
    volume, detector, views = make_case(frame, bins, seed=7, tilts=torch.linspace(-60, 60, 41).tolist())
    x, y = volume.float(), detector.float()
    assert dot_mismatch(x, y, views) < 1e-6
    assert torch.equal(project(x, views, bins), project(x, views, bins))
    assert torch.equal(back_project(y, views, frame), back_project(y, views, frame))
