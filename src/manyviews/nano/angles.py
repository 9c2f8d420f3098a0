"""Whether the angles of a scan are what its projections say, and better ones where they are not.

A stage that loses steps, or moves unevenly, takes views at other angles than it tells. They are looked for
with large pixels, on half of the rows; the other half must confirm them. They are taken only where they
explain most of what rigid views at the given angles leave beyond noise, or leave hardly more than noise: a
specimen that deforms looks turned as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.nano.rigid.angle_fit import ANGLE, RigidScan, fit_rigid, left_by_rows
from manyviews.nano.rigid.explained import Explained, unchanged

Float64 = NDArray[np.float64]

DIGITS = 2
"""Of a degree: what rounds differently with more threads is less, and tables tell as many."""
_STEPS = 8


@dataclass(frozen=True)
class FoundAngles(Explained):
    """``change_degrees (view,)``, and why it is, or is not, to be taken."""

    change_degrees: Float64

    @property
    def taken(self) -> bool:
        """Whether they explain most of what is left, or leave hardly more than noise."""
        return self.more_than_chance and (self.most_of_it or self.hardly_more)


def find_angles(scan: RigidScan, shifts: Float64, sigma: float) -> FoundAngles | None:
    """From ``shifts (view, 2)`` on; ``sigma`` is the noise of a pixel.

    None: there are too few numbers to tell, or the given angles leave nothing but noise.
    """
    given = unchanged(scan, shifts, sigma)
    if given is None:
        return None
    found, weights = fit_rigid(scan, given.start, given.told, _STEPS, angles=True)
    left = [left_by_rows(scan, one, weights, given.checked) for one in (given.motion, found)]
    share = float(weights.mean())
    return FoundAngles(
        without=left[0], found=left[1], noise=given.noise * share, by_chance=sigma**2 * len(shifts) * share,
        change_degrees=found[:, ANGLE],
    )  # fmt: skip


def angle_figures(given_degrees: Float64, theta_degrees: Float64) -> dict[str, object]:
    """For the summary; nothing where angles are as given."""
    change = theta_degrees - given_degrees
    if not change.any():
        return {}
    return {"angles_changed_rms_degrees": round(float(np.sqrt(np.mean(change**2))), 3)}


def changed_angles(given_degrees: Float64, told_degrees: Float64) -> Float64:
    """Angles ``(view,)`` of a run that changed those given, to the last bit, from what its table tells."""
    return np.asarray(given_degrees + np.round(told_degrees - given_degrees, DIGITS))
