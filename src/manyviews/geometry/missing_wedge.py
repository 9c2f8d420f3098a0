"""Which frequencies a tilted specimen was measured at: the rest is the missing wedge.

A view sees the plane of frequencies at right angles to its beam. A view tilted by t about an axis has the
rotation ``R(t)`` of `manyviews.geometry.views` (right-handed about the axis), so its plane has the normal
``R(t)^T b``, b the beam at zero tilt. For an axis along y and a beam along z that is the plane
``k_z = k_x tan(t)``, and tilts from ``low`` to ``high`` measure the frequencies whose angle from +x towards
+z is in that range, or half a turn away. For an axis along x it is ``k_z = -k_y tan(t)``.

Frequencies are ``(kx, ky, kz)``, arrays that broadcast, in any unit unless said otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from manyviews.errors import InputError, quoted

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
Vector = tuple[float, float, float]
AxisName = Literal["x", "y", "z"]

AXES: dict[str, Vector] = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}

_TOLERANCE_DEGREES = 1e-6  # frequencies on the edge of a range belong to it
_LARGEST_TILT = 180.0


@dataclass(frozen=True)
class TiltScheme:
    """How one series tilted the specimen.

    Attributes
    ----------
    low, high
        Lowest and highest tilt in degrees.
    tilts
        All tilts in degrees, one a view; empty where no more is known than the range.
    axis
        Unit vector (x, y, z) that the views are tilted about, right-handed.
    beam
        Unit vector of the beam at zero tilt, along x, y or z, at right angles to the axis.
    """

    low: float
    high: float
    tilts: tuple[float, ...] = ()
    axis: Vector = AXES["y"]
    beam: Vector = AXES["z"]

    def __post_init__(self) -> None:
        angles = (self.low, self.high, *self.tilts)
        if not all(math.isfinite(angle) and abs(angle) <= _LARGEST_TILT for angle in angles):
            raise InputError(
                "a tilt is not a number from -180 to 180", where="tilts", fix="give tilt angles in degrees"
            )
        if not self.tilts and not self.low < self.high:
            raise InputError(
                f"tilts from {self.low:g} to {self.high:g} degrees are no range",
                where="--tilt-range",
                fix="give the lowest tilt first, e.g. -60 60",
            )
        if abs(float(np.dot(self.axis, self.beam))) > 1e-6:
            raise InputError(
                "the tilt axis is not at right angles to the beam",
                where="--tilt-axis",
                fix="give an axis in the plane of the untilted images",
            )

    @classmethod
    def of_range(cls, low: float, high: float, axis: str | float = "y", beam: AxisName = "z") -> TiltScheme:
        """All tilts from ``low`` to ``high`` degrees, without gaps; for the axis see `tilt_axis`."""
        return cls(float(low), float(high), (), tilt_axis(axis, beam), _beam(beam))

    @classmethod
    def of_tilts(cls, tilts: Sequence[float], axis: str | float = "y", beam: AxisName = "z") -> TiltScheme:
        """These tilts in degrees, in any order; `InputError` if there are none."""
        angles = tuple(float(tilt) for tilt in tilts)
        if not angles:
            raise InputError("there are no tilts", where="tilts", fix="give one angle for each view")
        return cls(min(angles), max(angles), angles, tilt_axis(axis, beam), _beam(beam))

    @property
    def across(self) -> Vector:
        """Unit vector in the untilted image at right angles to the axis: ``axis x beam``, x for axis y."""
        x, y, z = np.cross(self.axis, self.beam).tolist()
        return (x, y, z)

    @property
    def axis_degrees(self) -> float:
        """Direction of the axis in the xy plane, counter-clockwise from +y: 0 is y, -90 is x."""
        return math.degrees(math.atan2(-self.axis[0], self.axis[1])) + 0.0

    def matrices(self) -> Float64:
        """View rotations ``(view, 3, 3)`` of the tilts: rows are the image's x, y and beam axes.

        With the beam along z they are those of `manyviews.geometry.views.tilt_rotation`; along x the image's
        axes are y and z, along y they are z and x.
        """
        radians = np.deg2rad(np.array(self.tilts, dtype=np.float64))
        turns = Rotation.from_rotvec(radians[:, None] * np.array(self.axis)).as_matrix()
        frame = np.roll(np.eye(3), -(1 + self.beam.index(1.0)), axis=0)
        return np.asarray(frame @ turns, dtype=np.float64)

    def spacings(self) -> Float64:
        """Radians ``(view,)`` that each tilt stands for: half of the way to its neighbours on either side.

        An outermost tilt stands for as much beyond as on the side where it has a neighbour; one alone for pi.
        """
        angles = np.deg2rad(np.array(self.tilts, dtype=np.float64))
        if len(angles) == 1:
            return np.array([np.pi])
        order = np.argsort(angles, kind="stable")
        gaps = np.diff(angles[order])
        found = np.empty(len(angles))
        found[order] = (np.append(gaps[0], gaps) + np.append(gaps, gaps[-1])) / 2
        return found

    def view_weights(
        self, view: int, kx: Float64, ky: Float64, kz: Float64, *, core: float = 0.25
    ) -> Float64:
        """What weighted back-projection multiplies a view by at frequencies, in cycles per box, of its plane.

        The ramp: the distance from the tilt axis times the angle that the view stands for, which is how much
        of the plane across the axis falls to it. It is at the least as at the distance ``core``, for the axis
        itself, and 1 at the most, where tilts are so far apart that their slabs do not touch.
        """
        distance = np.hypot(_dot(self.beam, kx, ky, kz), _dot(self.across, kx, ky, kz))
        weight = self.spacings()[view] * np.maximum(distance, core)
        return np.asarray(np.minimum(weight, 1.0), dtype=np.float64)

    def angle(self, kx: Float64, ky: Float64, kz: Float64) -> Float64:
        """Degrees within +-180 of the tilt whose plane holds a frequency; half a turn more is the same."""
        radians = np.arctan2(_dot(self.beam, kx, ky, kz), _dot(self.across, kx, ky, kz))
        return np.asarray(np.rad2deg(radians), dtype=np.float64)

    def measured(self, kx: Float64, ky: Float64, kz: Float64) -> Bool:
        """Which frequencies lie between the lowest and the highest tilt; those on the axis do."""
        beyond = np.mod(self.angle(kx, ky, kz) - self.low + _TOLERANCE_DEGREES, 180.0)
        on_axis = np.hypot(_dot(self.beam, kx, ky, kz), _dot(self.across, kx, ky, kz)) < 1e-9
        return np.asarray((beyond <= self.high - self.low + 2 * _TOLERANCE_DEGREES) | on_axis)

    def described(self) -> str:
        """In words, e.g. ``-60 to 60 degrees about y, beam z``."""
        beam = "xyz"[self.beam.index(1.0)]
        return f"{self.low:g} to {self.high:g} degrees about {axis_words(self.axis)}, beam {beam}"


def tilt_axis(axis: str | float, beam: AxisName = "z") -> Vector:
    """The unit vector of a tilt axis: ``x``, ``y``, ``z``, or degrees counter-clockwise from +y.

    Degrees are those of `manyviews.geometry.views.tilt_rotation`, in the image of a beam along z: 0 is +y,
    -90 is +x, 90 is -x. `InputError` if it is none of these, or lies along the beam.
    """
    if isinstance(axis, str) and axis in AXES:
        found = AXES[axis]
    else:
        degrees = _degrees(axis)
        if beam != "z":
            raise InputError(
                f"a tilt axis at {degrees:g} degrees needs a beam along z",
                where="--tilt-axis",
                fix="give x, y or z",
            )
        # exact where it is one of the axes
        cosine, sine = (round(part, 15) + 0.0 for part in _cosine_sine(degrees))
        found = (-sine + 0.0, cosine, 0.0)
    if found == _beam(beam):
        raise InputError(
            f"the tilt axis and the beam are both along {beam}",
            where="--tilt-axis",
            fix="give another axis",
        )
    return found


def axis_words(axis: Vector) -> str:
    """The name of an axis: ``x``, ``-x``, ..., or its direction in the xy plane, or its components."""
    for name, unit in AXES.items():
        for sign, mark in ((1, ""), (-1, "-")):
            if np.allclose(np.array(unit) * sign, axis, atol=1e-6):
                return f"{mark}{name}"
    if abs(axis[2]) < 1e-6:
        return f"an axis {math.degrees(math.atan2(-axis[0], axis[1])):.0f} degrees from y"
    return f"the axis ({', '.join(f'{part:.2f}' for part in axis)})"


def slab_weight(normal: Vector | Float64, kx: Float64, ky: Float64, kz: Float64) -> Float64:
    """How much of frequencies, in cycles per box, a view with this normal measures: 1 in its plane.

    A specimen as large as the box makes the plane a slab one cycle thick. The weight is 1 up to a quarter of
    a cycle away and falls to 0 at three quarters, so planes one cycle apart add up to 1 everywhere.
    """
    return np.clip(1.5 - 2.0 * np.abs(_dot(normal, kx, ky, kz)), 0.0, 1.0)


def _dot(vector: Vector | Float64, kx: Float64, ky: Float64, kz: Float64) -> Float64:
    x, y, z = (float(part) for part in vector)
    return np.asarray(x * kx + y * ky + z * kz, dtype=np.float64)


def _beam(beam: str) -> Vector:
    if beam not in AXES:
        raise InputError(f"there is no beam axis {quoted(beam)}", where="--beam-axis", fix="give x, y or z")
    return AXES[beam]


def _degrees(axis: str | float) -> float:
    try:
        degrees = float(axis)
    except ValueError:
        degrees = math.nan
    if not math.isfinite(degrees):
        raise InputError(
            f"there is no tilt axis {quoted(axis)}",
            where="--tilt-axis",
            fix="give x, y, z or degrees counter-clockwise from +y",
        )
    return degrees


def _cosine_sine(degrees: float) -> tuple[float, float]:
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
