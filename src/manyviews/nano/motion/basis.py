"""A displacement of the specimen over space and time, of few numbers.

    w(X, t) = sum_m T_m(t) sum_k c_mk B_k(X)

with cubic B-splines B_k on a coarse grid and polynomials T_m of the time, orthogonal over the views and
without a constant: the mean of w over the scan is zero everywhere. So the specimen that is found is the one
in the middle of its motion, and a map of the specimen that stays the same for the whole scan, of which no
projection tells, is no part of w.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


def time_functions(views: int, degree: int) -> Float64:
    """``(view, m)`` polynomials of degree 1 to ``degree`` of time, orthogonal, of mean square 1."""
    time = np.linspace(-1.0, 1.0, views)
    powers = np.polynomial.legendre.legvander(time, degree)
    found, _ = np.linalg.qr(powers)
    return np.asarray(found[:, 1:] * np.sqrt(views))


@dataclass(frozen=True)
class Splines:
    """Cubic B-splines along an axis, at places of it: ``values (place, k)``, ``slopes (place, k)``."""

    values: Float64
    slopes: Float64

    @classmethod
    def at(cls, places: Float64, half: float, cells: int) -> Splines:
        """``cells + 3`` splines over the axis from ``-half`` to ``half``, in the units of ``places``."""
        spacing = 2.0 * half / cells
        where = (np.asarray(places, np.float64) + half) / spacing
        first = np.clip(np.floor(where), 0, cells - 1).astype(np.int64)
        t = where - first
        weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 1 + 3 * t * (1 + t - t * t), t**3]) / 6
        slopes = np.stack([-((1 - t) ** 2), 3 * t**2 - 4 * t, 1 + 2 * t - 3 * t * t, t**2]) / 2
        found = [np.zeros((len(where), cells + 3)) for _ in range(2)]
        for j in range(4):
            found[0][np.arange(len(where)), first + j] = weights[j]
            found[1][np.arange(len(where)), first + j] = slopes[j] / spacing
        return cls(*found)


@dataclass(frozen=True)
class MotionBasis:
    """Splines along z, y and x at the voxels of a level, whose sides are ``voxel`` pixels of the detector.

    Displacements are in voxels of the level, coefficients in pixels: they are the same at all levels.
    """

    along: tuple[Splines, Splines, Splines]
    voxel: float

    @classmethod
    def of(cls, shape: tuple[int, int, int], full: tuple[int, int], cells: int, voxel: int) -> MotionBasis:
        """Of a volume of ``shape`` for a scan of ``full`` rows and columns of the detector, binned."""
        rows, columns = full
        return cls.over(shape, full, (max(1, round(cells * rows / columns)), cells), voxel)

    @classmethod
    def over(
        cls, shape: tuple[int, int, int], full: tuple[int, int], cells: tuple[int, int], voxel: int
    ) -> MotionBasis:
        """The same with ``cells`` along z, and along y and x."""
        depth, _, size = shape
        rows, columns = full
        z = np.asarray((np.arange(depth) + 0.5) * voxel - 0.5 * rows, np.float64)
        x = np.asarray((np.arange(size) - size // 2) * float(voxel), np.float64)
        tall = Splines.at(z, 0.5 * rows, cells[0])
        wide = Splines.at(x, 0.5 * columns, cells[1])
        return cls((tall, wide, wide), float(voxel))

    @property
    def knots(self) -> tuple[int, int, int]:
        """Splines along z, y, x."""
        z, y, x = (part.values.shape[1] for part in self.along)
        return z, y, x

    def expand(self, knots: Float64, sloped: int | None = None) -> Float32:
        """``(part, z, y, x)`` of ``knots (part, kz, ky, kx)`` in voxels; its slopes along an axis if told."""
        z, y, x = self._matrices(sloped)
        found = knots.astype(np.float32) / np.float32(self.voxel)
        parts, deep, wide, _ = found.shape
        found = z @ found.reshape(parts, deep, -1)
        found = y @ found.reshape(parts, len(z), wide, -1)
        return np.asarray(found @ x.T, np.float32)

    def contract(self, field: Float32, sloped: int | None = None) -> Float64:
        """The transpose of `expand`: ``(part, kz, ky, kx)``."""
        z, y, x = self._matrices(sloped)
        found = y.T @ (field @ x)
        found = z.T @ found.reshape(len(field), len(z), -1)
        return found.reshape(len(field), *self.knots).astype(np.float64) / self.voxel

    def _matrices(self, sloped: int | None) -> list[Float32]:
        chosen = [part.slopes * self.voxel if axis == sloped else part.values for axis, part in
                  enumerate(self.along)]  # fmt: skip
        return [matrix.astype(np.float32) for matrix in chosen]
