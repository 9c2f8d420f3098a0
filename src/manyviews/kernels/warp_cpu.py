"""Reading images at moved places, and the exact transpose of it, on the CPU.

``(D_f p)(z, x) = p(z + f_z, x + f_x)``: images ``(n, z, x)``, flow ``(n, 2, z, x)`` in pixels, along x
(columns) first, then along z (rows). A place outside an image reads its edge; an undefined one (NaN) reads
the first pixel of the line. Between pixels images are bilinear (``order`` 1) or bicubic (``order`` 3: Keys,
IEEE Trans. Acoust. 29 (1981) 1153, with a = -1/2, which is exact for quadratic images).

The transpose adds each value with the same weights to the same pixels. Images are in parallel, each is one
thread's, so the number of threads changes no bit.

An image is worked on with a border of copies of its edge, one pixel before and two behind, so that no place
is special; the transpose adds the border back onto the edge. Rows go in blocks of `BLOCK` pixels and passes:
places and weights, which the compiler makes SIMD of, then pixels one by one: four loads, or four vectors of
four.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from manyviews.kernels.inner import inner
from manyviews.kernels.slice_cells import BLOCK, SCRATCH, mix_rows, spread_quad
from manyviews.parallel.threads import each_in_threads

__all__ = [
    "BORDER",
    "ORDERS",
    "pad_image",
    "pull_back",
    "pull_padded",
    "push_forward",
    "push_padded",
    "work_arrays",
]

Real = NDArray[np.floating[Any]]

ORDERS = (1, 3)
"""Orders of interpolation: linear, cubic."""
BORDER = 3
"""Pixels that the bordered image has more than the image, in each direction."""
# No "nnan" and "ninf": an infinite or undefined place must compare as outside the image.
_FAST = {"contract", "reassoc", "nsz", "arcp", "afn"}
_QUAD = 7 * BLOCK  # where `mix_rows` leaves the sums of rows
# Neighbours add to the same pixels: one right after the other would have to wait for it.
_STRIDE = 4
_TX, _TZ = 4 * BLOCK, 5 * BLOCK  # where fractions wait


@njit(fastmath=_FAST, nogil=True, cache=True)
def pad_image(image, padded):  # type: ignore[no-untyped-def]
    """Copy an image ``(z, x)`` into ``padded (z + 3, x + 3)``, the border filled with its edge."""
    rows, columns = image.shape
    for z in range(rows + BORDER):
        source = min(max(z - 1, 0), rows - 1)
        for x in range(columns):
            padded[z, x + 1] = image[source, x]
        padded[z, 0] = image[source, 0]
        padded[z, columns + 1] = image[source, columns - 1]
        padded[z, columns + 2] = image[source, columns - 1]


@inner(fastmath=_FAST, nogil=True, cache=True)
def _fold_border(padded, image):  # type: ignore[no-untyped-def]
    """The transpose of `pad_image`."""
    rows, columns = image.shape
    for z in range(rows + BORDER):
        padded[z, 1] += padded[z, 0]
        padded[z, columns] += padded[z, columns + 1] + padded[z, columns + 2]
    for z in range(rows):
        for x in range(columns):
            image[z, x] = padded[z + 1, x + 1]
    for x in range(columns):
        image[0, x] += padded[0, x + 1]
        image[rows - 1, x] += padded[rows + 1, x + 1] + padded[rows + 2, x + 1]


@inner(fastmath=_FAST, nogil=True, cache=True)
def _places(shift_x, shift_z, z, first, count, rows, columns, cells, scratch):  # type: ignore[no-untyped-def]
    """Of a block: pixel up and to the left, in the bordered image, and how far beyond it, from 0 to 1."""
    zero, right, bottom = scratch.dtype.type(0), scratch.dtype.type(columns - 1), scratch.dtype.type(rows - 1)
    for k in range(count):
        px = scratch.dtype.type(first + k) + scratch.dtype.type(shift_x[first + k])
        pz = scratch.dtype.type(z) + scratch.dtype.type(shift_z[first + k])
        px = px if px > zero else zero
        pz = pz if pz > zero else zero
        px = px if px < right else right
        pz = pz if pz < bottom else bottom
        ix, iz = np.int32(px), np.int32(pz)
        cells[k] = (np.int64(iz) + 1) * (columns + BORDER) + ix + 1
        scratch[_TX + k] = px - scratch.dtype.type(ix)
        scratch[_TZ + k] = pz - scratch.dtype.type(iz)


@inner(fastmath=_FAST, nogil=True, cache=True)
def _cubic_weights(fractions, count, weights):  # type: ignore[no-untyped-def]
    """Weights of the four pixels about each place, `BLOCK` apart."""
    half, one = weights.dtype.type(0.5), weights.dtype.type(1)
    more, two = weights.dtype.type(1.5), weights.dtype.type(2)
    for k in range(count):
        t = fractions[k]
        far = half * t * (one - t)
        weights[k] = -far * (one - t)
        weights[BLOCK + k] = (one - t) * (one + t - more * t * t)
        weights[2 * BLOCK + k] = t * (half + two * t - more * t * t)
        weights[3 * BLOCK + k] = -far * t


@inner(fastmath=_FAST, nogil=True, cache=True)
def _read_linear(flat, cells, scratch, first, count, row, out):  # type: ignore[no-untyped-def]
    for k in range(count):
        at = np.uint64(cells[k])
        below = np.uint64(cells[k] + row)
        tx, tz = scratch[_TX + k], scratch[_TZ + k]
        upper = flat[at] + tx * (flat[at + np.uint64(1)] - flat[at])
        lower = flat[below] + tx * (flat[below + np.uint64(1)] - flat[below])
        out[first + k] = upper + tz * (lower - upper)


@inner(fastmath=_FAST, nogil=True, cache=True)
def _add_linear(flat, cells, scratch, first, count, row, values):  # type: ignore[no-untyped-def]
    for start in range(_STRIDE):
        for k in range(start, count, _STRIDE):
            at = np.uint64(cells[k])
            below = np.uint64(cells[k] + row)
            tx, tz = scratch[_TX + k], scratch[_TZ + k]
            lower = values[first + k] * tz
            upper = values[first + k] - lower
            flat[at] += upper - upper * tx
            flat[at + np.uint64(1)] += upper * tx
            flat[below] += lower - lower * tx
            flat[below + np.uint64(1)] += lower * tx


@inner(fastmath=_FAST, nogil=True, cache=True)
def _read_cubic(flat, cells, scratch, across, first, count, row, out):  # type: ignore[no-untyped-def]
    for k in range(count):
        mix_rows(flat, cells[k] - row - 1, row, 2 * row, scratch, k)
    for k in range(count):
        at = _QUAD + 4 * k
        out[first + k] = (
            scratch[at] * across[k] + scratch[at + 1] * across[BLOCK + k]
            + scratch[at + 2] * across[2 * BLOCK + k] + scratch[at + 3] * across[3 * BLOCK + k]
        )  # fmt: skip


@inner(fastmath=_FAST, nogil=True, cache=True)
def _add_cubic(flat, cells, scratch, across, first, count, row, values):  # type: ignore[no-untyped-def]
    for k in range(count):
        at = _QUAD + 4 * k
        for i in range(4):
            scratch[at + i] = values[first + k] * across[i * BLOCK + k]
    for start in range(_STRIDE):
        for k in range(start, count, _STRIDE):
            spread_quad(flat, cells[k] - row - 1, row, 2 * row, scratch, k, _QUAD + 4 * k)


@njit(nogil=True, cache=True)
def work_arrays(image):  # type: ignore[no-untyped-def]
    """What `pull_padded` and `push_padded` work in: cells, fractions and rows, columns."""
    scratch = np.zeros(SCRATCH, image.dtype)
    return np.zeros(BLOCK, np.int64), scratch, np.zeros(4 * BLOCK, image.dtype)


@inner(nogil=True, cache=True)
def pull_padded(padded, flow, order, work, out):  # type: ignore[no-untyped-def]
    """A bordered image read at places moved by ``flow (2, z, x)``, into ``out (z, x)``."""
    rows, columns = out.shape
    cells, scratch, across = work
    flat = padded.reshape(padded.size)
    row = columns + BORDER
    for z in range(rows):
        for first in range(0, columns, BLOCK):
            count = min(BLOCK, columns - first)
            _places(flow[0, z], flow[1, z], z, first, count, rows, columns, cells, scratch)
            if order == 1:
                _read_linear(flat, cells, scratch, first, count, row, out[z])
            else:
                _cubic_weights(scratch[_TZ : _TZ + BLOCK], count, scratch)
                _cubic_weights(scratch[_TX : _TX + BLOCK], count, across)
                _read_cubic(flat, cells, scratch, across, first, count, row, out[z])


@inner(nogil=True, cache=True)
def push_padded(values, flow, order, work, padded, out):  # type: ignore[no-untyped-def]
    """The transpose of `pad_image` and `pull_padded`; ``padded`` is work space, ``out`` is overwritten."""
    rows, columns = values.shape
    cells, scratch, across = work
    flat = padded.reshape(padded.size)
    flat[:] = 0
    row = columns + BORDER
    for z in range(rows):
        for first in range(0, columns, BLOCK):
            count = min(BLOCK, columns - first)
            _places(flow[0, z], flow[1, z], z, first, count, rows, columns, cells, scratch)
            if order == 1:
                _add_linear(flat, cells, scratch, first, count, row, values[z])
            else:
                _cubic_weights(scratch[_TZ : _TZ + BLOCK], count, scratch)
                _cubic_weights(scratch[_TX : _TX + BLOCK], count, across)
                _add_cubic(flat, cells, scratch, across, first, count, row, values[z])
    _fold_border(padded, out)


@njit(nogil=True, cache=True)
def _warp_one(image, flow, order, transposed, out):  # type: ignore[no-untyped-def]
    work = work_arrays(image)
    padded = np.empty((image.shape[0] + BORDER, image.shape[1] + BORDER), image.dtype)
    if transposed:
        push_padded(image, flow, order, work, padded, out)
    else:
        pad_image(image, padded)
        pull_padded(padded, flow, order, work, out)


def pull_back(images: Real, flow: Real, order: int = 3, out: Real | None = None) -> Real:
    """Images ``(n, z, x)`` read at places moved by ``flow (n, 2, z, x)``: ``(n, z, x)``.

    Weights are computed in the precision of the images. ``out`` is for the result; None: a new array.
    `ValueError` if shapes do not belong together, or for an order that is not in `ORDERS`.
    """
    return _checked(images, flow, order, False, out)


def push_forward(images: Real, flow: Real, order: int = 3, out: Real | None = None) -> Real:
    """The exact transpose of `pull_back`: the mass of every pixel moves by the flow, none is lost."""
    return _checked(images, flow, order, True, out)


def _checked(images: Real, flow: Real, order: int, transposed: bool, out: Real | None) -> Real:
    if images.ndim != 3 or flow.shape != (len(images), 2, *images.shape[1:]):
        raise ValueError(f"a flow of shape {flow.shape} is not that of images of shape {images.shape}")
    if order not in ORDERS:
        raise ValueError(f"no interpolation of order {order}: 1 or 3")
    result = np.empty_like(images, order="C") if out is None else out
    if result.shape != images.shape or result.dtype != images.dtype:
        raise ValueError("the array for the result is not like the images")
    own = np.ascontiguousarray(flow, dtype=images.dtype)  # one kind of both: fewer kernels to compile
    given = np.ascontiguousarray(images)
    each_in_threads(lambda n: _warp_one(given[n], own[n], order, transposed, result[n]), len(given))
    return result
