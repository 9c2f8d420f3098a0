"""Whether views of a scan are tilted towards the beam ("pitched"), each by an angle of its own.

A specimen that settles, or a stage that nods, tilts from one view to the next. As angles are
(`manyviews.nano.angles`), pitch is looked for with large pixels, on half of the rows, and taken only where it
explains most of what rigid views leave beyond noise in the other half.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.nano.rigid.angle_fit import RigidScan, left_by_rows
from manyviews.nano.rigid.explained import Explained, unchanged
from manyviews.nano.rigid.pitch_fit import fit_pitch, left_with_pitch

Float64 = NDArray[np.float64]

_STEPS = 8


@dataclass(frozen=True)
class FoundPitch(Explained):
    """``pitch_degrees (view,)``, and why it is, or is not, to be taken."""

    pitch_degrees: Float64

    @property
    def taken(self) -> bool:
        """Whether it explains most of what is left."""
        return self.more_than_chance and self.most_of_it


def find_pitch(scan: RigidScan, shifts: Float64, sigma: float) -> FoundPitch | None:
    """From ``shifts (view, 2)`` on; ``sigma`` is the noise of a pixel.

    None: there are too few numbers to tell, or views without pitch leave nothing but noise.
    """
    given = unchanged(scan, shifts, sigma)
    if given is None:
        return None
    found = fit_pitch(scan, given.motion, given.weights, given.told, _STEPS)
    share = float(found.weights.mean())
    return FoundPitch(
        without=left_by_rows(scan, given.motion, found.weights, given.checked),
        found=left_with_pitch(scan, found, given.checked),
        noise=given.noise * share,
        by_chance=sigma**2 * len(shifts) * share,
        pitch_degrees=found.pitch_degrees,
    )


def pitch_figures(pitch_degrees: Float64 | None) -> dict[str, object]:
    """For the summary; nothing where no view is pitched."""
    if pitch_degrees is None:
        return {}
    return {
        "pitch_from_degrees": float(pitch_degrees.min()),
        "pitch_to_degrees": float(pitch_degrees.max()),
    }
