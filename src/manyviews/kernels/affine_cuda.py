"""Resampling of images through 2-D affine maps by cubic B-splines, with exact adjoints, on CUDA (Triton).

The twin of `manyviews.kernels.affine_cpu`, with the same mathematics: a symmetric prefilter turns samples
into spline coefficients (Unser 1999, IEEE Signal Processing Magazine 16:22), a resampled pixel is a sum over
4 x 4 of them. The adjoint is a gather too: an input pixel looks, through the inverse map, at the few output
pixels whose 4 x 4 neighbourhoods it lies in. So there are no atomics and results are deterministic.

Places are computed in float64 once a pixel, weights in the images' own precision.

Importing this module needs Triton; import it only where a CUDA tensor is at hand.
"""

from __future__ import annotations

import math

import torch

from manyviews.errors import InputError
from manyviews.kernels.streams_cuda import on_device_of, require_device

import triton  # isort: skip  # the module above tells in a sentence when it is missing
import triton.language as tl  # isort: skip

PREFILTER_RADIUS = 8
TILE_ROWS = 4
TILE_COLUMNS = 64
LINE_BLOCK = 512
LARGEST_PIXEL_COUNT = 2**31 - 2**20  # offsets inside one image are 32-bit, between images 64-bit


@triton.jit
def _spline(distance):  # type: ignore[no-untyped-def]
    """Cubic B-spline at a signed distance in samples."""
    near = tl.abs(distance)
    rest = tl.maximum(2.0 - near, 0.0)
    return tl.where(
        near < 1.0, 2.0 / 3.0 - near * near * (1.0 - 0.5 * near), rest * rest * rest * (1.0 / 6.0)
    )


