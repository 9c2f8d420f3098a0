"""Shift and in-plane rotation of whole images by Gauss-Newton, on the CPU in float32.

``D_f model`` with ``f = R(phi) X - X + t``, X from the middle of the image, is made like the data. Views
are in parallel, each is one thread's.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from manyviews.kernels.flow_grid_cpu import slope_lines
from manyviews.kernels.inner import inner
from manyviews.kernels.warp_cpu import BORDER, pad_image, pull_padded, work_arrays
from manyviews.parallel.threads import each_in_threads

__all__ = ["rigid_flow", "rigid_steps"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_FAST = {"contract", "reassoc", "nsz", "arcp", "afn"}


@njit(fastmath=_FAST, nogil=True, cache=True)
def _fill(motion, flow):  # type: ignore[no-untyped-def]
    """``motion``: along x, along z in pixels, rotation from x to z in radians."""
    rows, columns = flow.shape[1:]
    middle_x, middle_z = 0.5 * (columns - 1), 0.5 * (rows - 1)
    cosine, sine = np.cos(motion[2]), np.sin(motion[2])
    for z in range(rows):
        along_x = np.float32(motion[0] - sine * (z - middle_z) - (cosine - 1) * middle_x)
        along_z = np.float32(motion[1] + (cosine - 1) * (z - middle_z) - sine * middle_x)
        for x in range(columns):
            flow[0, z, x] = along_x + np.float32(cosine - 1) * np.float32(x)
            flow[1, z, x] = along_z + np.float32(sine) * np.float32(x)


@inner(fastmath=_FAST, nogil=True, cache=True)
def _add_row(lines, motion, from_middle, middle_x, margin, matrix, force):  # type: ignore[no-untyped-def]
    """One row's share of the normal equations."""
    cosine, sine = np.float32(np.cos(motion[2])), np.float32(np.sin(motion[2]))
    sums = np.zeros(9, np.float32)
    for x in range(margin, lines.shape[1] - margin):
        rest, gx, gz = lines[0, x], lines[1, x], lines[2, x]
        across = np.float32(x) - np.float32(middle_x)
        turn_x = -sine * across - cosine * np.float32(from_middle)
        turn_z = cosine * across - sine * np.float32(from_middle)
        turn = gx * turn_x + gz * turn_z
        sums[0] += gx * gx
        sums[1] += gx * gz
        sums[2] += gx * turn
        sums[3] += gz * gz
        sums[4] += gz * turn
        sums[5] += turn * turn
        sums[6] += rest * gx
        sums[7] += rest * gz
        sums[8] += rest * turn
    matrix[0, 0] += sums[0]
    matrix[0, 1] += sums[1]
    matrix[0, 2] += sums[2]
    matrix[1, 1] += sums[3]
    matrix[1, 2] += sums[4]
    matrix[2, 2] += sums[5]
    for i in range(3):
        force[i] += sums[6 + i]


@njit(nogil=True, cache=True)
def _sum_view(data, padded, work, flow, moved, lines, motion, matrix, force):  # type: ignore[no-untyped-def]
    """Normal equations of a view at its present motion; only what lies on the detector before and after."""
    rows, columns = data.shape
    _fill(motion, flow)
    pull_padded(padded, flow, 3, work, moved)
    matrix[:] = 0
    force[:] = 0
    tilt = abs(np.sin(motion[2]))
    margin_x = min(columns // 4, int(np.ceil(abs(motion[0]) + tilt * rows / 2)))
    margin_z = min(rows // 4, int(np.ceil(abs(motion[1]) + tilt * columns / 2)))
    for z in range(margin_z, rows - margin_z):
        slope_lines(moved, data, z, lines)
        _add_row(lines, motion, z - 0.5 * (rows - 1), 0.5 * (columns - 1), margin_x, matrix, force)
    for i in range(3):
        for j in range(i):
            matrix[i, j] = matrix[j, i]


def _solve(matrix: Float64, force: Float64, rotation: bool, longest: float) -> Float64:
    """The change of a motion, no longer than ``longest`` pixels; nothing where the image has no slopes."""
    wanted = 3 if rotation else 2
    change = np.zeros(3)
    own = matrix[:wanted, :wanted]
    scale = np.sqrt(np.diagonal(own))
    if np.all(scale > 0):
        with_unit = own / np.outer(scale, scale) + 1e-6 * np.eye(wanted)
        change[:wanted] = np.linalg.solve(with_unit, force[:wanted] / scale) / scale
    return change * min(1.0, longest / max(longest, float(np.abs(change[:2]).max())))


def rigid_steps(
    data: Float32, model: Float32, motion: Float64, *, rotation: bool = False, steps: int = 8,
    longest: float = 2.0,
) -> Float64:  # fmt: skip
    """``(n, 3)`` the motions ``(x, z, angle)`` of views after Gauss-Newton steps from ``motion``.

    In pixels and radians; the angle stays what it was without ``rotation``. A step is at most ``longest``
    pixels; a view is done when it moves less than a thousandth of a pixel.
    """
    found = np.array(motion, dtype=np.float64)
    rows, columns = data.shape[1:]

    def improve(n: int) -> None:
        padded = np.empty((rows + BORDER, columns + BORDER), np.float32)
        pad_image(model[n], padded)
        work = work_arrays(padded)
        flow, moved = np.empty((2, rows, columns), np.float32), np.empty((rows, columns), np.float32)
        lines, matrix, force = np.empty((3, columns), np.float32), np.empty((3, 3)), np.empty(3)
        for _ in range(steps):
            _sum_view(data[n], padded, work, flow, moved, lines, found[n], matrix, force)
            change = _solve(matrix, force, rotation, longest)
            found[n] += change
            if np.abs(change[:2]).max() < 1e-3 and abs(change[2]) * max(rows, columns) < 2e-3:
                break

    each_in_threads(improve, len(data))
    return found


def rigid_flow(motion: Float64, rows: int, columns: int, out: Float32 | None = None) -> Float32:
    """The flow ``(n, 2, z, x)`` of motions ``(n, 3)``; ``out`` is for the result, None: a new array."""
    flow = np.empty((len(motion), 2, rows, columns), np.float32) if out is None else out
    own = np.ascontiguousarray(motion, dtype=np.float64)
    each_in_threads(lambda n: _fill(own[n], flow[n]), len(own))
    return flow
