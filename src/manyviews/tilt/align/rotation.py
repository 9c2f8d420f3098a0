"""Whether views are turned in their planes one by one: rows that were not fitted must say so.

Frames are divided into bands along the axis. Motions are found from every second band, without and with a
rotation for each view; then a volume of the other bands is made with each, and what it leaves of these is
compared. A volume is as free with both, so that only true motions help.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from manyviews.geometry.views import TiltGeometry
from manyviews.tilt.align.axis import left_over
from manyviews.tilt.align.level import Freedom, Level

Float64 = NDArray[np.float64]

_BAND = 4  # rows
_STEPS = 4
_LEAST_GAIN = 0.01  # of what is left


@dataclass(frozen=True)
class RotationTest:
    """What is left of the bands kept apart, without and with a rotation for each view."""

    without: float
    with_rotation: float

    @property
    def helps(self) -> bool:
        """Whether the rotations are true ones."""
        return self.without - self.with_rotation > _LEAST_GAIN * self.without


def rotation_test(level: Level, geometry: TiltGeometry, weights: Float64, freedom: Freedom) -> RotationTest:
    """Compare the two on a level; ``geometry`` in its pixels, ``freedom`` without rotations."""
    fitted_rows = (np.arange(level.shape[0]) // _BAND % 2 == 0).astype(np.float32)
    told, checked = (replace(level, rows=rows) for rows in (fitted_rows, 1 - fitted_rows))
    left = []
    for rotation in (False, True):
        fitted = told.start(geometry, weights)
        for _ in range(_STEPS + 1):
            fitted = told.step(fitted, replace(freedom, rotation=rotation))
        left.append(left_over(checked, fitted.geometry, weights, 1))
    return RotationTest(*left)
