"""Reading a grid of frequencies at points anywhere, and adding to it, for sixteen slices at once, on the CPU.

All slices are read at the same points. So eight complex grids, of two slices each, lie side by side in
memory: the weights of a point are looked up once, and each tap adds to sixteen numbers in registers
(`manyviews.kernels.lanes`). Nothing here is parallel; callers take a block of slices a thread, so results do
not depend on the number of threads.

A grid is ``(G + 2 margin, G + 2 margin, 16)``: what is read beyond its edges is copied there by `wrap`, and
what is added there is brought back by `unwrap`. Lanes 2i and 2i + 1 are real and imaginary part of pair i.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from manyviews.kernels.lanes import WIDTH, add_scaled, load, quarter_turn, scale_add, store, zeros

__all__ = ["WIDTH", "gather", "pack", "scatter", "take_columns", "unpack", "unwrap", "wrap", "write_columns"]

Real = NDArray[np.floating[Any]]
Places = NDArray[np.int64]


@njit(nogil=True, cache=True)
def _gather(flat, row, first, across, down, phases, taps, points):  # type: ignore[no-untyped-def]
    width = len(taps)
    size = len(phases)
    out = points.reshape(points.size)
    for p in range(len(first)):
        total = zeros(flat)
        for a in range(width):
            line = zeros(flat)
            for b in range(width):
                line = add_scaled(line, across[p, b], flat, first[p] + a * row + b * WIDTH)
            total = scale_add(down[p, a], line, total)
        cosine, sine = phases[p % size, 0], phases[p % size, 1]
        total = scale_add(cosine, total, scale_add(sine, quarter_turn(total), zeros(flat)))
        store(out, p * WIDTH, total)


def gather(grid: Real, first: Places, across: Real, down: Real, phases: Real, points: Real) -> None:
    """Read the grid at points: ``points (P, 16)`` are sums of taps, times a phase each.

    Parameters
    ----------
    grid
        ``(rows, columns, 16)``, contiguous.
    first
        Index of the first tap of every point, ``(P,)``, in the flat grid.
    across, down
        Weights of the taps along a row and from row to row, ``(P, taps)``.
    phases
        Cosine and sine, ``(size, 2)``; point p takes that of ``p % size``.
    """
    taps = tuple(range(across.shape[1]))  # their number is a constant to the compiler
    _gather(grid.reshape(-1), grid.shape[1] * WIDTH, first, across, down, phases, taps, points)


@njit(nogil=True, cache=True)
def _scatter(flat, row, first, across, down, phases, taps, points):  # type: ignore[no-untyped-def]
    width = len(taps)
    size = len(phases)
    values = points.reshape(points.size)
    for p in range(len(first)):
        cosine, sine = phases[p % size, 0], phases[p % size, 1]
        value = load(values, p * WIDTH)
        value = scale_add(cosine, value, scale_add(-sine, quarter_turn(value), zeros(flat)))
        for a in range(width):
            for b in range(width):
                at = first[p] + a * row + b * WIDTH
                store(flat, at, scale_add(down[p, a] * across[p, b], value, load(flat, at)))


def scatter(grid: Real, first: Places, across: Real, down: Real, phases: Real, points: Real) -> None:
    """The exact transpose of `gather`: add ``points``, times the conjugate phase, to the grid in place."""
    taps = tuple(range(across.shape[1]))
    _scatter(grid.reshape(-1), grid.shape[1] * WIDTH, first, across, down, phases, taps, points)


def wrap(grid: Real, margin: int) -> None:
    """Copy what lies beyond the edges of a cyclic grid into its margins."""
    size = grid.shape[0] - 2 * margin
    grid[:, :margin] = grid[:, size : size + margin]
    grid[:, size + margin :] = grid[:, margin : 2 * margin]
    grid[:margin] = grid[size : size + margin]
    grid[size + margin :] = grid[margin : 2 * margin]


def unwrap(grid: Real, margin: int) -> None:
    """Add the margins to where they belong on a cyclic grid: the transpose of `wrap`."""
    size = grid.shape[0] - 2 * margin
    grid[size : size + margin] += grid[:margin]
    grid[margin : 2 * margin] += grid[size + margin :]
    grid[:, size : size + margin] += grid[:, :margin]
    grid[:, margin : 2 * margin] += grid[:, size + margin :]


@njit(nogil=True, cache=True)
def pack(slices, factors, places, grid):  # type: ignore[no-untyped-def]
    """Put up to sixteen ``slices (s, y, x)`` side by side: ``grid[places[y], places[x], s]``.

    Each is multiplied by ``factors[y] factors[x]``. Lanes without a slice become zero; the rest of the grid
    is left alone.
    """
    count, height, width = slices.shape
    for y in range(height):
        row = grid[places[y]]
        for s in range(WIDTH):  # a row of the grid stays in the first-level cache meanwhile
            if s < count:
                for x in range(width):
                    row[places[x], s] = slices[s, y, x] * (factors[y] * factors[x])
            else:
                for x in range(width):
                    row[places[x], s] = 0


@njit(nogil=True, cache=True)
def unpack(grid, factors, places, slices):  # type: ignore[no-untyped-def]
    """The transpose of `pack`: overwrites ``slices``."""
    count, height, width = slices.shape
    for y in range(height):
        row = grid[places[y]]
        for s in range(count):
            for x in range(width):
                slices[s, y, x] = row[places[x], s] * (factors[y] * factors[x])


@njit(nogil=True, cache=True)
def write_columns(points, images):  # type: ignore[no-untyped-def]
    """``images (view, s, column)`` from the first columns of ``points (view, columns, 16)``."""
    views, count, columns = images.shape
    for view in range(views):
        for s in range(count):
            for column in range(columns):
                images[view, s, column] = points[view, column, s]


@njit(nogil=True, cache=True)
def take_columns(images, points):  # type: ignore[no-untyped-def]
    """The transpose of `write_columns`: overwrites all of ``points``, with zeros where there is nothing."""
    views, count, columns = images.shape
    points[:] = 0
    for view in range(views):
        for s in range(count):
            for column in range(columns):
                points[view, column, s] = images[view, s, column]
