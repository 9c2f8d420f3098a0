"""Projections of slices that turn about an axis at right angles to them, at any angles.

By the projection-slice theorem the transform of a projection is a line through the transform of the slice
(`manyviews.operators.polar_grid`); one short transform a view takes it to the detector. The work is that of a
few transforms a slice, however many views there are, where sums along rays take as many as there are views.

A projection is that of the slice's trigonometric interpolant, to the Nyquist frequency: the sum of voxels
along rays, with a pixel as the unit of length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
import torch
from numpy.typing import ArrayLike, NDArray

from manyviews.errors import InputError
from manyviews.kernels import polar_cpu
from manyviews.operators.linear import LinearOperator, register, require_shape
from manyviews.operators.polar_grid import PolarGrid, even_fast_length, taps_for
from manyviews.operators.slice_threads import each_block, in_place

Array = NDArray[Any]
TOGETHER = polar_cpu.WIDTH
_CHUNK_BYTES = 2**20  # points of a few views, which stay in the second-level cache


class Radon(LinearOperator):
    """Volume ``(z, y, x)`` to projections ``(view, z, column)``, with its exact transpose.

    A voxel at x, y, counted from ``size // 2``, lies at column ``center + x cos(theta) + y sin(theta)``. What
    falls off the detector is lost; nothing comes in again on its other side. Volumes and projections may lie
    in files: sixteen slices a thread are in memory.

    Parameters
    ----------
    theta_degrees
        ``(views,)``, in any order and range.
    rows, columns
        Of the detector; a volume has as many slices as rows.
    center
        Column of the rotation axis, counted in pixel centres from 0.
    size
        Side of a slice in pixels; None: ``columns``.
    epsilon
        Relative error of white noise in L2; below 2.5e-5 there is no better.
    threads
        0: as many as torch uses.

    Raises
    ------
    InputError
        If there is no angle, or if an angle, the centre or a size is no number that can be used.
    """

    def __init__(
        self,
        theta_degrees: ArrayLike,
        rows: int,
        columns: int,
        center: float,
        *,
        size: int | None = None,
        epsilon: float = 1e-3,
        threads: int = 0,
    ) -> None:
        theta = np.array(theta_degrees, dtype=np.float64).reshape(-1)
        side = columns if size is None else size
        _require_usable(theta, rows, columns, side, center, epsilon)
        self.theta_degrees = theta
        self.center = float(center)
        self.epsilon = epsilon
        self.threads = threads
        self.domain = (rows, side, side)
        self.range = (len(theta), rows, columns)
        # a voxel in a corner must not come in again on the other side
        reach = side / math.sqrt(2.0) + max(center, columns - 1 - center)
        line = even_fast_length(max(columns, math.ceil(reach) + 1))
        self.polar = PolarGrid(theta, side, line, taps_for(epsilon))
        self._tables: dict[np.dtype[Any], _Tables] = {}

    def forward(self, x: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Project ``(z, y, x)``; ``out (view, z, column)`` is for the result, None: a new tensor."""
        require_shape(x, self.domain, "the Radon transform")
        images = x.new_empty(self.range) if out is None else out
        volume, written = x.detach().numpy(), images.detach().numpy()
        self._each_block(volume.dtype, lambda work, z: work.project(volume[z], written[:, z]))
        return images

    def adjoint(self, y: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Back-project ``(view, z, column)``; ``out (z, y, x)`` is for the result, None: a new tensor."""
        require_shape(y, self.range, "the adjoint of the Radon transform")
        volume = y.new_empty(self.domain) if out is None else out
        images, written = y.detach().numpy(), volume.detach().numpy()
        self._each_block(images.dtype, lambda work, z: work.back_project(images[:, z], written[z]))
        return volume

    def _each_block(self, dtype: np.dtype[Any], task: Callable[[_Workspace, slice], None]) -> None:
        """Call ``task`` for all blocks of slices, each with a work space that no other thread has."""
        if dtype not in self._tables:
            self._tables[dtype] = _Tables.of(self.polar, self.center, dtype)
        tables = self._tables[dtype]
        each_block(self.domain[0], TOGETHER, self.threads, lambda: _Workspace(self.polar, tables), task)


@dataclass(frozen=True)
class _Tables:
    """What all slices share, in the precision of the work.

    ``first``, ``across`` and ``down`` are `PolarGrid.points` of all views, ``phases (line, 2)`` move the axis
    to its column, ``factors (size,)`` and ``places (size,)`` are of pixels.
    """

    first: NDArray[np.int64]
    across: Array
    down: Array
    phases: Array
    factors: Array
    places: NDArray[np.int64]

    @classmethod
    def of(cls, polar: PolarGrid, center: float, dtype: np.dtype[Any]) -> _Tables:
        count = len(polar.theta_degrees) * polar.line
        first = np.empty(count, np.int64)
        across, down = (np.empty((count, polar.taps), dtype) for _ in range(2))
        for start in range(0, len(polar.theta_degrees), 64):
            part = slice(start * polar.line, (start + 64) * polar.line)
            first[part], across[part], down[part] = polar.points(slice(start, start + 64))
        turns = -2.0 * np.pi * center * scipy.fft.fftfreq(polar.line)
        phases = np.stack([np.cos(turns), np.sin(turns)], axis=1)
        return cls(first, across, down, phases.astype(dtype), polar.factors.astype(dtype), polar.places)


class _Workspace:
    """The grid and a few views of points of sixteen slices."""

    def __init__(self, polar: PolarGrid, tables: _Tables) -> None:
        self.polar, self.tables = polar, tables
        dtype = tables.across.dtype
        self.grid = np.zeros((polar.side, polar.side, TOGETHER), dtype)
        views = len(polar.theta_degrees)
        self.together = max(1, min(views, _CHUNK_BYTES // (TOGETHER * polar.line * dtype.itemsize)))
        self.buffer = np.empty((self.together, polar.line, TOGETHER), dtype)

    def project(self, slices: Array, images: Array) -> None:
        """``slices (s, y, x)`` to ``images (view, s, column)``."""
        t, grid = self.tables, self.grid
        inner = self._inner()
        inner[...] = 0.0
        polar_cpu.pack(slices, t.factors, t.places, grid)
        for rows in self._filled_rows():
            in_place(scipy.fft.fft, inner[rows], 1)
        in_place(scipy.fft.fft, inner, 0)
        polar_cpu.wrap(grid, self.polar.margin)
        for views, part, points in self._chunks():
            flat = points.reshape(-1, TOGETHER)
            polar_cpu.gather(grid, t.first[part], t.across[part], t.down[part], t.phases, flat)
            lines = points.view(inner.dtype)
            in_place(scipy.fft.ifft, lines, 1)
            polar_cpu.write_columns(points, images[views])

    def back_project(self, images: Array, slices: Array) -> None:
        """``images (view, s, column)`` to ``slices (s, y, x)``."""
        t, grid = self.tables, self.grid
        grid[...] = 0.0
        for views, part, points in self._chunks():
            polar_cpu.take_columns(images[views], points)
            in_place(_forward_over_size, points.view(self._inner().dtype), 1)
            flat = points.reshape(-1, TOGETHER)
            polar_cpu.scatter(grid, t.first[part], t.across[part], t.down[part], t.phases, flat)
        polar_cpu.unwrap(grid, self.polar.margin)
        inner = self._inner()
        in_place(_backward_unscaled, inner, 0)
        for rows in self._filled_rows():
            in_place(_backward_unscaled, inner[rows], 1)
        polar_cpu.unpack(grid, t.factors, t.places, slices)

    def _inner(self) -> Array:
        """The cyclic grid of eight complex pairs, without its margins."""
        margin, pairs = self.polar.margin, np.result_type(self.grid.dtype, np.complex64)
        return self.grid.view(pairs)[margin:-margin, margin:-margin]

    def _filled_rows(self) -> tuple[slice, slice]:
        """Rows of the cyclic grid that hold pixels: from the origin on, and before it."""
        before = self.polar.size // 2
        return slice(0, self.polar.size - before), slice(self.polar.grid - before, self.polar.grid)

    def _chunks(self) -> Iterator[tuple[slice, slice, Array]]:
        """Views, their points in the tables, and room for them."""
        line, views = self.polar.line, len(self.polar.theta_degrees)
        for start in range(0, views, self.together):
            stop = min(start + self.together, views)
            yield slice(start, stop), slice(start * line, stop * line), self.buffer[: stop - start]


def _forward_over_size(values: Array, **options: Any) -> Array:
    found: Array = scipy.fft.fft(values, norm="forward", **options)
    return found


def _backward_unscaled(values: Array, **options: Any) -> Array:
    found: Array = scipy.fft.ifft(values, norm="forward", **options)
    return found


def _require_usable(
    theta: NDArray[np.float64], rows: int, columns: int, size: int, center: float, epsilon: float
) -> None:
    if not len(theta) or not np.isfinite(theta).all():
        raise InputError(
            "the Radon transform needs angles, all of them finite", fix="give one a view, in degrees"
        )
    if min(rows, columns, size) < 1:
        raise InputError(
            f"a detector of {rows} x {columns} pixels and slices of {size} x {size} cannot be projected",
            fix="give sizes of at least 1",
        )
    if not -columns < center < 2 * columns:
        raise InputError(
            f"the rotation axis at column {center:g} is far off a detector of {columns} columns",
            fix="give the centre in pixels, counted from 0",
        )
    if not 0.0 < epsilon < 1.0:
        raise InputError(f"epsilon {epsilon:g} is no relative error", fix="give one between 0 and 1, as 1e-3")


@register("radon")
def _test_instance(case: int) -> LinearOperator:
    if case == 0:
        return Radon([0.0, 33.0, 141.0, 77.5, 370.0], 3, 9, 3.7)
    if case == 1:
        return Radon(np.arange(7) * 77.0, 18, 12, 5.5, size=10)
    return Radon([-20.0, 200.0, 90.0], 1, 6, 2.0, size=13, threads=2)
