"""Neighbours in a volume, on the CPU: the Laplacian, and its inverse along z at frequencies of a plane."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["add_laplacian", "bend_slices", "solve_columns"]

Real = NDArray[np.floating[Any]]


@njit(nogil=True, cache=True)
def add_laplacian(x, before, after, scale, start, stop, out):  # type: ignore[no-untyped-def]
    """Add to ``out`` the sum over neighbours of ``scale (x - neighbour)``, those beyond the volume left out.

    ``before`` and ``after (0 or 1, y, x)`` are the slices next to the volume ``(z, y, x)``, where there are
    any. Of slices from ``start`` to below ``stop`` only.
    """
    depth, height, width = x.shape
    for z in range(start, stop):
        for y in range(height):
            for i in range(width):
                middle = x[z, y, i]
                total = x.dtype.type(0.0)
                if y > 0:
                    total += middle - x[z, y - 1, i]
                if y + 1 < height:
                    total += middle - x[z, y + 1, i]
                if i > 0:
                    total += middle - x[z, y, i - 1]
                if i + 1 < width:
                    total += middle - x[z, y, i + 1]
                if z > 0:
                    total += middle - x[z - 1, y, i]
                elif len(before):
                    total += middle - before[0, y, i]
                if z + 1 < depth:
                    total += middle - x[z + 1, y, i]
                elif len(after):
                    total += middle - after[0, y, i]
                out[z, y, i] += scale * total


@njit(nogil=True, cache=True)
def _bend_row(here, up, below, ahead, behind, scale, weight, support, out):  # type: ignore[no-untyped-def]
    """``out = support (weight out + scale sum over neighbours (here - neighbour))`` of a row, and its product
    with the row itself; rows that are not there are given as the row itself.
    """
    two, four = here.dtype.type(2), here.dtype.type(4)
    last = len(here) - 1
    for x in range(len(here)):
        total = four * here[x] - up[x] - below[x] - ahead[x] - behind[x]
        total += two * here[x] - here[max(x - 1, 0)] - here[min(x + 1, last)]
        out[x] = support[x] * (weight * out[x] + scale * total)
    product = 0.0
    for x in range(len(here)):
        product += np.float64(here[x] * out[x])
    return product


@njit(nogil=True, cache=True)
def bend_slices(x, before, after, scale, weight, support, start, stop, out, products):  # type: ignore[no-untyped-def]
    """``out`` becomes ``support (weight out - scale div grad x)``, ``products (z,)`` those of x and it.

    As `add_laplacian`, with ``support (y, x)`` of every slice.
    """
    depth, height, _ = x.shape
    for z in range(start, stop):
        total = 0.0
        for y in range(height):
            here = x[z, y]
            ahead = x[z - 1, y] if z > 0 else before[0, y] if len(before) else here
            behind = x[z + 1, y] if z + 1 < depth else after[0, y] if len(after) else here
            up, below = x[z, max(y - 1, 0)], x[z, min(y + 1, height - 1)]
            total += _bend_row(here, up, below, ahead, behind, scale, weight, support[y], out[z, y])
        products[z] = total


@njit(nogil=True, cache=True)
def solve_columns(values, diagonal, coupling, pivots):  # type: ignore[no-untyped-def]
    """Solve in place ``diagonal v(z) + coupling sum over neighbours (v(z) - v(neighbour)) = value(z)``.

    By elimination (Thomas's algorithm); the neighbours are those along z, of which the ends have one.
    ``values (z, row, column, 2)`` are complex, ``diagonal (row, column)`` is positive, ``pivots (z, column)``
    is a work space.
    """
    depth, rows, columns, _ = values.shape
    one = values.dtype.type(1.0)
    for row in range(rows):
        for z in range(depth):
            ends = coupling * values.dtype.type((z > 0) + (z + 1 < depth))
            for x in range(columns):
                pivot = diagonal[row, x] + ends
                re, im = values[z, row, x, 0], values[z, row, x, 1]
                if z > 0:
                    pivot -= coupling * coupling * pivots[z - 1, x]
                    re += coupling * values[z - 1, row, x, 0]
                    im += coupling * values[z - 1, row, x, 1]
                pivot = one / pivot
                pivots[z, x] = pivot
                values[z, row, x, 0] = re * pivot
                values[z, row, x, 1] = im * pivot
        for z in range(depth - 2, -1, -1):
            for x in range(columns):
                factor = coupling * pivots[z, x]
                values[z, row, x, 0] += factor * values[z + 1, row, x, 0]
                values[z, row, x, 1] += factor * values[z + 1, row, x, 1]
