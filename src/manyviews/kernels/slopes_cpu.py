"""Slopes of a volume used at once, without room for them: sums of their products, and total variation.

Slopes are forward differences along z, y, x, zero at the far ends of the whole volume, which may continue in
another slab: ``after (0 or 1, y, x)`` is the slice behind this one, ``before`` that in front of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["pull_slopes", "shorten_slopes", "slope_products"]

Real = NDArray[np.floating[Any]]

_FAST = {"contract", "reassoc", "nsz", "arcp", "afn"}


@njit(nogil=True, cache=True)
def _behind(volume, after, z):  # type: ignore[no-untyped-def]
    """The slice behind z; z itself at the far end, so that differences are zero."""
    if z + 1 < volume.shape[0]:
        return volume[z + 1]
    return after[0] if len(after) else volume[z]


@njit(fastmath=_FAST, nogil=True, cache=True)
def _row_products(here, below, behind, other, other_below, other_behind):  # type: ignore[no-untyped-def]
    """Of a row of two volumes: sums of products of slopes of the first, of both, of the second."""
    first, both, second = 0.0, 0.0, 0.0
    for x in range(len(here)):
        across, across_other = below[x] - here[x], other_below[x] - other[x]
        along, along_other = behind[x] - here[x], other_behind[x] - other[x]
        first += np.float64(across * across + along * along)
        both += np.float64(across * across_other + along * along_other)
        second += np.float64(across_other * across_other + along_other * along_other)
    for x in range(len(here) - 1):
        step, step_other = here[x + 1] - here[x], other[x + 1] - other[x]
        first += np.float64(step * step)
        both += np.float64(step * step_other)
        second += np.float64(step_other * step_other)
    return first, both, second


@njit(nogil=True, cache=True)
def slope_products(u, after_u, v, after_v, z, sums):  # type: ignore[no-untyped-def]
    """Of slice z of ``u`` and ``v (z, y, x)``, into ``sums (3,)``: the products of slopes of u with
    themselves, of both, of v with themselves.
    """
    sums[:] = 0.0
    behind_u, behind_v = _behind(u, after_u, z), _behind(v, after_v, z)
    rows = u.shape[1]
    for y in range(rows):
        below = min(y + 1, rows - 1)
        one, both, other = _row_products(u[z, y], u[z, below], behind_u[y], v[z, y], v[z, below], behind_v[y])
        sums[0] += one
        sums[1] += both
        sums[2] += other


@njit(fastmath=_FAST, nogil=True, cache=True)
def _shorten_row(here, below, behind, reach, dual_z, dual_y, dual_x, new_z, new_y, new_x):  # type: ignore[no-untyped-def]
    """Duals of a row; returns its total variation."""
    total = 0.0
    for x in range(len(here)):
        new_x[x] = here[min(x + 1, len(here) - 1)] - here[x]
    for x in range(len(here)):
        along, across, step = behind[x] - here[x], below[x] - here[x], new_x[x]
        total += np.float64(np.sqrt(along * along + across * across + step * step))
        to_z, to_y, to_x = along + dual_z[x], across + dual_y[x], step + dual_x[x]
        length = np.sqrt(to_z * to_z + to_y * to_y + to_x * to_x)
        factor = reach / max(length, reach)
        new_z[x], new_y[x], new_x[x] = to_z * factor, to_y * factor, to_x * factor
    return total


@njit(nogil=True, cache=True)
def shorten_slopes(u, after, reach, z, duals, new):  # type: ignore[no-untyped-def]
    """Of slice z: slopes and ``duals`` (three volumes, along z, y, x) together, no longer than ``reach``,
    into ``new``; returns the sum of lengths of the slopes themselves.
    """
    behind = _behind(u, after, z)
    rows, total = u.shape[1], 0.0
    for y in range(rows):
        total += _shorten_row(
            u[z, y], u[z, min(y + 1, rows - 1)], behind[y], reach, duals[0][z, y], duals[1][z, y],
            duals[2][z, y], new[0][z, y], new[1][z, y], new[2][z, y],
        )  # fmt: skip
    return total


@njit(fastmath=_FAST, nogil=True, cache=True)
def _pull_row(new_z, old_z, before_z, new_y, old_y, up_y, old_up_y, new_x, old_x, first, out):  # type: ignore[no-untyped-def]
    two = out.dtype.type(2)
    for x in range(len(out)):
        here = (two * new_z[x] - old_z[x]) + (two * new_y[x] - old_y[x]) + (two * new_x[x] - old_x[x])
        ahead = before_z[x]
        if not first:
            ahead += two * up_y[x] - old_up_y[x]
        out[x] = ahead - here
    for x in range(1, len(out)):
        out[x] += two * new_x[x - 1] - old_x[x - 1]


@njit(nogil=True, cache=True)
def pull_slopes(new, old, before, z, line, out):  # type: ignore[no-untyped-def]
    """Of slice z: the transpose of the slopes of ``2 new - old`` (three volumes each), into ``out[z]``.

    ``before (0 or 1, y, x)`` is ``2 new - old`` along z of the slice in front of the slab, ``line (x,)`` work
    space.
    """
    for y in range(out.shape[1]):
        if z > 0:
            for x in range(len(line)):
                line[x] = out.dtype.type(2) * new[0][z - 1, y, x] - old[0][z - 1, y, x]
        elif len(before):
            for x in range(len(line)):
                line[x] = before[0, y, x]
        else:
            line[:] = 0
        up = max(y - 1, 0)
        _pull_row(
            new[0][z, y], old[0][z, y], line, new[1][z, y], old[1][z, y], new[1][z, up], old[1][z, up],
            new[2][z, y], old[2][z, y], y == 0, out[z, y],
        )  # fmt: skip
