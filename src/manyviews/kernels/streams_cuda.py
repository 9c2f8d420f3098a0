"""Projection and back-projection of a volume as streams along its tilt axis, on CUDA (Triton).

The twin of `manyviews.kernels.streams_cpu`, where the mathematics is told. Voxel ``(z, s)`` of view v lands
at the detector coordinate ``t = cosine_v (s - S // 2) + sine_v (z - Z // 2) + offset_v`` in pixels, every w
goes to the same w. Its footprint is a triangle two bins wide, smoothed over ``max(|cosine|, |sine|)``, so it
shares out to three bins; a filter ``[-m/2, 1 + m, -m/2]`` along t takes the blur back.

Both directions are gathers, so there are no atomics and results are deterministic. Places are the sum of two
small integer tables in 32.32 fixed point: integer addition is exact, so the forward and the backward kernel
see the very same places, on every GPU, without float64 arithmetic in the inner loop. A place is rounded by at
most 2**-32 pixel. Why Triton, and why gathers: ``docs/decisions/0004-cuda-in-triton.md``.

Importing this module needs Triton; import it only where a CUDA tensor is at hand.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from manyviews.errors import InputError

try:
    import triton
    import triton.language as tl
except ImportError as error:
    raise InputError(
        "computing on a CUDA device needs the package triton, which is not installed",
        fix='run: pip install "manyviews[cuda]", or choose the CPU',
    ) from error

FRACTION_BITS = 32
FARTHEST_PIXEL = 2.0**30  # positions beyond it are off every detector; clipping keeps the sum of two in int64
FLATTEST_COSINE = (
    1e-3  # below it every s of a row is looked at: the candidate range cannot be inverted safely
)
MOST_PLANE_ELEMENTS = 2**31 - 1  # offsets inside one (s, w) or (t, w) plane are 32-bit, between planes 64-bit
BINS_PER_PROGRAM = 16
PATCH_Z = 4
PATCH_S = 4
WIDEST_BLOCK = 128
SHARPEN_TILE = 32  # square, as either side may be the transposed one


@triton.jit
def _side_weight(distance, half, quarter):  # type: ignore[no-untyped-def]
    """Footprint at ``distance >= half`` bins; ``half`` the smoothing width, ``quarter = 1 / (4 half)``."""
    inside = tl.maximum(1.0 + half - distance, 0.0)
    curved = tl.minimum(inside, 2.0 * half)
    return curved * curved * quarter + (inside - curved)


@triton.jit
def _weight(distance, half, quarter):  # type: ignore[no-untyped-def]
    """Footprint of a voxel at ``distance >= 0`` bins from its centre."""
    core = tl.maximum(half - distance, 0.0)
    return _side_weight(distance, half, quarter) - 2.0 * core * core * quarter


@triton.jit
def _project_kernel(  # type: ignore[no-untyped-def]
    volume,
    s_positions,
    z_positions,
    halves,
    inverse_cosines,
    reaches,
    candidates,
    detector,
    views,
    depth,
    width_s,
    width_w,
    bins,
    bin_blocks,
    plane_elements,
    BINS: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """One program: BINS detector bins of one view, BLOCK_W places along the axis; the sum over z and s."""
    # Bins vary fastest and w slowest, so the programs that run together share one slab of w in the L2 cache.
    program = tl.program_id(0)
    view = (program // bin_blocks) % views
    bin_index = (program % bin_blocks) * BINS + tl.arange(0, BINS)
    w = (program // bin_blocks // views) * BLOCK_W + tl.arange(0, BLOCK_W)
    w_inside = w < width_w

    half = tl.load(halves + view).to(volume.dtype.element_ty)
    quarter = 0.25 / half
    inverse_cosine = tl.load(inverse_cosines + view)
    reach = tl.load(reaches + view)
    candidate_count = tl.load(candidates + view)
    view_s_positions = s_positions + view.to(tl.int64) * width_s
    view_z_positions = z_positions + view.to(tl.int64) * depth
    plane = volume
    total = tl.full((BINS, BLOCK_W), 0.0, volume.dtype.element_ty)
    for z in range(depth):
        z_position = tl.load(view_z_positions + z)
        # Candidates are the s within `reach` of where this bin's centre falls; float32 will do, as `reach`
        # has a margin and the weights decide.
        z_whole = (z_position >> 32).to(tl.int32)
        z_fraction = z_position.to(tl.uint32).to(tl.float32) * (1.0 / 4294967296.0)
        centre = ((bin_index - z_whole).to(tl.float32) - z_fraction) * inverse_cosine + (width_s // 2)
        first = tl.floor(centre - reach) + 1.0
        first_s = tl.minimum(tl.maximum(first, 0.0), width_s).to(tl.int32)
        for candidate in range(candidate_count):
            s = first_s + candidate
            s_inside = s < width_s
            position = tl.load(view_s_positions + s, mask=s_inside, other=0) + z_position
            whole = (position >> 32).to(tl.int32)
            fraction = position.to(tl.uint32).to(total.dtype) * (1.0 / 4294967296.0)
            weight = _weight(tl.abs((whole - bin_index).to(total.dtype) + fraction), half, quarter)
            used = s_inside & (weight != 0.0)
            voxels = plane + s[:, None] * width_w + w[None, :]
            value = tl.load(voxels, mask=used[:, None] & w_inside[None, :], other=0.0)
            total += weight[:, None] * value
        plane += plane_elements
    bin_inside = bin_index < bins
    target = detector + view.to(tl.int64) * bins * width_w + bin_index[:, None] * width_w + w[None, :]
    tl.store(target, total, mask=bin_inside[:, None] & w_inside[None, :])


@triton.jit
def _back_project_kernel(  # type: ignore[no-untyped-def]
    detector, s_positions, z_positions, halves, volume, z_step, s_step, w_step, views, depth,
    width_s, width_w, bins, z_blocks, s_blocks, plane_elements,
    BLOCK_Z: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """One program: a patch of BLOCK_Z x BLOCK_S rows, BLOCK_W places along it; adds the sum over views."""
    program = tl.program_id(0)
    row = tl.arange(0, BLOCK_Z * BLOCK_S)
    s = (program % s_blocks) * BLOCK_S + row % BLOCK_S
    z = ((program // s_blocks) % z_blocks) * BLOCK_Z + row // BLOCK_S
    w = (program // s_blocks // z_blocks) * BLOCK_W + tl.arange(0, BLOCK_W)
    row_inside = (s < width_s) & (z < depth)
    w_inside = (w < width_w)[None, :]

    plane = detector
    s_table = s_positions + s
    z_table = z_positions + z
    total = tl.full((BLOCK_Z * BLOCK_S, BLOCK_W), 0.0, volume.dtype.element_ty)
    for view in range(views):
        position = tl.load(s_table, mask=row_inside, other=0) + tl.load(z_table, mask=row_inside, other=0)
        half = tl.load(halves + view).to(total.dtype)
        quarter = 0.25 / half
        position += 2147483648  # half a bin: what remains of it is the distance from the nearest bin
        nearest = (position >> 32).to(tl.int32)
        beyond = position.to(tl.uint32).to(total.dtype) * (1.0 / 4294967296.0) - 0.5
        lower = _side_weight(1.0 + beyond, half, quarter)
        upper = _side_weight(1.0 - beyond, half, quarter)
        centre = 1.0 - lower - upper
        # Bounded before the offset is formed: a place far off the detector would overflow it.
        nearest = tl.minimum(tl.maximum(nearest, -2), bins + 1)
        pixels = plane + nearest[:, None] * width_w + w[None, :]
        inside = row_inside & (nearest >= 1) & (nearest <= bins)
        value = tl.load(pixels - width_w, mask=inside[:, None] & w_inside, other=0.0)
        total += lower[:, None] * value
        inside = row_inside & (nearest >= 0) & (nearest < bins)
        value = tl.load(pixels, mask=inside[:, None] & w_inside, other=0.0)
        total += centre[:, None] * value
        inside = row_inside & (nearest >= -1) & (nearest < bins - 1)
        value = tl.load(pixels + width_w, mask=inside[:, None] & w_inside, other=0.0)
        total += upper[:, None] * value
        plane += plane_elements
        s_table += width_s
        z_table += depth
    target = volume + (z.to(tl.int64) * z_step + s.to(tl.int64) * s_step)[:, None]
    target += w.to(tl.int64)[None, :] * w_step
    inside = row_inside[:, None] & w_inside
    tl.store(target, tl.load(target, mask=inside, other=0.0) + total, mask=inside)


@triton.jit
def _sharpen_kernel(  # type: ignore[no-untyped-def]
    source,
    source_view,
    source_t,
    source_w,
    strengths,
    target,
    target_view,
    target_t,
    target_w,
    bins,
    width_w,
    bin_blocks,
    w_blocks,
    BINS: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """Filter ``[-m/2, 1 + m, -m/2]`` along t, from and to arrays ``(view, t, w)`` of any strides."""
    program = tl.program_id(0)
    t = (program % bin_blocks) * BINS + tl.arange(0, BINS)[:, None]
    w = ((program // bin_blocks) % w_blocks) * BLOCK_W + tl.arange(0, BLOCK_W)[None, :]
    view = (program // bin_blocks // w_blocks).to(tl.int64)
    strength = tl.load(strengths + view).to(target.dtype.element_ty)
    pixels = source + view * source_view + t.to(tl.int64) * source_t + w.to(tl.int64) * source_w
    inside = (t < bins) & (w < width_w)
    value = tl.load(pixels, mask=inside, other=0.0)
    before = tl.load(pixels - source_t, mask=inside & (t >= 1), other=0.0)
    after = tl.load(pixels + source_t, mask=inside & (t < bins - 1), other=0.0)
    value = (1.0 + strength) * value - 0.5 * strength * (before + after)
    places = target + view * target_view + t.to(tl.int64) * target_t + w.to(tl.int64) * target_w
    tl.store(places, value, mask=inside)


def pack_frame(volume: torch.Tensor) -> torch.Tensor:
    """A volume ``(z, s, w)`` as `project_streams` wants it: contiguous."""
    return volume.contiguous()


def project_streams(
    volume: torch.Tensor,
    cosines: torch.Tensor,
    sines: torch.Tensor,
    offsets: torch.Tensor,
    sharpening: torch.Tensor,
    out: torch.Tensor,
) -> torch.Tensor:
    """Project a volume in the frame of its tilt axis.

    Parameters
    ----------
    volume
        ``(z, s, w)``, w along the tilt axis, any strides; float32 or float64, on a CUDA device.
    cosines, sines, sharpening
        ``(view,)``, of the tilt, and strength of the filter along t; a vanishing cosine is fine.
    offsets
        ``(view,)``, detector coordinate in pixels of the volume's centre voxel ``(Z // 2, S // 2)``.
    out
        ``(view, t, w)``, any strides; overwritten and returned. What falls outside it is dropped.

    Raises
    ------
    InputError
        If shapes, dtypes or devices do not fit, the tensors are not on a CUDA device, or one plane of volume
        or detector has 2**31 elements or more.
    """
    _check_pair(volume, out)
    depth, width_s, width_w = volume.shape
    views, bins, _ = out.shape
    table = _PositionTable.build(cosines, sines, offsets, sharpening, (depth, width_s), volume.device)
    _check_views(table, views)
    if out.numel() == 0 or volume.numel() == 0:
        return out.zero_()
    block_w = _block_length(width_w)
    bin_blocks = triton.cdiv(bins, BINS_PER_PROGRAM)
    plain = torch.empty(out.shape, dtype=out.dtype, device=out.device)
    with on_device_of(volume):
        _project_kernel[(bin_blocks * views * triton.cdiv(width_w, block_w),)](
            volume.contiguous(),
            table.s_positions,
            table.z_positions,
            table.halves,
            table.inverse_cosines,
            table.reaches,
            table.candidates,
            plain,
            views,
            depth,
            width_s,
            width_w,
            bins,
            bin_blocks,
            width_s * width_w,
            BINS=BINS_PER_PROGRAM,
            BLOCK_W=block_w,
            enable_fp_fusion=True,
        )
        _sharpen(plain, table.sharpening, out)
    return out


def back_project_streams(
    detector: torch.Tensor,
    cosines: torch.Tensor,
    sines: torch.Tensor,
    offsets: torch.Tensor,
    sharpening: torch.Tensor,
    out: torch.Tensor,
) -> torch.Tensor:
    """Exact adjoint of `project_streams`: ``detector (view, t, w)`` is added to ``out (z, s, w)``.

    Both may have any strides. Returns ``out``; errors as in `project_streams`.
    """
    _check_pair(detector, out)
    depth, width_s, width_w = out.shape
    views, bins, _ = detector.shape
    table = _PositionTable.build(cosines, sines, offsets, sharpening, (depth, width_s), detector.device)
    _check_views(table, views)
    if detector.numel() == 0 or out.numel() == 0:
        return out
    block_w = _block_length(width_w)
    z_blocks, s_blocks = triton.cdiv(depth, PATCH_Z), triton.cdiv(width_s, PATCH_S)
    sharp = torch.empty(detector.shape, dtype=detector.dtype, device=detector.device)
    with on_device_of(detector):
        _sharpen(detector, table.sharpening, sharp)
        _back_project_kernel[(z_blocks * s_blocks * triton.cdiv(width_w, block_w),)](
            sharp,
            table.s_positions,
            table.z_positions,
            table.halves,
            out,
            *out.stride(),
            views,
            depth,
            width_s,
            width_w,
            bins,
            z_blocks,
            s_blocks,
            bins * width_w,
            BLOCK_Z=PATCH_Z,
            BLOCK_S=PATCH_S,
            BLOCK_W=block_w,
            enable_fp_fusion=True,
        )
    return out


def _sharpen(source: torch.Tensor, strengths: torch.Tensor, target: torch.Tensor) -> None:
    """Filter ``source (view, t, w)`` along t into ``target``; self-adjoint."""
    views, bins, width_w = source.shape
    bin_blocks, w_blocks = triton.cdiv(bins, SHARPEN_TILE), triton.cdiv(width_w, SHARPEN_TILE)
    _sharpen_kernel[(views * bin_blocks * w_blocks,)](
        source,
        *source.stride(),
        strengths,
        target,
        *target.stride(),
        bins,
        width_w,
        bin_blocks,
        w_blocks,
        BINS=SHARPEN_TILE,
        BLOCK_W=SHARPEN_TILE,
        enable_fp_fusion=True,
    )


@dataclass(frozen=True)
class _PositionTable:
    """The views on the device: where every (z, s) lands, its footprint, and which s can reach a bin.

    Attributes
    ----------
    s_positions, z_positions
        ``(view, S)`` and ``(view, Z)`` int64, 32.32 fixed point pixels; their sum is the detector coordinate.
    halves, sharpening
        ``(view,)`` float64: half the smoothing width of the footprint in bins, and the filter's strength.
    inverse_cosines, reaches
        ``(view,)`` float32: a bin's centre falls at ``s = (t - z position) * inverse + S // 2``, and only the
        s closer to it than ``reach`` contribute.
    candidates
        ``(view,)`` int32: how many s that can be.
    """

    s_positions: torch.Tensor
    z_positions: torch.Tensor
    halves: torch.Tensor
    sharpening: torch.Tensor
    inverse_cosines: torch.Tensor
    reaches: torch.Tensor
    candidates: torch.Tensor

    @classmethod
    def build(
        cls,
        cosines: torch.Tensor,
        sines: torch.Tensor,
        offsets: torch.Tensor,
        sharpening: torch.Tensor,
        frame: tuple[int, int],
        device: torch.device,
    ) -> _PositionTable:
        """The tables of all views for a frame ``(Z, S)``, computed in float64 on the device."""
        given = (cosines, sines, offsets, sharpening)
        if cosines.ndim != 1 or any(numbers.shape != cosines.shape for numbers in given):
            shapes = ", ".join(str(tuple(numbers.shape)) for numbers in given)
            raise InputError(
                f"cosines, sines, offsets, sharpening must be one number a view each, got {shapes}"
            )
        cosine, sine, offset, strength = (numbers.to(device, torch.float64) for numbers in given)
        depth, width_s = frame
        s = torch.arange(width_s, device=device, dtype=torch.float64) - width_s // 2
        z = torch.arange(depth, device=device, dtype=torch.float64) - depth // 2
        flat = cosine.abs() < FLATTEST_COSINE
        inverse = torch.where(flat, 0.0, 1.0 / torch.where(flat, 1.0, cosine))
        # The margin covers the rounding of a float32 coordinate of up to S pixels, a few times over.
        margin = 0.01 + 1e-6 * width_s
        half = 0.5 * torch.maximum(cosine.abs(), sine.abs())
        reach = torch.where(flat, 2.0 * width_s, (1.0 + half) * inverse.abs() + margin)
        return cls(
            s_positions=to_fixed_point(cosine[:, None] * s),
            z_positions=to_fixed_point(sine[:, None] * z + offset[:, None]),
            halves=half,
            sharpening=strength.contiguous(),
            inverse_cosines=inverse.float(),
            reaches=reach.float(),
            candidates=(torch.floor(2.0 * reach) + 1.0).clamp(max=width_s).to(torch.int32),
        )


def to_fixed_point(pixels: torch.Tensor) -> torch.Tensor:
    """Pixel coordinates (float64) as int64 with `FRACTION_BITS` bits after the point, far ones clipped."""
    clipped = pixels.clamp(-FARTHEST_PIXEL, FARTHEST_PIXEL)
    return torch.round(clipped * 2.0**FRACTION_BITS).to(torch.int64)


def require_device(array: torch.Tensor, name: str) -> None:
    """Refuse a tensor that a Triton kernel cannot read.

    Raises
    ------
    InputError
        If the tensor is not on a CUDA device, unless Triton runs in its interpreter (``TRITON_INTERPRET=1``);
        or if it is neither float32 nor float64.
    """
    compiled = isinstance(_project_kernel, triton.JITFunction)
    if compiled and array.device.type != "cuda":
        raise InputError(
            f"the {name} is on the device {array.device}, a CUDA kernel needs it on a CUDA device",
            fix="move it there or use the CPU kernel",
        )
    if array.dtype not in (torch.float32, torch.float64):
        raise InputError(f"the {name} is {array.dtype}, only float32 and float64 can be projected")


def on_device_of(array: torch.Tensor) -> AbstractContextManager[object]:
    """Make the tensor's GPU the current one, where Triton launches its kernels."""
    return torch.cuda.device(array.device) if array.is_cuda else nullcontext()


