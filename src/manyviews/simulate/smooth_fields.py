"""Smooth random displacements, of an image or of a volume: a few random vectors and splines between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Float64 = NDArray[np.float64]

_STEP = 1e-3  # of the distance of two control points, for slopes
_SAMPLES = 17  # along each axis, among which the longest displacement is looked for


@dataclass(frozen=True)
class SmoothField:
    """Vectors at any place of a box, by cubic splines through a lattice of control points.

    ``coefficients (vector, lattice...)`` are those of the splines; the lattice fills the box with half sides
    ``half (axis,)`` about the origin. The longest vector in the box has length 1.
    """

    coefficients: Float64
    half: Float64

    @classmethod
    def random(cls, rng: np.random.Generator, half: Float64, points: int = 3) -> SmoothField:
        """Control points drawn evenly from -1 to 1, ``points`` along each axis, as many parts as axes."""
        axes = len(half)
        values = rng.uniform(-1.0, 1.0, (axes, *(points,) * axes))
        field = cls(np.stack([_splines(part) for part in values]), np.asarray(half, dtype=np.float64))
        lines = [np.linspace(-side, side, _SAMPLES) for side in half]
        places = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, axes)
        longest = float(np.sqrt((field.at(places) ** 2).sum(axis=1)).max())
        return cls(field.coefficients / longest, field.half)

    def at(self, places: Float64) -> Float64:
        """``(n, vector)`` at places ``(n, axis)``; beyond the box the field is mirrored."""
        size = np.array(self.coefficients.shape[1:]) - 1
        index = ((places / self.half + 1) / 2 * size).T
        found = [_read(part, index) for part in self.coefficients]
        return np.stack(found, axis=1)

    def slopes(self, places: Float64) -> Float64:
        """``(n, vector, axis)`` derivatives at places ``(n, axis)``."""
        steps = _STEP * 2 * self.half / (np.array(self.coefficients.shape[1:]) - 1)
        columns = []
        for axis, step in enumerate(steps):
            move = np.zeros(len(self.half))
            move[axis] = step
            columns.append((self.at(places + move) - self.at(places - move)) / (2 * step))
        return np.stack(columns, axis=2)


def _splines(values: Float64) -> Float64:
    return np.asarray(ndimage.spline_filter(values, order=3, mode="mirror"), dtype=np.float64)


def _read(coefficients: Float64, index: Float64) -> Float64:
    found = ndimage.map_coordinates(coefficients, index, order=3, mode="mirror", prefilter=False)
    return np.asarray(found, dtype=np.float64)
