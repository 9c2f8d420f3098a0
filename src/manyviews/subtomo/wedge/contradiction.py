"""Whether the wedge that was told is the one that the particles show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from manyviews.geometry.missing_wedge import TiltScheme
from manyviews.subtomo.wedge.measure import FILLED, MeasuredWedge, measure_wedge, shell_levels
from manyviews.subtomo.wedge.transfer import frequency_radius, transfer
from manyviews.subtomo.wedge.weight_volumes import whole_transfer

Float64 = NDArray[np.float64]
Told = TiltScheme | Sequence[TiltScheme] | NDArray[Any]

_ENOUGH = 0.8
"""The told wedge explains so much of what the best one does: edges within some four degrees of the true."""

_SAME_DEGREES = 6.0
_SAME_AXIS = np.cos(np.deg2rad(10.0))
_COMPLETE = 0.02  # of the frequencies may be missing from what is complete


def contradiction(measured: MeasuredWedge, told: Told) -> str | None:
    """A sentence that says how the told wedge differs from the measured one; None where it does not.

    ``told`` are the tilt schemes, or the transfer ``(box, box, box // 2 + 1)`` of the particles' own box,
    with or without a CTF. What counts is how much of the variance of the particles' power the told region
    explains beside the best one that there is, so that dual axes, gaps and odd shapes are judged as well.
    """
    if not isinstance(told, TiltScheme | np.ndarray) and len(told) == 1:
        told = told[0]
    levels, box = measured.levels.astype(np.float64), measured.box
    power = _power_of(told, box)
    shell = np.rint(frequency_radius(box).ravel()[measured.points]).astype(np.int64)
    told_levels = shell_levels(power.ravel()[measured.points], shell)
    missing = told_levels < 0.05
    is_complete = bool(np.mean(missing) < _COMPLETE)
    if measured.scheme is None:
        if is_complete or _power_ratio(levels, missing) < FILLED:
            return None
        return (
            f"the wedge is said to be {_words(told, power)}, but the particles hold as much power where that"
            " leaves frequencies out as elsewhere: nothing seems to be missing"
        )
    if is_complete:
        return (
            "the particles are said to be measured at all frequencies, but their mean power shows a missing"
            f" wedge: tilts from {measured.described()}"
        )
    if _explained(levels, told_levels) >= _ENOUGH * measured.explained:
        return None
    return (
        f"the wedge is said to be {_words(told, power)}, but the particles' mean power shows"
        f" {measured.described()}{_hint(told, power, measured.scheme)}"
    )


def _power_of(told: Told, box: int) -> Float64:
    """The square of the told transfer; of listed tilts that of the range that they span: gaps do not count.

    Zeros of a CTF are filled from their neighbours, so that they are not taken for a part of the wedge.
    """
    if isinstance(told, np.ndarray):
        if told.shape != (box, box, box // 2 + 1):
            raise ValueError(f"a transfer {told.shape} is not one of particles of {box} voxels")
        whole = whole_transfer(np.abs(told))
        closed = np.fft.ifftshift(ndimage.grey_closing(whole, size=(3, 3, 3), mode="wrap"))
        return np.asarray(closed[:, :, : box // 2 + 1], dtype=np.float64) ** 2
    schemes = (told,) if isinstance(told, TiltScheme) else tuple(told)
    spans = [TiltScheme(one.low, one.high, (), one.axis, one.beam) for one in schemes if one.low < one.high]
    return transfer(box, 1.0, spans).astype(np.float64) ** 2


def _power_ratio(levels: Float64, missing: NDArray[np.bool_]) -> float:
    """Median power where something is said to be missing over that elsewhere, each relative to its shell."""
    relative = levels / np.maximum(1 - levels, 1e-9)
    return float(np.median(relative[missing]) / np.median(relative[~missing]))


def _explained(levels: Float64, told: Float64) -> float:
    """Part of the variance of levels that is a multiple of what was told; 0 where one goes against it."""
    if not told.std() > 0:
        return 0.0
    correlation = float(np.corrcoef(levels, told)[0, 1])
    return max(correlation, 0.0) ** 2


def _words(told: Told, power: Float64) -> str:
    if isinstance(told, TiltScheme):
        return told.described()
    if isinstance(told, np.ndarray):
        return measure_wedge(power).described()
    return " and ".join(scheme.described() for scheme in told)


def _hint(told: Told, power: Float64, shown: TiltScheme) -> str:
    """What is most likely wrong."""
    scheme = told if isinstance(told, TiltScheme) else None
    if isinstance(told, np.ndarray):
        scheme = measure_wedge(power).scheme
    if scheme is None:
        return ""
    along = float(np.dot(scheme.axis, shown.axis))
    if abs(along) < _SAME_AXIS:
        return ": the tilt axis is another"
    if scheme.beam != shown.beam:
        return ": the beam is another"
    low, high = (scheme.low, scheme.high) if along > 0 else (-scheme.high, -scheme.low)
    if max(abs(low + shown.high), abs(high + shown.low)) < _SAME_DEGREES:
        return ": the sign of the tilts is turned"
    return ": the range of the tilts is another"
