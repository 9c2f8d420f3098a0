"""Where in a volume the parts of a simulated specimen may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError

Float64 = NDArray[np.float64]
Outline = Literal["rectangle", "circle"]

MARGIN_SIGMAS = 4.0
"""How far a Gaussian keeps from the faces; it has fallen to 3e-4 of its peak there."""


@dataclass(frozen=True)
class Box:
    """A box of half sizes ``(3,)`` (x, y, z) around the centre, in widths of the finest detail.

    The outline "circle" leaves only the largest circle of it in x and y.
    """

    half: Float64
    outline: Outline = "rectangle"

    @classmethod
    def of_volume(
        cls,
        volume_shape: tuple[int, int, int],
        unit_pixels: float,
        *,
        lateral_extent: float = 1.0,
        outline: Outline = "rectangle",
    ) -> Box:
        """The box of a volume ``(z, y, x)``, ``lateral_extent`` times larger in x and y.

        Raises
        ------
        InputError
            If not even one Gaussian of sigma ``unit_pixels`` fits, or a number is impossible.
        """
        if not unit_pixels > 0 or not lateral_extent >= 1:
            raise InputError(
                f"a finest detail of {unit_pixels} pixels in an extent of {lateral_extent} is not possible",
                fix="give a width above zero and an extent of at least 1",
            )
        least = int(np.ceil(2 * MARGIN_SIGMAS * unit_pixels)) + 2
        if min(volume_shape) < least:
            raise InputError(
                f"a volume of {' x '.join(map(str, volume_shape[::-1]))} is too small for a specimen",
                fix=f"make every side at least {least} pixels",
            )
        # The voxels furthest from the centre are n // 2 below and (n - 1) // 2 above it.
        half = np.array([(n - 1) // 2 for n in volume_shape[::-1]], dtype=np.float64) / unit_pixels
        half[:2] *= lateral_extent
        return cls(half, outline)

    def holds(self, points: Float64, reach: Float64) -> NDArray[np.bool_]:
        """Which of the points ``(n, 3)`` keep their ``(n, 3)`` reach from the outline."""
        inside = np.all(np.abs(points) + reach <= self.half, axis=1)
        if self.outline == "circle":
            radius = np.hypot(points[:, 0], points[:, 1]) + np.max(reach[:, :2], axis=1)
            inside &= radius <= np.min(self.half[:2])
        return np.asarray(inside)

    def area(self) -> float:
        """Area in x and y of the box around the outline."""
        return float(4 * self.half[0] * self.half[1])

    def random_point(self, rng: np.random.Generator, reach: float) -> Float64:
        """A point whose surroundings fit, ``(3,)``; in the middle of an axis along which they do not."""
        room = np.maximum(self.half - reach, 0.0)
        point = rng.uniform(-room, room)
        while self.outline == "circle" and np.hypot(*point[:2]) > min(room[:2]):
            point = rng.uniform(-room, room)
        return np.asarray(point, dtype=np.float64)
