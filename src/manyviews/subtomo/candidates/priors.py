"""What is known of a particle's orientation before the search: angles that are expected, and how narrowly.

A filament's boxes, with the filament along z of the map, are expected at a tilt of 90 degrees and at the psi
of the filament's direction in the tomogram; rot, the turn about the filament, is free.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.geometry.poses import matrices_to_euler

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_WIDEST = 1e3  # degrees: what is free


@dataclass(frozen=True)
class OrientationPriors:
    """``angles (N, 3)`` rot, tilt, psi in degrees, NaN where free, and their standard deviations ``sigmas``.

    ``cut`` standard deviations away and more, an orientation is out of the question, unless all are.
    """

    angles: Float64
    sigmas: Float64
    cut: float = 3.0

    def select(self, chosen: Int64) -> OrientationPriors:
        """Those of some particles."""
        return OrientationPriors(self.angles[chosen], self.sigmas[chosen], self.cut)

    def log(self, rotations: Float64, symmetry: Float64, slack_degrees: float) -> Float64:
        """``(N, M)`` log prior of poses ``(M, 3, 3)``, minus infinity where they are out of the question.

        Of poses that ``symmetry (n, 3, 3)`` makes equal the likeliest counts. ``slack_degrees`` is how far
        apart the poses lie: no nearer may be asked for.
        """
        best = np.full((len(self.angles), len(rotations)), -np.inf)
        for turn in symmetry:
            euler = matrices_to_euler(rotations @ turn)
            best = np.maximum(best, self._log(euler, slack_degrees))
        return np.where(np.isfinite(best).any(axis=1, keepdims=True), best, 0.0)

    def _log(self, euler: Float64, slack: float) -> Float64:
        known = np.isfinite(self.angles)
        sigma = np.hypot(np.where(known, np.nan_to_num(self.sigmas, nan=_WIDEST), _WIDEST), slack / 2)
        expected = np.where(known, self.angles, 0.0)
        off = (euler[None] - expected[:, None] + 180.0) % 360.0 - 180.0
        relative = np.where(known[:, None], off / sigma[:, None], 0.0)
        log = -0.5 * np.sum(relative**2, axis=2)
        return np.where(np.any(np.abs(relative) > self.cut, axis=2), -np.inf, log)
