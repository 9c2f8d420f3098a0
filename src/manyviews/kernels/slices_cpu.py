"""Reading slices of a volume's Fourier transform, and adding slices to it, on the CPU.

The transform of a real volume is kept on a half grid ``(2h + 1, 2h + 1, h + 2)`` with axes (z, y, x), x from
0: frequency ``(qx, qy, qz)`` in grid units lies at ``[h + qz, h + qy, qx]``, and ``qx < 0`` is read as the
conjugate at ``-q``. Points between are trilinear; points that miss the grid read zero and add nothing.

A slice is worked through in blocks of `BLOCK` points and three passes: `_place` finds cells and weights (the
compiler makes SIMD of it), then each point loads its four rows of two complex neighbours as four-element
vectors (which the compiler does not find by itself), then `_blend` mixes the two neighbours. What remains is
the four or five cache lines a point touches. Kernels that take one slice at a time call `read_slice` or
`read_point`.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from manyviews.kernels.inner import inner
from manyviews.kernels.slice_cells import BLOCK, SCRATCH, mix_rows, spread_pair, spread_quad

__all__ = [
    "BLOCK",
    "SCRATCH",
    "add_slice",
    "add_weighted_slice",
    "add_weights",
    "float_view",
    "gather_slices",
    "read_point",
    "read_slice",
    "splat_slices",
    "splat_weighted",
    "splat_weights",
    "split_points",
]

Complex = NDArray[np.complexfloating[Any, Any]]
Real = NDArray[np.floating[Any]]
# No "nnan" and "ninf": an infinite or undefined place must compare as outside the grid.
_FAST = {"contract", "reassoc", "nsz", "arcp", "afn"}
_PRIVATE_BYTES = 2**30


@inner(fastmath=_FAST, cache=True)
def _place(scratch, cells, kx, ky, first, rotation, padding, half):  # type: ignore[no-untyped-def]
    """Cells (flat, in complex elements) and weights of `BLOCK` points; weights along x are 0 outside.

    Scratch, each `BLOCK` long: four row weights, weight at x and x + 1, sign of the imaginary part.
    """
    one = scratch.dtype.type(1.0)
    zero = scratch.dtype.type(0.0)
    scale = scratch.dtype.type(padding)
    reach = scratch.dtype.type(half)
    top = scratch.dtype.type(2 * half)
    width = np.int64(2 * half + 1)
    columns = np.int64(half + 2)
    ax, ay, az = rotation[0, 0] * scale, rotation[0, 1] * scale, rotation[0, 2] * scale
    bx, by, bz = rotation[1, 0] * scale, rotation[1, 1] * scale, rotation[1, 2] * scale
    for k in range(BLOCK):
        u = kx[first + k]
        v = ky[first + k]
        qx = u * ax + v * bx
        sign = one if qx >= zero else -one
        # shifted by h, so that rounding towards zero is rounding down
        qx = qx * sign
        qy = (u * ay + v * by) * sign + reach
        qz = (u * az + v * bz) * sign + reach
        inside = (qx < reach + one) & (qy >= zero) & (qy < top) & (qz >= zero) & (qz < top)
        qx = qx if inside else zero
        qy = qy if inside else zero
        qz = qz if inside else zero
        x = np.int32(qx)
        y = np.int32(qy)
        z = np.int32(qz)
        cells[k] = (np.int64(z) * width + y) * columns + x
        shown = one if inside else zero
        x1 = (qx - scratch.dtype.type(x)) * shown
        y1 = qy - scratch.dtype.type(y)
        z1 = qz - scratch.dtype.type(z)
        y0 = one - y1
        z0 = one - z1
        scratch[k] = z0 * y0
        scratch[BLOCK + k] = z0 * y1
        scratch[2 * BLOCK + k] = z1 * y0
        scratch[3 * BLOCK + k] = z1 * y1
        scratch[4 * BLOCK + k] = shown - x1
        scratch[5 * BLOCK + k] = x1
        scratch[6 * BLOCK + k] = sign


@inner(fastmath=_FAST, cache=True)
def _blend(scratch, out, first, count):  # type: ignore[no-untyped-def]
    """Mix the neighbours along x of every quad into ``out``, real and imaginary part in turn."""
    for k in range(count):
        x0 = scratch[4 * BLOCK + k]
        x1 = scratch[5 * BLOCK + k]
        quad = 7 * BLOCK + 4 * k
        out[2 * (first + k)] = x0 * scratch[quad] + x1 * scratch[quad + 2]
        out[2 * (first + k) + 1] = scratch[6 * BLOCK + k] * (x0 * scratch[quad + 1] + x1 * scratch[quad + 3])


@inner(fastmath=_FAST, cache=True)
def _unblend(scratch, values, first, count):  # type: ignore[no-untyped-def]
    """Make quads of values: transpose of `_blend`."""
    for k in range(count):
        x0 = scratch[4 * BLOCK + k]
        x1 = scratch[5 * BLOCK + k]
        real = values[2 * (first + k)]
        imaginary = values[2 * (first + k) + 1] * scratch[6 * BLOCK + k]
        quad = 7 * BLOCK + 4 * k
        scratch[quad] = x0 * real
        scratch[quad + 1] = x0 * imaginary
        scratch[quad + 2] = x1 * real
        scratch[quad + 3] = x1 * imaginary


@njit(inline="always")
def read_point(grid, qx, qy, qz):  # type: ignore[no-untyped-def]
    """Value of a complex half grid at a point in grid units; for use inside other Numba kernels."""
    half = grid.shape[0] // 2
    sign = 1.0 if qx >= 0 else -1.0
    x = qx * sign
    y = qy * sign + half
    z = qz * sign + half
    if not (x < half + 1 and y >= 0 and y < 2 * half and z >= 0 and z < 2 * half):
        return grid.dtype.type(0.0)
    i, j, k = int(x), int(y), int(z)
    x, y, z = x - i, y - j, z - k
    low = (1 - y) * ((1 - x) * grid[k, j, i] + x * grid[k, j, i + 1])
    low += y * ((1 - x) * grid[k, j + 1, i] + x * grid[k, j + 1, i + 1])
    high = (1 - y) * ((1 - x) * grid[k + 1, j, i] + x * grid[k + 1, j, i + 1])
    high += y * ((1 - x) * grid[k + 1, j + 1, i] + x * grid[k + 1, j + 1, i + 1])
    value = (1 - z) * low + z * high
    return grid.dtype.type(complex(value.real, sign * value.imag))


@inner(fastmath=_FAST, cache=True)
def read_slice(floats, rotation, kx, ky, count, padding, scratch, cells, out):  # type: ignore[no-untyped-def]
    """Read one slice; not parallel, for use inside other Numba kernels.

    Parameters
    ----------
    floats
        ``(2h + 1, 2h + 1, 2(h + 2))``: the half grid's real and imaginary parts in turn.
    rotation
        ``(3, 3)``, rows the image's axes; dtype of ``floats``, as all arrays below.
    kx, ky
        Image frequencies with room for a whole last block (`split_points`); the first ``count`` are read.
    scratch, cells
        Work space: `SCRATCH` elements, and `BLOCK` of int64.
    out
        ``(2 * count,)`` real and imaginary parts in turn.
    """
    half = floats.shape[0] // 2
    row = floats.shape[2]
    plane = floats.shape[1] * row
    flat = floats.reshape(floats.size)
    for first in range(0, count, BLOCK):
        block = min(BLOCK, count - first)
        _place(scratch, cells, kx, ky, first, rotation, padding, half)
        for k in range(block):
            mix_rows(flat, 2 * cells[k], row, plane, scratch, k)
        _blend(scratch, out, first, block)


@inner(fastmath=_FAST, cache=True)
def add_slice(floats, rotation, kx, ky, count, padding, scratch, cells, values):  # type: ignore[no-untyped-def]
    """Transpose of `read_slice`, same arguments: add ``values`` to the grid."""
    half = floats.shape[0] // 2
    row = floats.shape[2]
    plane = floats.shape[1] * row
    flat = floats.reshape(floats.size)
    for first in range(0, count, BLOCK):
        block = min(BLOCK, count - first)
        _place(scratch, cells, kx, ky, first, rotation, padding, half)
        _unblend(scratch, values, first, block)
        for k in range(block):
            spread_quad(flat, 2 * cells[k], row, plane, scratch, k, 7 * BLOCK + 4 * k)


@inner(fastmath=_FAST, cache=True)
def add_weighted_slice(  # type: ignore[no-untyped-def]
    floats, denominator, rotation, kx, ky, count, padding, scratch, cells, values, weights
):
    """`add_slice` of ``values``, and of real ``weights (count,)`` to a real grid, in one go."""
    half = floats.shape[0] // 2
    row = floats.shape[2]
    plane = floats.shape[1] * row
    flat = floats.reshape(floats.size)
    flat_weights = denominator.reshape(denominator.size)
    for first in range(0, count, BLOCK):
        block = min(BLOCK, count - first)
        _place(scratch, cells, kx, ky, first, rotation, padding, half)
        _unblend(scratch, values, first, block)
        for k in range(block):
            spread_quad(flat, 2 * cells[k], row, plane, scratch, k, 7 * BLOCK + 4 * k)
        for k in range(block):
            scratch[7 * BLOCK + 2 * k] = scratch[4 * BLOCK + k] * weights[first + k]
            scratch[7 * BLOCK + 2 * k + 1] = scratch[5 * BLOCK + k] * weights[first + k]
        for k in range(block):
            spread_pair(flat_weights, cells[k], row // 2, plane // 2, scratch, k, 7 * BLOCK + 2 * k)


@inner(fastmath=_FAST, cache=True)
def add_weights(grid, rotation, kx, ky, count, padding, scratch, cells, weights, squared):  # type: ignore[no-untyped-def]
    """Add real ``weights (count,)`` to a real grid by their trilinear shares, or by the squares of these."""
    half = grid.shape[0] // 2
    row = grid.shape[2]
    plane = grid.shape[1] * row
    flat = grid.reshape(grid.size)
    for first in range(0, count, BLOCK):
        block = min(BLOCK, count - first)
        _place(scratch, cells, kx, ky, first, rotation, padding, half)
        if squared:
            # a share is one of z and y times one of x, so its square is the product of their squares
            for k in range(6 * BLOCK):
                scratch[k] *= scratch[k]
        for k in range(block):
            scratch[7 * BLOCK + 2 * k] = scratch[4 * BLOCK + k] * weights[first + k]
            scratch[7 * BLOCK + 2 * k + 1] = scratch[5 * BLOCK + k] * weights[first + k]
        for k in range(block):
            spread_pair(flat, cells[k], row, plane, scratch, k, 7 * BLOCK + 2 * k)


@njit(parallel=True, nogil=True, fastmath=_FAST, cache=True)
def _gather(floats, rotations, kx, ky, count, padding, out):  # type: ignore[no-untyped-def]
    for m in prange(len(rotations)):
        scratch = np.empty(SCRATCH, floats.dtype)
        cells = np.empty(BLOCK, np.int64)
        read_slice(floats, rotations[m], kx, ky, count, padding, scratch, cells, out[m])


@njit(parallel=True, nogil=True, fastmath=_FAST, cache=True)
def _splat(floats, copies, rotations, kx, ky, count, padding, values):  # type: ignore[no-untyped-def]
    """Part 0 of the rotations goes into the grid itself, each other part into its own copy."""
    parts = len(copies) + 1
    for part in prange(parts):
        grid = floats if part == 0 else copies[part - 1]
        scratch = np.empty(SCRATCH, floats.dtype)
        cells = np.empty(BLOCK, np.int64)
        for m in range(part * len(rotations) // parts, (part + 1) * len(rotations) // parts):
            add_slice(grid, rotations[m], kx, ky, count, padding, scratch, cells, values[m])


@njit(parallel=True, nogil=True, fastmath=_FAST, cache=True)
def _splat_weighted(  # type: ignore[no-untyped-def]
    floats, copies, denominator, weight_copies, rotations, kx, ky, count, padding, values, weights
):
    parts = len(copies) + 1
    for part in prange(parts):
        grid = floats if part == 0 else copies[part - 1]
        weight_grid = denominator if part == 0 else weight_copies[part - 1]
        scratch = np.empty(SCRATCH, floats.dtype)
        cells = np.empty(BLOCK, np.int64)
        for m in range(part * len(rotations) // parts, (part + 1) * len(rotations) // parts):
            add_weighted_slice(
                grid, weight_grid, rotations[m], kx, ky, count, padding, scratch, cells, values[m], weights[m]
            )


@njit(parallel=True, nogil=True, fastmath=_FAST, cache=True)
def _splat_weights(grid, copies, rotations, kx, ky, count, padding, weights, squared):  # type: ignore[no-untyped-def]
    parts = len(copies) + 1
    for part in prange(parts):
        own = grid if part == 0 else copies[part - 1]
        scratch = np.empty(SCRATCH, grid.dtype)
        cells = np.empty(BLOCK, np.int64)
        for m in range(part * len(rotations) // parts, (part + 1) * len(rotations) // parts):
            add_weights(own, rotations[m], kx, ky, count, padding, scratch, cells, weights[m], squared)


@njit(parallel=True, nogil=True, cache=True)
def _add_copies(total, copies):  # type: ignore[no-untyped-def]
    """Add copies to a grid, always in the same order.

    Element by element: what Numba compiles for sums of whole planes takes three times as long to compile.
    """
    _, height, width = total.shape
    for z in prange(len(total)):
        for part in range(len(copies)):
            for y in range(height):
                for x in range(width):
                    total[z, y, x] += copies[part, z, y, x]


def split_points(points: NDArray[Any], dtype: Any) -> tuple[Real, Real]:
    """``(P, 2)`` points as kx and ky, each with zeros up to a whole number of blocks, for `read_slice`."""
    padded = np.zeros((2, -(-len(points) // BLOCK) * BLOCK), dtype)
    padded[:, : len(points)] = np.asarray(points).T
    return padded[0], padded[1]


def float_view(grid: Complex) -> Real:
    """The real and imaginary parts of a half grid in turn along x; the same memory.

    Raises
    ------
    ValueError
        If the grid is no contiguous complex array of shape ``(2h + 1, 2h + 1, h + 2)``.
    """
    h = (grid.shape[0] - 1) // 2
    good_shape = grid.shape == (2 * h + 1, 2 * h + 1, h + 2)
    if not (good_shape and np.iscomplexobj(grid) and grid.flags.c_contiguous):
        raise ValueError(f"not a contiguous complex (2h+1, 2h+1, h+2): {grid.shape} {grid.dtype}")
    return np.asarray(grid.view(grid.real.dtype))


def gather_slices(grid: Complex, rotations: Real, points: NDArray[Any], padding: int) -> Complex:
    """Read slices of a half grid.

    Parameters
    ----------
    grid
        ``(2h + 1, 2h + 1, h + 2)`` complex64 or complex128.
    rotations
        ``(M, 3, 3)``; rows are the image's x, y and z axes in the volume.
    points
        ``(P, 2)`` image frequencies (kx, ky); the grid is read at ``padding * (kx * row 0 + ky * row 1)``.

    Returns
    -------
    ``(M, P)``, dtype of the grid.
    """
    floats = float_view(grid)
    kx, ky = split_points(points, floats.dtype)
    out = np.empty((len(rotations), len(points)), grid.dtype)
    turns = np.ascontiguousarray(rotations, floats.dtype)
    _gather(floats, turns, kx, ky, len(points), padding, out.view(floats.dtype))
    return out


def splat_slices(grid: Complex, rotations: Real, points: NDArray[Any], values: Complex, padding: int) -> None:
    """Add slices ``values (M, P)`` to a half grid, in place: the exact adjoint of `gather_slices`.

    The adjoint is that of a linear map over the reals, of the numbers that are stored: a value read at
    ``qx < 0`` is conjugated before it is added. The order of sums depends on the number of threads only.
    """
    floats = float_view(grid)
    kx, ky = split_points(points, floats.dtype)
    given = np.ascontiguousarray(values, grid.dtype).view(floats.dtype)
    turns = np.ascontiguousarray(rotations, floats.dtype)
    copies = np.zeros((_copy_count(floats, values.size), *floats.shape), floats.dtype)
    _splat(floats, copies, turns, kx, ky, len(points), padding, given)
    _add_copies(floats, copies)


def splat_weighted(
    numerator: Complex,
    denominator: Real,
    rotations: Real,
    points: NDArray[Any],
    values: Complex,
    weights: Real,
    padding: int,
) -> None:
    """Add ``values (M, P)`` to a complex half grid and ``weights (M, P)`` to a real one, both in place."""
    floats = float_view(numerator)
    same = denominator.shape == numerator.shape and denominator.dtype == floats.dtype
    if not (same and denominator.flags.c_contiguous):
        raise ValueError(f"the denominator is {denominator.shape} {denominator.dtype}, not as the numerator")
    kx, ky = split_points(points, floats.dtype)
    given = np.ascontiguousarray(values, numerator.dtype).view(floats.dtype)
    given_weights = np.ascontiguousarray(weights, floats.dtype)
    turns = np.ascontiguousarray(rotations, floats.dtype)
    count = _copy_count(floats, values.size)
    copies = np.zeros((count, *floats.shape), floats.dtype)
    weight_copies = np.zeros((count, *denominator.shape), floats.dtype)
    _splat_weighted(
        floats, copies, denominator, weight_copies, turns, kx, ky, len(points), padding, given, given_weights
    )
    _add_copies(floats, copies)
    _add_copies(denominator, weight_copies)


def splat_weights(
    grid: Real, rotations: Real, points: NDArray[Any], weights: Real, padding: int, *, squared: bool = False
) -> None:
    """Add ``weights (M, P)`` to a real half grid, in place, by trilinear shares w or by their squares.

    With ``w^2`` it is the diagonal of ``A' W A``, where A reads slices and W are the weights; with ``w``,
    since the shares of a point sum to 1, it is the sums of the absolute values of the rows, or more.
    """
    if grid.shape != (grid.shape[0], grid.shape[0], grid.shape[0] // 2 + 2) or not grid.flags.c_contiguous:
        raise ValueError(f"not a contiguous (2h+1, 2h+1, h+2): {grid.shape} {grid.dtype}")
    kx, ky = split_points(points, grid.dtype)
    given = np.ascontiguousarray(weights, grid.dtype)
    turns = np.ascontiguousarray(rotations, grid.dtype)
    copies = np.zeros((_copy_count(grid, given.size), *grid.shape), grid.dtype)
    _splat_weights(grid, copies, turns, kx, ky, len(points), padding, given, squared)
    _add_copies(grid, copies)


def _copy_count(floats: Real, values: int) -> int:
    """How many threads but the first get a grid of their own: clearing and adding it must be worth it."""
    worth = 4 * values // floats.size
    room = _PRIVATE_BYTES // floats.nbytes
    return max(0, min(numba.get_num_threads() - 1, worth, room))