def _check_pair(given: torch.Tensor, out: torch.Tensor) -> None:
    """Refuse a volume and a detector, in either order, that do not go together."""
    for array, name in ((given, "array to project"), (out, "out")):
        require_device(array, name)
        if array.ndim != 3:
            raise InputError(f"the {name} must have three axes, got shape {tuple(array.shape)}")
        rows, columns = array.shape[1:]
        if (rows + 3) * columns > MOST_PLANE_ELEMENTS:
            raise InputError(
                f"a plane of {rows} x {columns} pixels is too large for the CUDA kernel",
                fix="bin the data or split it along the tilt axis",
            )
    if given.dtype != out.dtype or given.device != out.device or given.shape[2] != out.shape[2]:
        raise InputError(
            f"out ({out.dtype}, {tuple(out.shape)}, {out.device}) must have the dtype, device and "
            f"length along the tilt axis of the array to project "
            f"({given.dtype}, {tuple(given.shape)}, {given.device})"
        )


def _check_views(table: _PositionTable, views: int) -> None:
    if len(table.halves) != views:
        raise InputError(f"the detector has {views} views but {len(table.halves)} cosines were given")


def _block_length(width: int) -> int:
    return max(16, min(WIDEST_BLOCK, int(triton.next_power_of_2(width))))