@triton.jit
def _tile(rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
    """The image and the pixels ``(ROWS, 1)`` and ``(1, COLUMNS)`` that this program works on."""
    across = tl.cdiv(columns, COLUMNS)
    down = tl.cdiv(rows, ROWS)
    program = tl.program_id(0)
    column = (program % across) * COLUMNS + tl.arange(0, COLUMNS)
    row = (program // across % down) * ROWS + tl.arange(0, ROWS)
    return program // across // down, row[:, None], column[None, :]


@triton.jit
def _resample_kernel(  # type: ignore[no-untyped-def]
    coefficients,
    matrices,
    matrix_step,
    out,
    height,
    width,
    rows,
    columns,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One program: a tile of one output image."""
    image, r, q = _tile(rows, columns, ROWS, COLUMNS)
    m = matrices + image * matrix_step
    y = tl.load(m) * r.to(tl.float64) + tl.load(m + 1) * q.to(tl.float64) + tl.load(m + 2)
    x = tl.load(m + 3) * r.to(tl.float64) + tl.load(m + 4) * q.to(tl.float64) + tl.load(m + 5)
    # Beyond these limits no neighbour is inside; without them the conversion to int32 could overflow.
    y = tl.minimum(tl.maximum(y, -4.0), height + 4.0)
    x = tl.minimum(tl.maximum(x, -4.0), width + 4.0)
    dtype = out.dtype.element_ty
    fraction_y = (y - tl.floor(y)).to(dtype)
    fraction_x = (x - tl.floor(x)).to(dtype)
    y_first = tl.floor(y).to(tl.int32) - 1
    x_first = tl.floor(x).to(tl.int32) - 1
    source = coefficients + image.to(tl.int64) * height * width
    total = tl.full((ROWS, COLUMNS), 0.0, dtype)
    for j in tl.static_range(4):
        y_inside = (y_first + j >= 0) & (y_first + j < height)
        line = tl.full((ROWS, COLUMNS), 0.0, dtype)
        for i in tl.static_range(4):
            inside = y_inside & (x_first + i >= 0) & (x_first + i < width)
            value = tl.load(source + (y_first + j) * width + (x_first + i), mask=inside, other=0.0)
            line += _spline(fraction_x + (1.0 - i)) * value
        total += _spline(fraction_y + (1.0 - j)) * line
    target = out + image.to(tl.int64) * rows * columns + r * columns + q
    tl.store(target, total, mask=(r < rows) & (q < columns))


@triton.jit
def _resample_adjoint_kernel(  # type: ignore[no-untyped-def]
    images,
    matrices,
    inverses,
    matrix_step,
    inverse_step,
    out,
    height,
    width,
    rows,
    columns,
    row_reach,
    column_reach,
    row_candidates,
    column_candidates,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One program: a tile of one input image; every pixel gathers from the output pixels that it feeds."""
    image, y, x = _tile(height, width, ROWS, COLUMNS)
    dtype = out.dtype.element_ty
    m = matrices + image * matrix_step
    inverse = inverses + image * inverse_step
    m00, m01, m02 = tl.load(m), tl.load(m + 1), tl.load(m + 2)
    m10, m11, m12 = tl.load(m + 3), tl.load(m + 4), tl.load(m + 5)
    from_y = y.to(tl.float64) - m02
    from_x = x.to(tl.float64) - m12
    middle_r = tl.load(inverse) * from_y + tl.load(inverse + 1) * from_x
    middle_q = tl.load(inverse + 2) * from_y + tl.load(inverse + 3) * from_x
    # The smallest candidate row and column inside the image.
    r_first = tl.minimum(tl.maximum(tl.floor(middle_r - row_reach) + 1.0, 0.0), rows)
    q_first = tl.minimum(tl.maximum(tl.floor(middle_q - column_reach) + 1.0, 0.0), columns)
    # Distances in samples of the first candidate's place from this pixel: a few samples, so float32 is exact
    # enough from here on.
    y_start = (m00 * r_first + m01 * q_first - from_y).to(dtype)
    x_start = (m10 * r_first + m11 * q_first - from_x).to(dtype)
    r_first = r_first.to(tl.int32)
    q_first = q_first.to(tl.int32)
    y_row_step, y_column_step = m00.to(dtype), m01.to(dtype)
    x_row_step, x_column_step = m10.to(dtype), m11.to(dtype)
    source = images + image.to(tl.int64) * rows * columns
    total = tl.full((ROWS, COLUMNS), 0.0, dtype)
    for a in range(row_candidates):
        r = r_first + a
        for b in range(column_candidates):
            q = q_first + b
            weight = _spline(y_start + a * y_row_step + b * y_column_step)
            weight *= _spline(x_start + a * x_row_step + b * x_column_step)
            inside = (r < rows) & (q < columns) & (weight != 0.0)
            total += weight * tl.load(source + r * columns + q, mask=inside, other=0.0)
    target = out + image.to(tl.int64) * height * width + y * width + x
    tl.store(target, total, mask=(y < height) & (x < width))


@triton.jit
def _convolve_kernel(  # type: ignore[no-untyped-def]
    images,
    taps,
    out,
    elements,
    length,
    step,
    RADIUS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Convolve along the axis of ``length`` elements that lie ``step`` apart in memory; zero outside."""
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < elements
    place = index // step % length
    total = tl.full((BLOCK,), 0.0, out.dtype.element_ty)
    for k in range(2 * RADIUS + 1):
        shift = k - RADIUS
        used = inside & (place + shift >= 0) & (place + shift < length)
        total += tl.load(taps + k) * tl.load(images + index + shift * step, mask=used, other=0.0)
    tl.store(out + index, total, mask=inside)


def spline_prefilter(images: torch.Tensor) -> torch.Tensor:
    """Spline coefficients of images, by the inverse cubic B-spline filter cut at `PREFILTER_RADIUS`.

    The filter is symmetric, so this is its own adjoint.

    Parameters
    ----------
    images
        ``(n, h, w)``, float32 or float64, on a CUDA device; zero outside.

    Returns
    -------
    torch.Tensor
        ``(n, h, w)``.

    Raises
    ------
    InputError
        If the images are not such a tensor.
    """
    _check_images(images, "images")
    height, width = images.shape[1:]
    pole = math.sqrt(3.0) - 2.0
    offsets = range(-PREFILTER_RADIUS, PREFILTER_RADIUS + 1)
    taps = torch.tensor([pole ** abs(k) for k in offsets], dtype=torch.float64)
    taps = (taps / taps.sum()).to(images)
    result = images.contiguous()
    if images.numel() == 0:
        return result.clone()
    for length, step in ((height, width), (width, 1)):
        source, result = result, torch.empty_like(result)
        with on_device_of(images):
            _convolve_kernel[(triton.cdiv(source.numel(), LINE_BLOCK),)](
                source,
                taps,
                result,
                source.numel(),
                length,
                step,
                RADIUS=PREFILTER_RADIUS,
                BLOCK=LINE_BLOCK,
                enable_fp_fusion=True,
            )
    return result


def resample_spline(
    coefficients: torch.Tensor, matrices: torch.Tensor, out_shape: tuple[int, int]
) -> torch.Tensor:
    """Read spline coefficients at affinely mapped places.

    Parameters
    ----------
    coefficients
        ``(n, h, w)`` from `spline_prefilter`, float32 or float64, on a CUDA device; zero outside.
    matrices
        ``(n, 2, 3)``, or ``(1, 2, 3)`` for one map shared by all: output pixel ``(r, q)`` reads the input at
        ``(row, column) = matrix @ (r, q, 1)``, in pixels.
    out_shape
        ``(H, W)`` of the result.

    Returns
    -------
    torch.Tensor
        ``(n, H, W)``.

    Raises
    ------
    InputError
        If a shape or dtype does not fit, or an image is too large.
    """
    _check_images(coefficients, "coefficients")
    count, height, width = coefficients.shape
    maps, step = _maps(matrices, count)
    out = coefficients.new_empty((count, *out_shape))
    _check_images(out, "result")
    if out.numel() == 0 or coefficients.numel() == 0:
        return out.zero_()
    with on_device_of(out):
        _resample_kernel[_grid(out)](
            coefficients.contiguous(),
            maps.to(out.device),
            step,
            out,
            height,
            width,
            *out_shape,
            ROWS=TILE_ROWS,
            COLUMNS=TILE_COLUMNS,
            enable_fp_fusion=True,
        )
    return out


def resample_spline_adjoint(
    images: torch.Tensor, matrices: torch.Tensor, in_shape: tuple[int, int]
) -> torch.Tensor:
    """Exact adjoint of `resample_spline`: ``images (n, H, W)`` to coefficients ``(n, h, w)``.

    Raises
    ------
    InputError
        If a shape or dtype does not fit, an image is too large, or a map cannot be inverted.
    """
    _check_images(images, "images")
    count, rows, columns = images.shape
    maps, step = _maps(matrices, count)
    out = images.new_empty((count, *in_shape))
    _check_images(out, "result")
    if out.numel() == 0 or images.numel() == 0:
        return out.zero_()
    inverses = _inverses(maps)
    # A pixel is fed by the places within two samples of it in y and in x: through the inverse map they fill a
    # parallelogram, these are its half extents. Rounding them costs nothing, the spline vanishes there.
    reaches = 2.0 * inverses.abs().sum(dim=2).amax(dim=0)
    row_reach, column_reach = reaches.tolist()
    with on_device_of(out):
        _resample_adjoint_kernel[_grid(out)](
            images.contiguous(),
            maps.to(out.device),
            inverses.to(out.device),
            step,
            4 if step else 0,
            out,
            *in_shape,
            rows,
            columns,
            row_reach,
            column_reach,
            min(math.floor(2.0 * row_reach) + 1, rows),
            min(math.floor(2.0 * column_reach) + 1, columns),
            ROWS=TILE_ROWS,
            COLUMNS=TILE_COLUMNS,
            enable_fp_fusion=True,
        )
    return out


def _grid(images: torch.Tensor) -> tuple[int]:
    count, rows, columns = images.shape
    return (count * triton.cdiv(rows, TILE_ROWS) * triton.cdiv(columns, TILE_COLUMNS),)


def _maps(matrices: torch.Tensor, count: int) -> tuple[torch.Tensor, int]:
    """The maps in float64 on the CPU, and how many numbers lie between those of one image and the next."""
    if matrices.shape not in {(count, 2, 3), (1, 2, 3)}:
        raise InputError(
            f"{count} images need matrices of shape ({count}, 2, 3) or (1, 2, 3), got {tuple(matrices.shape)}"
        )
    maps = matrices.detach().to("cpu", torch.float64).contiguous()
    return maps, 0 if len(maps) == 1 else 6


def _inverses(maps: torch.Tensor) -> torch.Tensor:
    """Inverses ``(n, 2, 2)`` of the linear parts."""
    linear = maps[:, :, :2]
    determinants = torch.linalg.det(linear)
    if not bool((determinants.abs() > 1e-12).all()):
        raise InputError("an image transform is singular: it maps the image onto a line or a point")
    adjugates = torch.stack([linear[:, 1, 1], -linear[:, 0, 1], -linear[:, 1, 0], linear[:, 0, 0]], dim=1)
    inverses: torch.Tensor = adjugates / determinants[:, None]
    return inverses.reshape(-1, 2, 2)


def _check_images(images: torch.Tensor, name: str) -> None:
    require_device(images, name)
    if images.ndim != 3:
        raise InputError(f"the {name} must have three axes, got shape {tuple(images.shape)}")
    rows, columns = images.shape[1:]
    if rows * columns > LARGEST_PIXEL_COUNT:
        raise InputError(
            f"an image of {rows} x {columns} pixels is too large for the CUDA kernel", fix="bin the data"
        )
