"""The quadrature points of all poses: view directions x in-plane angles x shifts, and their weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.geometry.poses import direction_matrices
from manyviews.geometry.quadrature import Quadrature

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class PoseLattice:
    """Product of three quadratures; weights hold the prior of the pose, so that each three add up to 1.

    ``directions (D, 3)`` are unit vectors, the third rows of poses; ``in_plane (K,)`` is psi in degrees;
    ``shifts (L, 2)`` are origins (x, y) in pixels of the images: what centres an image when applied to it.
    With each go the logarithms of its weights, and the typical distance of neighbours, radians or pixels.
    """

    directions: NDArray[np.float64]
    log_direction: NDArray[np.float64]
    in_plane: NDArray[np.float64]
    log_in_plane: NDArray[np.float64]
    shifts: NDArray[np.float64]
    log_shift: NDArray[np.float64]
    direction_spacing: float
    in_plane_spacing: float
    shift_spacing: float

    @classmethod
    def of(cls, quadrature: Quadrature, pixel_size: float) -> PoseLattice:
        """The points of a quadrature, for images of a pixel size in angstrom."""
        shifts = quadrature.shifts / pixel_size
        spacing = math.radians(quadrature.spacing_degrees)
        return cls(
            quadrature.directions,
            np.log(quadrature.direction_weights),
            quadrature.in_plane_degrees,
            np.log(quadrature.in_plane_weights),
            shifts,
            np.log(quadrature.shift_weights),
            spacing,
            spacing,
            _least_gap(shifts[:, 0]),
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Directions, in-plane angles, shifts."""
        return len(self.directions), len(self.in_plane), len(self.shifts)

    @property
    def size(self) -> int:
        """Points in all."""
        directions, in_plane, shifts = self.shape
        return directions * in_plane * shifts

    def rotations(self, directions: Indices, in_plane: Indices) -> NDArray[np.float32]:
        """Poses ``(directions * in_plane, 3, 3)``, the in-plane angle running fastest."""
        upright, turn = self._parts
        poses = np.matmul(turn[in_plane], upright[directions][:, None])
        return np.asarray(poses.reshape(-1, 3, 3), dtype=np.float32)

    @cached_property
    def _parts(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Every direction's pose at psi 0, and every turn in the plane."""
        up = np.array([0.0, 0.0, 1.0])
        return direction_matrices(self.directions), direction_matrices(up, self.in_plane)

    def phases(self, shifts: Indices, points: NDArray[Any], box: int) -> NDArray[np.complex64]:
        """``(shifts, P)`` what the transform of a centred image is multiplied by to be displaced."""
        turns = self.shifts[shifts] @ (points.T / box)
        return np.exp(np.asarray(2j * np.pi * turns, dtype=np.complex64))


def _least_gap(values: NDArray[np.float64]) -> float:
    """Distance of neighbours on an axis of a product rule, where it is densest; 1 for a single value."""
    apart = np.diff(np.unique(np.round(values, 9)))
    return float(apart.min()) if len(apart) else 1.0
