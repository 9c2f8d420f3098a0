"""Reading a volume's transform at turned points in space, adding to it, and fitting poses, on the CPU.

The half grid is that of `manyviews.kernels.slices_cpu`: ``(2h + 1, 2h + 1, h + 2)``, trilinear between
points, zero outside. There images are slices; here they are volumes, whose points ``k = (kx, ky, kz)`` lie
anywhere. A subtomogram in pose (A, t) is ``s(k) = G(A^T k) exp(2 pi i k . t / box)`` for a map with transform
G, where the rows of A are the subtomogram's axes in the map and t, in voxels, is what centres it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from manyviews.kernels.inner import inner
from manyviews.kernels.rows import in_a_row
from manyviews.kernels.slices_cpu import float_view, read_point

__all__ = ["SUMS", "gather_points", "pose_sums", "splat_lanes"]

Complex = NDArray[np.complexfloating[Any, Any]]
Real = NDArray[np.floating[Any]]

PARAMETERS = 6
BLOCK = 128
SUMS = 3 + 2 * PARAMETERS + PARAMETERS * (PARAMETERS + 1) // 2
"""Numbers that `pose_sums` returns for a pose; see there."""
# No "nnan" and "ninf": an infinite or undefined place must compare as outside the grid.
_FAST = {"contract", "reassoc", "nsz", "arcp", "afn"}


@njit(parallel=True, nogil=True, cache=True)
def _gather(grid, rotations, points, padding, out):  # type: ignore[no-untyped-def]
    for m in prange(len(rotations)):
        a = rotations[m]
        for p in range(len(points)):
            x, y, z = points[p, 0], points[p, 1], points[p, 2]
            out[m, p] = read_point(
                grid,
                padding * (a[0, 0] * x + a[1, 0] * y + a[2, 0] * z),
                padding * (a[0, 1] * x + a[1, 1] * y + a[2, 1] * z),
                padding * (a[0, 2] * x + a[1, 2] * y + a[2, 2] * z),
            )


@inner(fastmath=_FAST, nogil=True, cache=True)
def _add_one(floats, weight_grid, a, points, padding, values, weights):  # type: ignore[no-untyped-def]
    half = floats.shape[0] // 2
    row, plane = weight_grid.shape[2], weight_grid.shape[1] * weight_grid.shape[2]
    flat, flat_weights = floats.reshape(floats.size), weight_grid.reshape(weight_grid.size)
    one = floats.dtype.type(1.0)
    zero = floats.dtype.type(0.0)
    scale = floats.dtype.type(padding)
    limit = floats.dtype.type(half)
    for p in range(len(points)):
        weight = weights[p]
        re, im = values[2 * p], values[2 * p + 1]
        if weight == zero and re == zero and im == zero:
            continue
        x, y, z = points[p, 0], points[p, 1], points[p, 2]
        qx = scale * (a[0, 0] * x + a[1, 0] * y + a[2, 0] * z)
        sign = one if qx >= 0 else -one
        qx = qx * sign
        qy = scale * (a[0, 1] * x + a[1, 1] * y + a[2, 1] * z) * sign + limit
        qz = scale * (a[0, 2] * x + a[1, 2] * y + a[2, 2] * z) * sign + limit
        if not (qx < limit + one and qy >= zero and qy < 2 * limit and qz >= zero and qz < 2 * limit):
            continue
        im = im * sign
        i, j, k = np.int64(qx), np.int64(qy), np.int64(qz)
        fx, fy, fz = qx - floats.dtype.type(i), qy - floats.dtype.type(j), qz - floats.dtype.type(k)
        c = k * plane + j * row + i
        for corner in range(4):
            wy = fy if corner & 1 else one - fy
            wz = fz if corner & 2 else one - fz
            at = c + (row if corner & 1 else 0) + (plane if corner & 2 else 0)
            high = wy * wz * fx
            low = wy * wz - high
            flat[2 * at] += low * re
            flat[2 * at + 1] += low * im
            flat[2 * at + 2] += high * re
            flat[2 * at + 3] += high * im
            flat_weights[at] += low * weight
            flat_weights[at + 1] += high * weight


@njit(parallel=True, nogil=True, cache=True)
def _splat(grids, weight_grids, starts, rotations, points, padding, values, weights):  # type: ignore[no-untyped-def]
    """Each lane of the volumes goes into a grid of its own."""
    for lane in prange(len(grids)):
        for m in range(starts[lane], starts[lane + 1]):
            _add_one(grids[lane], weight_grids[lane], rotations[m], points, padding, values[m], weights[m])


@inner(fastmath=_FAST, nogil=True, forceinline=True)
def _phase_tables(shift, turn, reach, tables):  # type: ignore[no-untyped-def]
    """``exp(i turn k shift)`` for whole k within +-reach along each axis, real and imaginary parts."""
    for axis in range(3):
        for k in range(-reach, reach + 1):
            angle = turn * k * shift[axis]
            tables[axis, k + reach, 0] = np.cos(angle)
            tables[axis, k + reach, 1] = np.sin(angle)


@inner(fastmath=_FAST, nogil=True, forceinline=True)
def _read_block(  # type: ignore[no-untyped-def]  # noqa: PLR0915 - one pass, unrolled
    floats, a, points, mask, chosen, first, count, padding, block
):
    """Value and slopes of the map at some points, times what was measured of them, without the shift.

    Rows of ``block``: value, slopes along the subtomogram's x, y, z; real and imaginary part each.
    """
    half = floats.shape[0] // 2
    row = floats.shape[2]
    plane = floats.shape[1] * row
    flat = floats.reshape(floats.size)
    one = floats.dtype.type(1.0)
    zero = floats.dtype.type(0.0)
    scale = floats.dtype.type(padding)
    limit = floats.dtype.type(half)
    axx, axy, axz = a[0, 0], a[0, 1], a[0, 2]
    ayx, ayy, ayz = a[1, 0], a[1, 1], a[1, 2]
    azx, azy, azz = a[2, 0], a[2, 1], a[2, 2]
    for n in range(count):
        p = chosen[first + n]
        factor = mask[p]
        x, y, z = points[p, 0], points[p, 1], points[p, 2]
        qx = scale * (axx * x + ayx * y + azx * z)
        sign = one if qx >= 0 else -one
        qx = qx * sign
        qy = scale * (axy * x + ayy * y + azy * z) * sign + limit
        qz = scale * (axz * x + ayz * y + azz * z) * sign + limit
        inside = qx < limit + one and qy >= zero and qy < 2 * limit and qz >= zero and qz < 2 * limit
        if factor == zero or not inside:
            for part in range(8):
                block[part, n] = zero
            continue
        i, j, k = np.int64(qx), np.int64(qy), np.int64(qz)
        fx, fy, fz = qx - floats.dtype.type(i), qy - floats.dtype.type(j), qz - floats.dtype.type(k)
        c = k * plane + j * row + 2 * i
        # along x first: value and slope of four rows
        s00r, s00i = flat[c + 2] - flat[c], flat[c + 3] - flat[c + 1]
        v00r, v00i = flat[c] + fx * s00r, flat[c + 1] + fx * s00i
        c += row
        s01r, s01i = flat[c + 2] - flat[c], flat[c + 3] - flat[c + 1]
        v01r, v01i = flat[c] + fx * s01r, flat[c + 1] + fx * s01i
        c += plane - row
        s10r, s10i = flat[c + 2] - flat[c], flat[c + 3] - flat[c + 1]
        v10r, v10i = flat[c] + fx * s10r, flat[c + 1] + fx * s10i
        c += row
        s11r, s11i = flat[c + 2] - flat[c], flat[c + 3] - flat[c + 1]
        v11r, v11i = flat[c] + fx * s11r, flat[c + 1] + fx * s11i
        b0r, b0i, b1r, b1i = v01r - v00r, v01i - v00i, v11r - v10r, v11i - v10i
        lr, li = v00r + fy * b0r, v00i + fy * b0i
        hr, hi = v10r + fy * b1r, v10i + fy * b1i
        e0r, e0i = s00r + fy * (s01r - s00r), s00i + fy * (s01i - s00i)
        e1r, e1i = s10r + fy * (s11r - s10r), s10i + fy * (s11i - s10i)
        # read at -q and conjugated where qx < 0: the real part's slopes change their sign
        fine = factor * scale
        real = fine * sign
        block[0, n] = factor * (lr + fz * (hr - lr))
        block[1, n] = factor * sign * (li + fz * (hi - li))
        gxr, gxi = real * (e0r + fz * (e1r - e0r)), fine * (e0i + fz * (e1i - e0i))
        gyr, gyi = real * (b0r + fz * (b1r - b0r)), fine * (b0i + fz * (b1i - b0i))
        gzr, gzi = real * (hr - lr), fine * (hi - li)
        block[2, n], block[3, n] = axx * gxr + axy * gyr + axz * gzr, axx * gxi + axy * gyi + axz * gzi
        block[4, n], block[5, n] = ayx * gxr + ayy * gyr + ayz * gzr, ayx * gxi + ayy * gyi + ayz * gzi
        block[6, n], block[7, n] = azx * gxr + azy * gyr + azz * gzr, azx * gxi + azy * gyi + azz * gzi


@inner(fastmath=_FAST, nogil=True, forceinline=True)
def _data_block(values, tables, reach, points, chosen, first, count, block):  # type: ignore[no-untyped-def]
    """The data of some points, shifted back, and the points: rows 8 to 12 of ``block``."""
    for n in range(count):
        p = chosen[first + n]
        x, y, z = points[p, 0], points[p, 1], points[p, 2]
        kx, ky, kz = np.int64(x) + reach, np.int64(y) + reach, np.int64(z) + reach
        pr = tables[0, kx, 0] * tables[1, ky, 0] - tables[0, kx, 1] * tables[1, ky, 1]
        pi = tables[0, kx, 0] * tables[1, ky, 1] + tables[0, kx, 1] * tables[1, ky, 0]
        ur = pr * tables[2, kz, 0] - pi * tables[2, kz, 1]
        ui = pr * tables[2, kz, 1] + pi * tables[2, kz, 0]
        dr, di = values[2 * p], values[2 * p + 1]
        block[8, n], block[9, n] = dr * ur + di * ui, di * ur - dr * ui
        block[10, n], block[11, n], block[12, n] = x, y, z


@inner(fastmath=_FAST, nogil=True, forceinline=True)
def _sum_block(block, slopes, count, turn, total):  # type: ignore[no-untyped-def]
    """Turn slopes in space into slopes with respect to the pose, and add up all products."""
    spin = block.dtype.type(turn)
    for n in range(count):
        x, y, z = block[10, n], block[11, n], block[12, n]
        for part in range(2):
            wx, wy, wz = block[2 + part, n], block[4 + part, n], block[6 + part, n]
            slopes[part, n] = z * wy - y * wz
            slopes[2 + part, n] = x * wz - z * wx
            slopes[4 + part, n] = y * wx - x * wy
        tr, ti = -spin * block[1, n], spin * block[0, n]
        slopes[6, n], slopes[7, n] = x * tr, x * ti
        slopes[8, n], slopes[9, n] = y * tr, y * ti
        slopes[10, n], slopes[11, n] = z * tr, z * ti
    zero = block.dtype.type(0.0)
    data, cross, model = zero, zero, zero
    for n in range(count):
        data += block[8, n] * block[8, n] + block[9, n] * block[9, n]
        cross += block[8, n] * block[0, n] + block[9, n] * block[1, n]
        model += block[0, n] * block[0, n] + block[1, n] * block[1, n]
    total[0] += data
    total[1] += cross
    total[2] += model
    place = 3 + 2 * PARAMETERS
    for i in range(PARAMETERS):
        with_data, with_model = zero, zero
        for n in range(count):
            with_data += block[8, n] * slopes[2 * i, n] + block[9, n] * slopes[2 * i + 1, n]
            with_model += block[0, n] * slopes[2 * i, n] + block[1, n] * slopes[2 * i + 1, n]
        total[3 + i] += with_data
        total[3 + PARAMETERS + i] += with_model
        for j in range(i, PARAMETERS):
            both = zero
            for n in range(count):
                both += slopes[2 * i, n] * slopes[2 * j, n] + slopes[2 * i + 1, n] * slopes[2 * j + 1, n]
            total[place] += both
            place += 1


@inner(nogil=True, forceinline=True)
def _sums_of_pose(  # type: ignore[no-untyped-def]
    floats, rotation, shift, values, mask, points, chosen, padding, turn, reach, total
):
    tables = np.empty((3, 2 * reach + 1, 2), floats.dtype)
    _phase_tables(shift, turn, reach, tables)
    block = np.empty((13, BLOCK), floats.dtype)
    slopes = np.empty((2 * PARAMETERS, BLOCK), floats.dtype)
    for place in range(SUMS):
        total[place] = 0.0
    for first in range(0, len(chosen), BLOCK):
        count = min(BLOCK, len(chosen) - first)
        _read_block(floats, rotation, points, mask, chosen, first, count, padding, block)
        _data_block(values, tables, reach, points, chosen, first, count, block)
        _sum_block(block, slopes, count, turn, total)


@njit(parallel=True, nogil=True, cache=True)
def _sums(  # type: ignore[no-untyped-def]
    floats, rotations, shifts, images, masks, values, value_row, transfers, transfer_row, points, chosen,
    padding, box, reach, out
):  # fmt: skip
    # each pose in a function of its own: arrays made within a parallel loop take long to compile
    turn = 2 * np.pi / box
    for m in prange(len(rotations)):
        data = images[m] * value_row
        mask = masks[m] * transfer_row
        own = np.int64(m) if len(chosen) > 1 else np.int64(0)  # the loop's own number is unsigned
        _sums_of_pose(
            floats, rotations[m], shifts[m], values[data : data + 2 * len(points)],
            transfers[mask : mask + len(points)], points, chosen[own], padding, turn, reach, out[m],
        )  # fmt: skip


def gather_points(grid: Complex, rotations: Real, points: NDArray[Any], padding: int) -> Complex:
    """Read a half grid ``(2h + 1, 2h + 1, h + 2)`` at ``padding * A^T k``.

    ``rotations`` is ``(M, 3, 3)``, ``points (P, 3)`` (kx, ky, kz). Returns ``(M, P)``, dtype of the grid.
    """
    out = np.empty((len(rotations), len(points)), grid.dtype)
    _gather(grid, *_native(grid, rotations, points), padding, out)
    return out


def splat_lanes(
    numerators: Complex,
    denominators: Real,
    starts: NDArray[np.integer[Any]],
    rotations: Real,
    points: NDArray[Any],
    values: Complex,
    weights: Real,
    padding: int,
) -> None:
    """Add volumes to one of L pairs of grids each, in place and always in the same order.

    ``values (M, P)`` are added to a complex half grid and ``weights (M, P)`` to a real one: volumes
    ``starts[l]`` to ``starts[l + 1]`` to ``numerators[l]`` and ``denominators[l]``. The exact adjoint of
    `gather_points` over the reals, of the numbers that are stored.
    """
    kind = denominators.dtype
    _splat(
        numerators.view(kind),
        denominators,
        np.asarray(starts, dtype=np.int64),
        np.ascontiguousarray(rotations, kind),
        np.ascontiguousarray(points, kind),
        padding,
        np.ascontiguousarray(values, numerators.dtype).view(kind),
        np.ascontiguousarray(weights, kind),
    )


def pose_sums(
    grid: Complex,
    rotations: Real,
    shifts: Real,
    images: NDArray[np.int64],
    masks: NDArray[np.int64],
    values: Complex,
    transfers: Real,
    points: NDArray[Any],
    chosen: NDArray[np.int32],
    padding: int,
    box: int,
) -> NDArray[np.float64]:
    """What a fit of poses needs: sums over points of data y, model m and its derivatives.

    Parameters
    ----------
    grid
        Transform of the map.
    rotations, shifts
        ``(M, 3, 3)`` poses and ``(M, 3)`` shifts in voxels.
    images, masks
        ``(M,)`` which row of ``values`` and of ``transfers`` belongs to a pose.
    values
        ``(N, P)`` transforms of subtomograms.
    transfers
        ``(W, P)`` real factor of the model: what was measured of a point.
    points
        ``(P, 3)`` frequencies.
    chosen
        ``(M, n)`` which points to add up for each pose.

    Returns
    -------
    ``(M, SUMS)`` float64: sum of ``|y|^2``, ``Re(conj(y) m)`` and ``|m|^2``; six of ``Re(conj(y) dm)``, six
    of ``Re(conj(m) dm)``; and the upper triangle, row by row, of the 6 x 6 ``Re(conj(dm_i) dm_j)``.
    Derivatives are with respect to a small rotation vector w, ``A <- exp(w) A`` (radians, the subtomogram's
    axes, the shift held), then to the shift in voxels.
    """
    floats = float_view(grid)
    turns, places = np.ascontiguousarray(rotations, floats.dtype), np.ascontiguousarray(points, floats.dtype)
    moves = np.ascontiguousarray(shifts, np.float64)
    out = np.empty((len(turns), SUMS))
    numbers, value_row = in_a_row(np.asarray(values, dtype=grid.dtype).view(floats.dtype))
    factors, transfer_row = in_a_row(np.asarray(transfers, dtype=floats.dtype))
    # the same for every pose: once is enough
    own = np.ascontiguousarray(chosen[:1] if chosen.strides[0] == 0 else chosen, np.int32).view()
    own.flags.writeable = False  # a kernel for one that may be written to would be another one
    reach = int(np.abs(points).max(initial=0))
    _sums(
        floats, turns, moves, images, masks, numbers, value_row, factors, transfer_row, places, own, padding,
        box, reach, out,
    )  # fmt: skip
    return out


def _native(grid: Complex, rotations: Real, points: NDArray[Any]) -> tuple[Real, Real]:
    """Poses in double precision, points in single, whatever the grid is."""
    return np.ascontiguousarray(rotations, np.float64), np.ascontiguousarray(points, np.float32)
