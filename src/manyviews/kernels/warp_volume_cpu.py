"""Reading a volume at moved places, the exact transpose of it, and its slopes there, on the CPU.

``(W_w u)(X) = u(X + w(X))``: a volume ``(z, y, x)``, a displacement ``(3, z, y, x)`` in voxels along z, y and
x. A place outside the volume reads its edge, and an undefined one (NaN) the first voxel of the line. Between
voxels volumes are trilinear (``order`` 1) or tricubic (``order`` 3: Keys, IEEE Trans. Acoust. 29 (1981) 1153,
with a = -1/2, which is exact for quadratic volumes).

The transpose adds each value with the same weights to the same voxels. A volume is one thread's, so the
number of threads changes no bit. It is worked on with a border of copies of its edge, one voxel before and
two behind, so that no place is special.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from manyviews.kernels.warp_cpu import BORDER, ORDERS

__all__ = ["pull_volume", "push_volume", "read_slopes"]

Real = NDArray[np.floating[Any]]

# No "nnan" and "ninf": an infinite or undefined place must compare as outside the volume.
_FAST = {"contract", "reassoc", "nsz", "arcp", "afn"}


@njit(fastmath=_FAST, nogil=True, cache=True, inline="always")
def _place(at, moved, last):  # type: ignore[no-untyped-def]
    """The voxel before a place, how far beyond it, and whether the place is within the volume."""
    zero = last * 0
    p = at + moved
    inside = p > zero and p < last
    p = p if p > zero else zero
    p = p if p < last else last
    whole = np.int32(p)
    return np.int64(whole), p - np.float32(whole), inside


@njit(fastmath=_FAST, nogil=True, cache=True, inline="always")
def _weights(t, order, w):  # type: ignore[no-untyped-def]
    """Of the four voxels about a place ``t`` behind the second."""
    half, one, more, two = w.dtype.type(0.5), w.dtype.type(1), w.dtype.type(1.5), w.dtype.type(2)
    if order == 1:
        w[0], w[1], w[2], w[3] = 0, one - t, t, 0
    else:
        far = half * t * (one - t)
        w[0] = -far * (one - t)
        w[1] = (one - t) * (one + t - more * t * t)
        w[2] = t * (half + two * t - more * t * t)
        w[3] = -far * t


@njit(fastmath=_FAST, nogil=True, cache=True, inline="always")
def _slopes(t, order, inside, w):  # type: ignore[no-untyped-def]
    """Derivatives of `_weights` by t; zero where the edge is read."""
    one, half, three = w.dtype.type(1), w.dtype.type(0.5), w.dtype.type(3)
    steep, eight = w.dtype.type(4.5), w.dtype.type(4)
    if not inside:
        w[0], w[1], w[2], w[3] = 0, 0, 0, 0
    elif order == 1:
        w[0], w[1], w[2], w[3] = 0, -one, one, 0
    else:
        w[0] = -half * (one - t) * (one - three * t)
        w[1] = t * (steep * t - three - one - one)
        w[2] = half + t * (eight - steep * t)
        w[3] = half * t * (three * t - one - one)


@njit(fastmath=_FAST, nogil=True, cache=True, inline="always")
def _read(flat, at, row, plane, first, last, wz, wy, wx):  # type: ignore[no-untyped-def]
    """The sum of the voxels about a place, each times its weights."""
    s0, s1, s2, s3 = flat.dtype.type(0), flat.dtype.type(0), flat.dtype.type(0), flat.dtype.type(0)
    for k in range(first, last):
        for j in range(first, last):
            a = np.uint64(at + k * plane + j * row)
            w = wz[k] * wy[j]
            s0 += w * flat[a]
            s1 += w * flat[a + np.uint64(1)]
            s2 += w * flat[a + np.uint64(2)]
            s3 += w * flat[a + np.uint64(3)]
    return (s0 * wx[0] + s1 * wx[1]) + (s2 * wx[2] + s3 * wx[3])


@njit(fastmath=_FAST, nogil=True, cache=True)
def _pull(padded, displacement, order, out):  # type: ignore[no-untyped-def]
    depth, rows, columns = out.shape
    flat = padded.reshape(padded.size)
    row = columns + BORDER
    plane = row * (rows + BORDER)
    real = flat.dtype.type
    wz, wy, wx = np.empty(4, flat.dtype), np.empty(4, flat.dtype), np.empty(4, flat.dtype)
    bottom, front, right = real(depth - 1), real(rows - 1), real(columns - 1)
    first, last = (1, 3) if order == 1 else (0, 4)
    for z in range(depth):
        for y in range(rows):
            for x in range(columns):
                iz, tz, _ = _place(real(z), displacement[0, z, y, x], bottom)
                iy, ty, _ = _place(real(y), displacement[1, z, y, x], front)
                ix, tx, _ = _place(real(x), displacement[2, z, y, x], right)
                _weights(tz, order, wz)
                _weights(ty, order, wy)
                _weights(tx, order, wx)
                at = iz * plane + iy * row + ix
                out[z, y, x] = _read(flat, at, row, plane, first, last, wz, wy, wx)


@njit(fastmath=_FAST, nogil=True, cache=True)
def _push(values, displacement, order, padded):  # type: ignore[no-untyped-def]
    depth, rows, columns = values.shape
    flat = padded.reshape(padded.size)
    row = columns + BORDER
    plane = row * (rows + BORDER)
    real = flat.dtype.type
    wz, wy, wx = np.empty(4, flat.dtype), np.empty(4, flat.dtype), np.empty(4, flat.dtype)
    bottom, front, right = real(depth - 1), real(rows - 1), real(columns - 1)
    first, last = (1, 3) if order == 1 else (0, 4)
    for z in range(depth):
        for y in range(rows):
            for x in range(columns):
                iz, tz, _ = _place(real(z), displacement[0, z, y, x], bottom)
                iy, ty, _ = _place(real(y), displacement[1, z, y, x], front)
                ix, tx, _ = _place(real(x), displacement[2, z, y, x], right)
                _weights(tz, order, wz)
                _weights(ty, order, wy)
                _weights(tx, order, wx)
                at = iz * plane + iy * row + ix
                v0, v1, v2, v3 = (
                    values[z, y, x] * wx[0], values[z, y, x] * wx[1],
                    values[z, y, x] * wx[2], values[z, y, x] * wx[3],
                )  # fmt: skip
                for k in range(first, last):
                    for j in range(first, last):
                        a = np.uint64(at + k * plane + j * row)
                        w = wz[k] * wy[j]
                        flat[a] += w * v0
                        flat[a + np.uint64(1)] += w * v1
                        flat[a + np.uint64(2)] += w * v2
                        flat[a + np.uint64(3)] += w * v3


@njit(fastmath=_FAST, nogil=True, cache=True)
def _read_slopes(padded, displacement, order, out):  # type: ignore[no-untyped-def]
    depth, rows, columns = out.shape[1:]
    flat = padded.reshape(padded.size)
    row = columns + BORDER
    plane = row * (rows + BORDER)
    real = flat.dtype.type
    wz, wy, wx = np.empty(4, flat.dtype), np.empty(4, flat.dtype), np.empty(4, flat.dtype)
    sz, sy, sx = np.empty(4, flat.dtype), np.empty(4, flat.dtype), np.empty(4, flat.dtype)
    bottom, front, right = real(depth - 1), real(rows - 1), real(columns - 1)
    first, last = (1, 3) if order == 1 else (0, 4)
    for z in range(depth):
        for y in range(rows):
            for x in range(columns):
                iz, tz, in_z = _place(real(z), displacement[0, z, y, x], bottom)
                iy, ty, in_y = _place(real(y), displacement[1, z, y, x], front)
                ix, tx, in_x = _place(real(x), displacement[2, z, y, x], right)
                _weights(tz, order, wz)
                _weights(ty, order, wy)
                _weights(tx, order, wx)
                _slopes(tz, order, in_z, sz)
                _slopes(ty, order, in_y, sy)
                _slopes(tx, order, in_x, sx)
                at = iz * plane + iy * row + ix
                out[0, z, y, x] = _read(flat, at, row, plane, first, last, sz, wy, wx)
                out[1, z, y, x] = _read(flat, at, row, plane, first, last, wz, sy, wx)
                out[2, z, y, x] = _read(flat, at, row, plane, first, last, wz, wy, sx)


def pull_volume(volume: Real, displacement: Real, order: int = 3, out: Real | None = None) -> Real:
    """A volume ``(z, y, x)`` read at places moved by ``displacement (3, z, y, x)``.

    Weights are computed in the precision of the volume. ``out`` is for the result; None: a new array.
    `ValueError` if shapes do not belong together, or for an order that is neither 1 nor 3.
    """
    own = _checked(volume, displacement, order)
    result = np.empty(volume.shape, volume.dtype) if out is None else out
    _pull(_padded(volume), own, order, result)
    return result


def push_volume(values: Real, displacement: Real, order: int = 3, out: Real | None = None) -> Real:
    """The exact transpose of `pull_volume`: what is in each voxel moves by the displacement."""
    own = _checked(values, displacement, order)
    result = np.empty(values.shape, values.dtype) if out is None else out
    padded = np.zeros([side + BORDER for side in values.shape], values.dtype)
    _push(np.ascontiguousarray(values), own, order, padded)
    for axis in range(3):  # the transpose of copying the edge
        lines = np.moveaxis(padded, axis, 0)
        lines[1] += lines[0]
        lines[-3] += lines[-2] + lines[-1]
    result[...] = padded[1:-2, 1:-2, 1:-2]
    return result


def read_slopes(volume: Real, displacement: Real, order: int = 3, out: Real | None = None) -> Real:
    """``(3, z, y, x)`` the derivatives of `pull_volume` by the displacement of the same voxel.

    They are those of the interpolation itself, so zero where the edge is read; errors as of `pull_volume`.
    """
    own = _checked(volume, displacement, order)
    result = np.empty(displacement.shape, volume.dtype) if out is None else out
    _read_slopes(_padded(volume), own, order, result)
    return result


def _padded(volume: Real) -> Real:
    return np.pad(volume, (1, 2), mode="edge")


def _checked(volume: Real, displacement: Real, order: int) -> Real:
    if volume.ndim != 3 or displacement.shape != (3, *volume.shape):
        raise ValueError(
            f"a displacement of shape {displacement.shape} is not that of a volume of shape {volume.shape}"
        )
    if order not in ORDERS:
        raise ValueError(f"no interpolation of order {order}: 1 or 3")
    return np.ascontiguousarray(displacement, dtype=volume.dtype)
