"""How deep along the beam the specimen lies where a view shows it: what its defocus varies by.

A specimen point X has the depth ``(P X)_z``, angstrom along the beam from the plane through the volume
centre, P the matrix of the view. For one tilt about y an image point u shows the points of height z of the
specimen at the depth ``-u tan(tilt) + z / cos(tilt)``. The defocus there is that of the view plus ``hand``
times the depth; ``hand``, 1 or -1, depends on microscope and software and is RELION's rlnTomoHand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError

Float64 = NDArray[np.float64]
Real = NDArray[np.floating[Any]]

# Area of the specimen plane in the image over that in the specimen; below it the plane is seen edge-on.
_LEAST_AREA = 0.01


@dataclass(frozen=True)
class DepthPlane:
    """Depth of specimen points by where an image shows them: ``slope . (u, v) + rise * z + offset``.

    Attributes
    ----------
    slope
        ``(2,)``, along u and v.
    rise
        Depth for each unit of height z in the specimen.
    offset
        Angstrom.
    """

    slope: Float64
    rise: float
    offset: float

    @classmethod
    def of(cls, matrix: Float64) -> DepthPlane:
        """The depth in a view with the matrix ``(4, 4)`` of `TiltGeometry`.

        `InputError` if the view sees the plane of the specimen edge-on.
        """
        plane, height, shift = matrix[:2, :2], matrix[:2, 2], matrix[:2, 3]
        if abs(np.linalg.det(plane)) < _LEAST_AREA:
            raise InputError(
                "a view tilted by about 90 degrees has no defocus that goes with its pixels",
                where="--ctf",
                fix="leave it out with --exclude",
            )
        slope: Float64 = np.asarray(np.linalg.solve(plane.T, matrix[2, :2]), dtype=np.float64)
        rise = float(matrix[2, 2] - slope @ height)
        return cls(slope, rise, float(matrix[2, 3] - slope @ shift))

    def span(self, image_shape: tuple[int, int], pixel_size: float) -> tuple[float, float]:
        """Least and greatest of `on_pixels`, which are at corners."""
        height, width = image_shape
        v = (np.array([0, height - 1]) - height // 2) * pixel_size
        u = (np.array([0, width - 1]) - width // 2) * pixel_size
        corners = self._at(u, v)
        return float(corners.min()), float(corners.max())

    def on_pixels(self, image_shape: tuple[int, int], pixel_size: float) -> Float64:
        """Depth in angstrom of the plane z = 0 at every pixel, ``(y, x)``."""
        height, width = image_shape
        v = (np.arange(height) - height // 2) * pixel_size
        u = (np.arange(width) - width // 2) * pixel_size
        return self._at(u, v)

    def _at(self, u: Real, v: Real) -> Float64:
        """``(v, u)``."""
        depth: Float64 = self.slope[0] * u[None, :] + self.slope[1] * v[:, None] + self.offset
        return depth
