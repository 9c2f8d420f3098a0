"""Resampling of images through 2-D affine maps by cubic B-splines, with exact adjoints, on the CPU.

Interpolation is a symmetric prefilter (samples to spline coefficients) followed by a sum over 4 x 4
coefficients (Unser 1999, IEEE Signal Processing Magazine 16:22). When every image shares one matrix, as the
slices of a volume do, the weights are worked out once a pixel and applied to sixteen images at a time, or
four or eight where there are no more, to the same bits; the adjoint then gathers through the inverse matrix
instead of scattering, so that threads never write to the same place and sums keep their order.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray

from manyviews.kernels.lanes import (
    WIDTH,
    add_scaled,
    aligned_empty,
    few_lanes,
    few_zeros,
    lane_count,
    store,
    zeros,
)

_POLE = math.sqrt(3.0) - 2.0
PREFILTER_RADIUS = 8
_ROW_BLOCK = 16


def prefilter_taps() -> NDArray[np.float64]:
    """Taps of the inverse cubic B-spline filter, cut at `PREFILTER_RADIUS` and made to sum to one."""
    taps = _POLE ** np.abs(np.arange(-PREFILTER_RADIUS, PREFILTER_RADIUS + 1))
    return np.asarray(taps / taps.sum(), dtype=np.float64)


@njit(inline="always")
def _spline(distance):  # type: ignore[no-untyped-def]
    """Cubic B-spline at a signed distance in samples."""
    a = abs(distance)
    if a >= 2.0:
        return 0.0
    if a >= 1.0:
        b = 2.0 - a
        return b * b * b / 6.0
    return 2.0 / 3.0 - a * a * (1.0 - 0.5 * a)


@njit(inline="always")
def _four_weights(fraction):  # type: ignore[no-untyped-def]
    """Cubic B-spline weights of the four samples around a point ``fraction`` beyond the second of them."""
    f = fraction
    g = 1.0 - f
    return (
        g * g * g / 6.0,
        2.0 / 3.0 - f * f * (1.0 - 0.5 * f),
        2.0 / 3.0 - g * g * (1.0 - 0.5 * g),
        f * f * f / 6.0,
    )


@njit(parallel=True, nogil=True, cache=True)
def _convolve(images, taps, step, out):  # type: ignore[no-untyped-def]
    """Separable convolution of ``images (n, h, w * step)`` along h, then w (neighbours ``step`` apart)."""
    count, height, length = images.shape
    radius = len(taps) // 2
    blocks = (height + _ROW_BLOCK - 1) // _ROW_BLOCK
    whole = length - length % WIDTH
    for task in prange(count * blocks):
        i = task // blocks
        first = (task % blocks) * _ROW_BLOCK
        # room on both sides for neighbours that are not there
        margin = radius * step
        line = np.zeros(length + 2 * margin, images.dtype)
        for y in range(first, min(height, first + _ROW_BLOCK)):
            low = max(-radius, -y)
            high = min(radius, height - 1 - y)
            for x in range(0, whole, WIDTH):
                total = zeros(images)
                for k in range(low, high + 1):
                    total = add_scaled(total, taps[k + radius], images, (i * height + y + k) * length + x)
                store(line, margin + x, total)
            for x in range(whole, length):
                value = images.dtype.type(0.0)
                for k in range(low, high + 1):
                    value += taps[k + radius] * images[i, y + k, x]
                line[margin + x] = value
            for x in range(0, whole, WIDTH):
                total = zeros(images)
                for k in range(-radius, radius + 1):
                    total = add_scaled(total, taps[k + radius], line, margin + x + k * step)
                store(out, (i * height + y) * length + x, total)
            for x in range(whole, length):
                value = images.dtype.type(0.0)
                for k in range(-radius, radius + 1):
                    value += taps[k + radius] * line[margin + x + k * step]
                out[i, y, x] = value


@njit(parallel=True, nogil=True, cache=True)
def _resample_shared(images, matrix, few, out):  # type: ignore[no-untyped-def]
    """``images (h, w, lanes)`` through one matrix to ``out (H, W, lanes)``, `few_lanes` at a time."""
    height, width, lanes = images.shape
    for r in prange(out.shape[0]):
        weights = np.empty(16, images.dtype)
        places = np.empty(16, np.int64)
        for q in range(out.shape[1]):
            y = matrix[0, 0] * r + matrix[0, 1] * q + matrix[0, 2]
            x = matrix[1, 0] * r + matrix[1, 1] * q + matrix[1, 2]
            y0 = math.floor(y) - 1
            x0 = math.floor(x) - 1
            count = 0
            if y0 > -4 and x0 > -4 and y0 < height and x0 < width:
                weights_y = _four_weights(y - y0 - 1)
                weights_x = _four_weights(x - x0 - 1)
                for j in range(4):
                    for i in range(4):
                        if y0 + j >= 0 and y0 + j < height and x0 + i >= 0 and x0 + i < width:
                            weights[count] = weights_y[j] * weights_x[i]
                            places[count] = ((y0 + j) * width + x0 + i) * lanes
                            count += 1
            place = (r * out.shape[1] + q) * lanes
            for lane in range(0, lanes, len(few)):
                total = few_zeros(images, few)
                for k in range(count):
                    total = add_scaled(total, weights[k], images, places[k] + lane)
                store(out, place + lane, total)


@njit(inline="always")
def _reach(slope, intercept, low, high):  # type: ignore[no-untyped-def]
    """Shrink [low, high] to the integers q with |slope * q + intercept| < 2 (one to spare on either side)."""
    if abs(slope) < 1e-12:
        return (low, high) if abs(intercept) < 2.0 else (0, -1)
    a = (-2.0 - intercept) / slope
    b = (2.0 - intercept) / slope
    return max(low, math.floor(min(a, b))), min(high, math.ceil(max(a, b)))


@njit(parallel=True, nogil=True, cache=True)
def _resample_shared_adjoint(images, matrix, inverse, few, out):  # type: ignore[no-untyped-def]
    """Adjoint of `_resample_shared`: ``images (H, W, lanes)`` to ``out (h, w, lanes)``."""
    rows, columns, lanes = images.shape
    radius = 2.0 * (abs(inverse[0, 0]) + abs(inverse[0, 1]))
    most = int(2.0 * radius + 3.0) * int(4.0 * (abs(inverse[1, 0]) + abs(inverse[1, 1])) + 3.0)
    for y in prange(out.shape[0]):
        weights = np.empty(most, images.dtype)
        places = np.empty(most, np.int64)
        for x in range(out.shape[1]):
            middle = inverse[0, 0] * (y - matrix[0, 2]) + inverse[0, 1] * (x - matrix[1, 2])
            count = 0
            r_low = max(0, math.ceil(middle - radius))
            r_high = min(rows - 1, math.floor(middle + radius))
            for r in range(r_low, r_high + 1):
                shift_y = matrix[0, 0] * r + matrix[0, 2] - y
                shift_x = matrix[1, 0] * r + matrix[1, 2] - x
                low, high = _reach(matrix[0, 1], shift_y, 0, columns - 1)
                low, high = _reach(matrix[1, 1], shift_x, low, high)
                for q in range(low, high + 1):
                    weight = _spline(shift_y + matrix[0, 1] * q) * _spline(shift_x + matrix[1, 1] * q)
                    if weight != 0.0:
                        weights[count] = weight
                        places[count] = (r * columns + q) * lanes
                        count += 1
            place = (y * out.shape[1] + x) * lanes
            for lane in range(0, lanes, len(few)):
                total = few_zeros(images, few)
                for k in range(count):
                    total = add_scaled(total, weights[k], images, places[k] + lane)
                store(out, place + lane, total)


@njit(parallel=True, nogil=True, cache=True)
def _resample_each(images, matrices, out):  # type: ignore[no-untyped-def]
    """``images (n, h, w)``, each through its own matrix, to ``out (n, H, W)``."""
    count, rows, columns = out.shape
    height, width = images.shape[1:]
    for task in prange(count * rows):
        n = task // rows
        r = task % rows
        m = matrices[n]
        for q in range(columns):
            y = m[0, 0] * r + m[0, 1] * q + m[0, 2]
            x = m[1, 0] * r + m[1, 1] * q + m[1, 2]
            y0 = math.floor(y) - 1
            x0 = math.floor(x) - 1
            total = 0.0
            if y0 >= 0 and x0 >= 0 and y0 + 4 <= height and x0 + 4 <= width:
                wy = _four_weights(y - y0 - 1)
                wx = _four_weights(x - x0 - 1)
                for j in range(4):
                    row = images[n, y0 + j]
                    total += wy[j] * (
                        wx[0] * row[x0] + wx[1] * row[x0 + 1] + wx[2] * row[x0 + 2] + wx[3] * row[x0 + 3]
                    )
            elif y0 > -4 and x0 > -4 and y0 < height and x0 < width:
                for j in range(max(y0, 0), min(y0 + 4, height)):
                    for i in range(max(x0, 0), min(x0 + 4, width)):
                        total += _spline(y - j) * _spline(x - i) * images[n, j, i]
            out[n, r, q] = total


@njit(parallel=True, nogil=True, cache=True)
def _resample_each_adjoint(images, matrices, out):  # type: ignore[no-untyped-def]
    """Adjoint of `_resample_each`; one thread an image, so the order of the sums is fixed."""
    count, rows, columns = images.shape
    height, width = out.shape[1:]
    for n in prange(count):
        m = matrices[n]
        for r in range(rows):
            for q in range(columns):
                value = images[n, r, q]
                y = m[0, 0] * r + m[0, 1] * q + m[0, 2]
                x = m[1, 0] * r + m[1, 1] * q + m[1, 2]
                y0 = math.floor(y) - 1
                x0 = math.floor(x) - 1
                if y0 >= 0 and x0 >= 0 and y0 + 4 <= height and x0 + 4 <= width:
                    wy = _four_weights(y - y0 - 1)
                    wx = _four_weights(x - x0 - 1)
                    for j in range(4):
                        row = out[n, y0 + j]
                        part = value * wy[j]
                        for i in range(4):
                            row[x0 + i] += part * wx[i]
                    continue
                for j in range(max(y0, 0), min(y0 + 4, height)):
                    for i in range(max(x0, 0), min(x0 + 4, width)):
                        out[n, j, i] += value * _spline(y - j) * _spline(x - i)


def _stored_images_last(images: torch.Tensor) -> torch.Tensor | None:
    """``(n, h, w)`` as the ``(h, w, lanes)`` tensor behind it, if images lie side by side in whole lanes."""
    count, height, width = images.shape
    lanes = images.stride(2)
    if lanes < max(2, count) or lanes != lane_count(lanes) or images.stride() != (1, width * lanes, lanes):
        return None
    return images.as_strided((height, width, lanes), (width * lanes, lanes, 1))


def side_by_side_room(images: torch.Tensor) -> torch.Tensor:
    """Room ``(h, w, lanes)`` for images ``(n, h, w)`` side by side; lanes that none takes are zero."""
    count, height, width = images.shape
    shape = (height, width, lane_count(count))
    room = torch.from_numpy(aligned_empty(shape, images.detach().numpy().dtype))
    room[..., count:] = 0.0
    return room


def side_by_side(images: torch.Tensor) -> torch.Tensor:
    """``(n, h, w)`` as a contiguous ``(h, w, lanes)`` tensor, lanes being n or more; no copy if it is so."""
    images = images.detach()
    stored = _stored_images_last(images)
    if stored is None:
        count = len(images)
        stored = side_by_side_room(images)
        stored[..., :count] = images.permute(1, 2, 0)
    return stored


def _matrices(matrices: torch.Tensor) -> NDArray[np.float64]:
    return np.ascontiguousarray(matrices.detach().cpu().numpy().astype(np.float64))


def spline_prefilter(images: torch.Tensor) -> torch.Tensor:
    """Spline coefficients of ``images (n, h, w)``, stored the same way; zero outside, self-adjoint."""
    taps = prefilter_taps().astype(images.detach().numpy().dtype)
    stored = _stored_images_last(images.detach())
    if stored is not None:
        flat = stored.reshape(1, stored.shape[0], -1).numpy()
        out = aligned_empty(flat.shape, flat.dtype)
        _convolve(flat, taps, stored.shape[2], out)
        return torch.from_numpy(out).reshape(stored.shape).permute(2, 0, 1)[: images.shape[0]]
    flat = images.detach().contiguous().numpy()
    out = aligned_empty(flat.shape, flat.dtype)
    _convolve(flat, taps, 1, out)
    return torch.from_numpy(out)


def resample_spline(
    coefficients: torch.Tensor, matrices: torch.Tensor, out_shape: tuple[int, int]
) -> torch.Tensor:
    """Read spline coefficients at affinely mapped places.

    Parameters
    ----------
    coefficients
        ``(n, h, w)`` from `spline_prefilter`; zero outside.
    matrices
        ``(n, 2, 3)``, or ``(1, 2, 3)`` for one map shared by all: output pixel ``(r, q)`` reads the input at
        ``(row, column) = matrix @ (r, q, 1)``.
    out_shape
        ``(H, W)`` of the result.

    Returns
    -------
    torch.Tensor
        ``(n, H, W)``; with a shared map its images lie side by side in memory (a permuted ``(H, W, n)``).
    """
    maps = _matrices(matrices)
    count = coefficients.shape[0]
    if len(maps) == 1 and count > 1:
        images = side_by_side(coefficients).numpy()
        out = aligned_empty((*out_shape, images.shape[2]), images.dtype)
        _resample_shared(images, maps[0], few_lanes(images.shape[2]), out)
        return torch.from_numpy(out).permute(2, 0, 1)[:count]
    images = coefficients.detach().contiguous().numpy()
    out = np.empty((count, *out_shape), images.dtype)
    _resample_each(images, maps, out)
    return torch.from_numpy(out)


def resample_spline_adjoint(
    images: torch.Tensor, matrices: torch.Tensor, in_shape: tuple[int, int]
) -> torch.Tensor:
    """Exact adjoint of `resample_spline`: ``images (n, H, W)`` to coefficients ``(n, h, w)``."""
    maps = _matrices(matrices)
    count = images.shape[0]
    if len(maps) == 1 and count > 1:
        source = side_by_side(images).numpy()
        out = aligned_empty((*in_shape, source.shape[2]), source.dtype)
        inverse = np.linalg.inv(maps[0, :, :2])
        _resample_shared_adjoint(source, maps[0], inverse, few_lanes(source.shape[2]), out)
        return torch.from_numpy(out).permute(2, 0, 1)[:count]
    source = images.detach().contiguous().numpy()
    out = np.zeros((count, *in_shape), source.dtype)
    _resample_each_adjoint(source, maps, out)
    return torch.from_numpy(out)
