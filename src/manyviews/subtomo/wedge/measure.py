"""The missing wedge as the particles themselves show it: measured from their mean power spectrum.

Where nothing was measured there is little power, whatever the particles look like and however noisy they are:
noise ends at the wedge too. Power is compared within shells of frequency, so that neither the structure, the
CTF nor the colour of the noise matters. A power P counts as ``P / (P + r)``, r a high quantile of its shell:
near 1/2 where it was measured, near 0 where not, and a strong layer line or a membrane no more than twice
that. The wedge is the tilt axis and range whose two regions explain most of the variance of these numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from manyviews.errors import InputError
from manyviews.geometry.missing_wedge import AXES, AxisName, TiltScheme, Vector, axis_words
from manyviews.subtomo.wedge.transfer import frequency_radius, lattice

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Found = Literal["wedge", "complete", "unclear"]

_QUANTILE = 0.85  # of a shell; even a range of 30 degrees or more fills so much of it
_INNERMOST, _OUTERMOST = 0.2, 0.95  # of the Nyquist frequency
_TAPER = 0.125  # of the box, at either face
_COARSE_AXES_DEGREES = 15
_FINE_AXES_DEGREES = (5, 1)
_BIN_DEGREES = 1
_NARROWEST, _WIDEST = 10, 174  # degrees that a range of tilts spans
_SNAP_DEGREES = 3  # an axis so near to x, y or z is that

FILLED = 0.6
"""Where a region has at least so much of the power of the rest, nothing is missing there."""

_ALIKE, _CLEAR = 0.1, 0.25
"""Of the variance, what the best wedge explains where there is none, and where there is one: 0.005 for noise
without a wedge, 0.04 for a map; 0.38 for one particle with a wedge, 0.8 for twenty."""


@dataclass(frozen=True, eq=False)
class MeasuredWedge:
    """What the mean power of particles says about their wedge.

    Attributes
    ----------
    found
        ``wedge``; ``complete``, all frequencies hold power alike, so that nothing is missing; or ``unclear``,
        some do not, but no single wedge says which: several axes, or few particles without noise.
    scheme
        The tilt axis and range of a wedge; else None.
    leak
        Power in the missing region over that in the measured one, 0 to 1: what interpolation, an edge of the
        box or an iterative reconstruction put there.
    explained
        Part of the variance of `levels` that the two regions explain, 0 to 1.
    levels
        ``(P,)`` float32, ``P / (P + r)`` of the frequencies that were compared, see the module.
    points
        ``(P,)`` their places in a flat transfer ``(box, box, box // 2 + 1)``.
    box
        Voxels a side.
    particles
        How many there were.
    """

    found: Found
    scheme: TiltScheme | None
    leak: float
    explained: float
    levels: Float32
    points: NDArray[np.int64]
    box: int
    particles: int

    def described(self) -> str:
        """In words: ``-60 to 60 degrees about y, beam z``, ``nothing is missing`` or ``no single wedge``."""
        if self.scheme is None:
            return "nothing is missing" if self.found == "complete" else "no single wedge"
        low, high = round(self.scheme.low), round(self.scheme.high)
        beam = axis_words(self.scheme.beam)
        return f"{low} to {high} degrees about {axis_words(self.scheme.axis)}, beam {beam}"


def mean_power(volumes: Iterable[NDArray[Any]]) -> tuple[Float64, int]:
    """Mean power ``(box, box, box // 2 + 1)`` of volumes ``(box, box, box)``, and their number.

    Each is brought to mean 0 and variance 1 and falls off to its mean towards the faces of the box, where a
    piece cut from a tomogram has edges. Empty and constant ones are passed over; `InputError` if none is
    left.
    """
    total, count = None, 0
    for volume in volumes:
        values = np.asarray(volume, dtype=np.float32)
        spread = float(values.std())
        if not spread > 0:
            continue
        window = _window(len(values))
        values = (values - values.mean()) / spread * window * window[:, None] * window[:, None, None]
        power = np.abs(fft.rfftn(values)).astype(np.float64) ** 2
        total = power if total is None else total + power
        count += 1
    if total is None:
        raise InputError("no particle has any density, so no wedge can be measured", fix="check the volumes")
    return np.asarray(total / count), count


def measure_wedge(power: Float64, particles: int = 1) -> MeasuredWedge:
    """The wedge in a mean power spectrum ``(box, box, box // 2 + 1)``, from `mean_power`.

    Axis and beam are found among all axes in the coordinate planes; the axis to one degree, and x, y or z
    where it is within three. The beam is the coordinate axis in the missing region. At least some 16 voxels
    to the box are needed, and 20 particles where the signal is a hundredth of the noise.
    """
    compared = _Compared(power)
    best = max((compared.fit(axis) for axis in _coarse_axes()), key=lambda fit: fit.explained)
    for step in _FINE_AXES_DEGREES:
        near = [compared.fit(axis) for axis in _neighbours(best.axis, step)]
        best = max(near, key=lambda fit: fit.explained)
    snapped = _snapped(best.axis)
    if snapped != best.axis:
        best = compared.fit(snapped)
    scheme = best.scheme()
    leak = compared.leak(scheme)
    found: Found = "wedge" if best.explained >= _CLEAR and leak <= FILLED else "unclear"
    if best.explained < _ALIKE:
        found = "complete"
    return MeasuredWedge(
        found=found,
        scheme=scheme if found == "wedge" else None,
        leak=min(leak, 1.0),
        explained=best.explained,
        levels=compared.levels.astype(np.float32),
        points=compared.points,
        box=len(power),
        particles=particles,
    )


@dataclass(frozen=True)
class _Fit:
    """The best range about one axis: low to high degrees from ``across`` towards ``beam``."""

    axis: Vector
    across: Vector
    beam: Vector
    low: float
    high: float
    explained: float

    def scheme(self) -> TiltScheme:
        """With the beam along the coordinate axis that is nearest to the middle of the missing region."""
        middle = np.deg2rad((self.low + self.high) / 2 + 90)
        missing = np.cos(middle) * np.array(self.across) + np.sin(middle) * np.array(self.beam)
        names = [name for name, unit in AXES.items() if abs(np.dot(unit, self.axis)) < 1e-6]
        name = max(names, key=lambda one: abs(float(np.dot(AXES[one], missing))))
        seen = TiltScheme(-60.0, 60.0, (), self.axis, AXES[name])
        # the same lines, as tilts counted from the plane across that beam
        centre = np.deg2rad((self.low + self.high) / 2)
        line = np.cos(centre) * np.array(self.across) + np.sin(centre) * np.array(self.beam)
        tilt = float(seen.angle(*(np.array(part) for part in line)))
        tilt = (tilt + 90) % 180 - 90
        half = (self.high - self.low) / 2
        return TiltScheme(tilt - half, tilt + half, (), self.axis, AXES[name])


class _Compared:
    """The frequencies that are compared, and the best range of tilts about an axis."""

    def __init__(self, power: Float64) -> None:
        box = len(power)
        radius = frequency_radius(box)
        nyquist = box / 2
        used = (radius >= max(2.0, _INNERMOST * nyquist)) & (radius <= _OUTERMOST * nyquist)
        used[:, :, 0] &= _one_of_each_pair(box)
        self.points = np.flatnonzero(used)
        self.power = power.ravel()[self.points]
        self.shell = np.rint(radius.ravel()[self.points]).astype(np.int64)
        kx, ky, kz = np.broadcast_arrays(*lattice(box))
        self.k = np.stack([part.ravel()[self.points] for part in (kx, ky, kz)])
        self.levels = shell_levels(self.power, self.shell)
        self.spread = float(np.sum((self.levels - self.levels.mean()) ** 2))

    def fit(self, axis: Vector) -> _Fit:
        """The best range about an axis: every pair of edges is tried."""
        beam_name: AxisName = "z" if abs(axis[2]) < 1e-6 else ("y" if abs(axis[1]) < 1e-6 else "x")
        seen = TiltScheme(-60.0, 60.0, (), axis, AXES[beam_name])
        bins = 180 // _BIN_DEGREES
        number = np.floor(np.mod(seen.angle(*self.k), 180.0) / _BIN_DEGREES).astype(np.int64) % bins
        counts: Float64 = np.bincount(number, minlength=bins).astype(np.float64)
        sums: Float64 = np.bincount(number, weights=self.levels, minlength=bins).astype(np.float64)
        low, high, gain = _best_range(counts, sums)
        explained = gain / max(self.spread, 1e-30)
        return _Fit(axis, seen.across, seen.beam, low * _BIN_DEGREES, high * _BIN_DEGREES, explained)

    def leak(self, scheme: TiltScheme) -> float:
        """Power in the missing region over that in the measured one: the mean over shells of medians."""
        inside = scheme.measured(*self.k)
        ratios = []
        for shell in np.unique(self.shell):
            here = self.shell == shell
            outer, inner = self.power[here & ~inside], self.power[here & inside]
            if len(outer) >= 10 and len(inner) >= 10:
                ratios.append(float(np.median(outer) / max(np.median(inner), 1e-30)))
        return float(np.median(ratios)) if ratios else 1.0


def shell_levels(power: Float64, shell: NDArray[np.int64]) -> Float64:
    """``P / (P + r)`` of powers ``(P,)``, r a high quantile of their shell; 0 where a shell has none."""
    reference = np.zeros(shell.max() + 1)
    for one in np.unique(shell):
        reference[one] = np.quantile(power[shell == one], _QUANTILE)
    return np.asarray(power / np.maximum(power + reference[shell], 1e-30), dtype=np.float64)


def _best_range(counts: Float64, sums: Float64) -> tuple[int, int, float]:
    """First bin, one past the last (it may go round) and sum of squares explained, of the fuller region."""
    bins = len(counts)
    total_count, total = counts.sum(), sums.sum()
    around_counts = np.concatenate([[0.0], np.cumsum(np.tile(counts, 2))])
    around_sums = np.concatenate([[0.0], np.cumsum(np.tile(sums, 2))])
    first = np.arange(bins)[:, None]
    width = np.arange(_NARROWEST // _BIN_DEGREES, _WIDEST // _BIN_DEGREES + 1)[None, :]
    inner_count = around_counts[first + width] - around_counts[first]
    inner = around_sums[first + width] - around_sums[first]
    outer_count, outer = total_count - inner_count, total - inner
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = inner / inner_count - outer / outer_count
        gain = difference**2 * inner_count * outer_count / total_count
    gain = np.where((difference > 0) & np.isfinite(gain), gain, 0.0)
    row, column = np.unravel_index(int(np.argmax(gain)), gain.shape)
    return int(row), int(row + width[0, column]), float(gain[row, column])


def _window(box: int) -> Float32:
    """1 in the middle, falling to 0 at both faces as a cosine."""
    edge = max(1, round(_TAPER * box))
    distance = np.minimum(np.arange(box), np.arange(box)[::-1]) + 0.5
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * np.clip(distance / edge, 0, 1)), dtype=np.float32)


def _one_of_each_pair(box: int) -> NDArray[np.bool_]:
    """``(box, box)``: one of two mirror images in the plane x = 0, which the layout holds twice."""
    _, ky, kz = lattice(box)
    return np.asarray((kz[:, :, 0] > 0) | ((kz[:, :, 0] == 0) & (ky.reshape(1, -1) >= 0)))


def _coarse_axes() -> list[Vector]:
    """Directions in the three coordinate planes, each once."""
    turns = np.deg2rad(np.arange(0, 180, _COARSE_AXES_DEGREES))
    planes = [(0, 1), (1, 2), (2, 0)]
    found = {_vector(plane, turn) for plane in planes for turn in turns.tolist()}
    return sorted({_upwards(axis) for axis in found})


def _neighbours(axis: Vector, step: int) -> list[Vector]:
    """An axis and those a few steps away in its coordinate plane; of x, y and z, in both of theirs."""
    found = [axis]
    for plane in ((0, 1), (1, 2), (2, 0)):
        if abs(np.hypot(axis[plane[0]], axis[plane[1]]) - 1) > 1e-9:
            continue
        here = np.arctan2(axis[plane[1]], axis[plane[0]])
        reach = range(-(_COARSE_AXES_DEGREES // 5) - 1, _COARSE_AXES_DEGREES // 5 + 2)
        found += [_vector(plane, here + np.deg2rad(step * many)) for many in reach]
    return sorted({_upwards(one) for one in found})


def _vector(plane: tuple[int, int], radians: float) -> Vector:
    parts = [0.0, 0.0, 0.0]
    parts[plane[0]], parts[plane[1]] = np.cos(radians), np.sin(radians)
    x, y, z = (round(float(part), 12) + 0.0 for part in parts)
    return (x, y, z)


def _upwards(axis: Vector) -> Vector:
    """The one of an axis and its opposite that points to +y, +x or +z."""
    x, y, z = axis
    sign = math.copysign(1.0, y or x or z)
    return (x * sign + 0.0, y * sign + 0.0, z * sign + 0.0)


def _snapped(axis: Vector) -> Vector:
    for unit in AXES.values():
        if abs(np.dot(unit, axis)) > np.cos(np.deg2rad(_SNAP_DEGREES + 0.5)):
            return unit
    return axis
