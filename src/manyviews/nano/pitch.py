"""Whether views of a scan are tilted towards the beam ("pitched"), each by an angle of its own.

A specimen that settles, or a stage that nods, tilts from one view to the next. As angles are
(`manyviews.nano.angles`), pitch is looked for with large pixels, on half of the rows, and taken only where it
explains most of what rigid views leave beyond noise in the other half.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.nano.rigid.angle_fit import RigidScan, fit_rigid, left_by_rows
from manyviews.nano.rigid.explained import Explained, noise_below, rows_apart
from manyviews.nano.rigid.pitch_fit import fit_pitch, left_with_pitch

Float64 = NDArray[np.float64]

_STEPS_WITHOUT, _STEPS_WITH = 3, 8


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
    told, checked = rows_apart(scan.images.shape[1])
    motion = np.zeros((len(shifts), 4))
    motion[:, :2] = shifts
    noise = noise_below(scan, motion, sigma, checked)
    if noise is None:
        return None
    without, weights = fit_rigid(scan, motion, told, _STEPS_WITHOUT, angles=False)
    found = fit_pitch(scan, without, weights, told, _STEPS_WITH)
    share = float(found.weights.mean())
    return FoundPitch(
        without=left_by_rows(scan, without, found.weights, checked),
        found=left_with_pitch(scan, found, checked),
        noise=noise * share,
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
