"""Reading a volume's transform at turned points in space, adding to it, and fitting poses, on the CPU.

The half grid is that of `manyviews.kernels.slices_cpu`: ``(2h + 1, 2h + 1, h + 2)``, trilinear between points,
zero outside. There images are slices; here they are volumes, whose points ``k = (kx, ky, kz)`` lie anywhere.
A subtomogram in pose (A, t) is ``s(k) = G(A^T k) exp(2 pi i k . t / box)`` for a map with transform G, where
the rows of A are the subtomogram's axes in the map and t, in voxels, is what centres it.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from manyviews.kernels.slices_cpu import read_point

__all__ = ["SUMS", "gather_points", "pose_sums", "splat_points"]

Complex = NDArray[np.complexfloating[Any, Any]]
Real = NDArray[np.floating[Any]]

PARAMETERS = 6
SUMS = 3 + 2 * PARAMETERS + PARAMETERS * (PARAMETERS + 1) // 2
"""Numbers that `pose_sums` returns for a pose; see there."""
_PRIVATE_BYTES = 2**30


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


@njit(nogil=True, cache=True)
def _add_one(grid, weight_grid, a, points, padding, values, weights):  # type: ignore[no-untyped-def]
    half = grid.shape[0] // 2
    for p in range(len(points)):
        x, y, z = points[p, 0], points[p, 1], points[p, 2]
        qx = padding * (a[0, 0] * x + a[1, 0] * y + a[2, 0] * z)
        qy = padding * (a[0, 1] * x + a[1, 1] * y + a[2, 1] * z)
        qz = padding * (a[0, 2] * x + a[1, 2] * y + a[2, 2] * z)
        value = values[p]
        if qx < 0:
            qx, qy, qz, value = -qx, -qy, -qz, value.conjugate()
        qy += half
        qz += half
        if not (qx < half + 1 and qy >= 0 and qy < 2 * half and qz >= 0 and qz < 2 * half):
            continue
        i, j, k = int(qx), int(qy), int(qz)
        fx, fy, fz = qx - i, qy - j, qz - k
        for dz in range(2):
            wz = fz if dz else 1 - fz
            for dy in range(2):
                wy = wz * (fy if dy else 1 - fy)
                for dx in range(2):
                    w = grid.real.dtype.type(wy * (fx if dx else 1 - fx))
                    grid[k + dz, j + dy, i + dx] += w * value
                    weight_grid[k + dz, j + dy, i + dx] += w * weights[p]


@njit(parallel=True, nogil=True, cache=True)
def _splat(grids, weight_grids, rotations, points, padding, values, weights):  # type: ignore[no-untyped-def]
    """Each part of the volumes goes into a grid of its own."""
    parts = len(grids)
    for part in prange(parts):
        for m in range(part * len(rotations) // parts, (part + 1) * len(rotations) // parts):
            _add_one(grids[part], weight_grids[part], rotations[m], points, padding, values[m], weights[m])


@njit(inline="always")
def _read_with_slope(grid, qx, qy, qz):  # type: ignore[no-untyped-def]
    """Value of a half grid at a point in grid units, and its slopes along x, y and z."""
    half = grid.shape[0] // 2
    sign = 1.0 if qx >= 0 else -1.0
    x = qx * sign
    y = qy * sign + half
    z = qz * sign + half
    zero = complex(0.0, 0.0)
    if not (x < half + 1 and y >= 0 and y < 2 * half and z >= 0 and z < 2 * half):
        return zero, zero, zero, zero
    i, j, k = int(x), int(y), int(z)
    x, y, z = x - i, y - j, z - k
    c000, c001 = grid[k, j, i], grid[k, j, i + 1]
    c010, c011 = grid[k, j + 1, i], grid[k, j + 1, i + 1]
    c100, c101 = grid[k + 1, j, i], grid[k + 1, j, i + 1]
    c110, c111 = grid[k + 1, j + 1, i], grid[k + 1, j + 1, i + 1]
    c00, c01 = c000 + x * (c001 - c000), c010 + x * (c011 - c010)
    c10, c11 = c100 + x * (c101 - c100), c110 + x * (c111 - c110)
    low, high = c00 + y * (c01 - c00), c10 + y * (c11 - c10)
    value = low + z * (high - low)
    along_z = high - low
    along_y = (1 - z) * (c01 - c00) + z * (c11 - c10)
    along_x = (1 - z) * ((1 - y) * (c001 - c000) + y * (c011 - c010))
    along_x += z * ((1 - y) * (c101 - c100) + y * (c111 - c110))
    # the grid is read at -q and conjugated where qx < 0: slopes change their sign too
    return (
        complex(value.real, sign * value.imag),
        complex(sign * along_x.real, along_x.imag),
        complex(sign * along_y.real, along_y.imag),
        complex(sign * along_z.real, along_z.imag),
    )


@njit(parallel=True, nogil=True, cache=True)
def _sums(grid, rotations, shifts, images, masks, values, transfers, points, chosen, padding, box, out):  # type: ignore[no-untyped-def]
    turn = 2 * np.pi / box
    for m in prange(len(rotations)):
        a = rotations[m]
        total = np.zeros(SUMS)
        slope = np.empty(PARAMETERS, np.complex128)
        image, mask = values[images[m]], transfers[masks[m]]
        for n in range(chosen.shape[1]):
            p = chosen[m, n]
            factor = mask[p]
            data = complex(image[p])
            total[0] += data.real * data.real + data.imag * data.imag
            if factor == 0:
                continue
            x, y, z = points[p, 0], points[p, 1], points[p, 2]
            value, gx, gy, gz = _read_with_slope(
                grid,
                padding * (a[0, 0] * x + a[1, 0] * y + a[2, 0] * z),
                padding * (a[0, 1] * x + a[1, 1] * y + a[2, 1] * z),
                padding * (a[0, 2] * x + a[1, 2] * y + a[2, 2] * z),
            )
            angle = turn * (x * shifts[m, 0] + y * shifts[m, 1] + z * shifts[m, 2])
            phase = factor * complex(np.cos(angle), np.sin(angle))
            model = phase * value
            # slopes in the subtomogram's axes
            phase = phase * padding
            ux = phase * (a[0, 0] * gx + a[0, 1] * gy + a[0, 2] * gz)
            uy = phase * (a[1, 0] * gx + a[1, 1] * gy + a[1, 2] * gz)
            uz = phase * (a[2, 0] * gx + a[2, 1] * gy + a[2, 2] * gz)
            slope[0] = z * uy - y * uz
            slope[1] = x * uz - z * ux
            slope[2] = y * ux - x * uy
            turned = complex(-turn * model.imag, turn * model.real)
            slope[3] = x * turned
            slope[4] = y * turned
            slope[5] = z * turned
            total[1] += data.real * model.real + data.imag * model.imag
            total[2] += model.real * model.real + model.imag * model.imag
            place = 3 + 2 * PARAMETERS
            for i in range(PARAMETERS):
                one = slope[i]
                total[3 + i] += data.real * one.real + data.imag * one.imag
                total[3 + PARAMETERS + i] += model.real * one.real + model.imag * one.imag
                for j in range(i, PARAMETERS):
                    total[place] += one.real * slope[j].real + one.imag * slope[j].imag
                    place += 1
        out[m] = total


def gather_points(grid: Complex, rotations: Real, points: NDArray[Any], padding: int) -> Complex:
    """Read a half grid ``(2h + 1, 2h + 1, h + 2)`` at ``padding * A^T k``.

    ``rotations`` is ``(M, 3, 3)``, ``points (P, 3)`` (kx, ky, kz). Returns ``(M, P)``, dtype of the grid.
    """
    out = np.empty((len(rotations), len(points)), grid.dtype)
    _gather(grid, *_native(grid, rotations, points), padding, out)
    return out


def splat_points(
    numerator: Complex,
    denominator: Real,
    rotations: Real,
    points: Real,
    values: Complex,
    weights: Real,
    padding: int,
) -> None:
    """Add ``values (M, P)`` to a complex half grid and ``weights (M, P)`` to a real one, both in place.

    The exact adjoint of `gather_points` over the reals, of the numbers that are stored. The order of sums
    depends on the number of threads only.
    """
    turns, places = _native(numerator, rotations, points)
    given = np.ascontiguousarray(values, numerator.dtype)
    given_weights = np.ascontiguousarray(weights, numerator.real.dtype)
    size = numerator.nbytes + denominator.nbytes
    worth = 8 * given.size // numerator.size
    parts = 1 + max(0, min(numba.get_num_threads() - 1, worth, _PRIVATE_BYTES // size))
    grids = np.zeros((parts, *numerator.shape), numerator.dtype)
    weight_grids = np.zeros((parts, *denominator.shape), denominator.dtype)
    _splat(grids, weight_grids, turns, places, padding, given, given_weights)
    for part in range(parts):
        numerator += grids[part]
        denominator += weight_grids[part]


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
    Derivatives are with respect to a small rotation vector w, ``A <- exp(w) A`` (radians, the subtomogram's axes, the shift
    held), then to the shift in voxels.
    """
    turns, places = _native(grid, rotations, points)
    out = np.empty((len(turns), SUMS))
    moves = np.ascontiguousarray(shifts, np.float64)
    _sums(grid, turns, moves, images, masks, values, transfers, places, chosen, padding, box, out)
    return out


def _native(grid: Complex, rotations: Real, points: NDArray[Any]) -> tuple[Real, Real]:
    """Poses in double precision, points in single, whatever the grid is."""
    return np.ascontiguousarray(rotations, np.float64), np.ascontiguousarray(points, np.float32)
