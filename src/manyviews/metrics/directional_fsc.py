"""Fourier shell correlation by direction: in cones about axes, as a wedge leaves some directions unmeasured.

Tan, Baldwin, Davis, Williamson, Potter, Carragher and Lyumkis, Nature Methods 14 (2017) 793.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from manyviews.errors import InputError
from manyviews.io.tables import read_numbers, read_table, require_ordinary, write_table
from manyviews.metrics.fsc import FscCurve, fsc_of_transforms, transform

Float64 = NDArray[np.float64]
RealArray = NDArray[np.floating[Any]]

PAPER = (
    "Tan YZ, Baldwin PR, Davis JH, Williamson JR, Potter CS, Carragher B, Lyumkis D (2017) Addressing "
    "preferred specimen orientation in single-particle cryo-EM through tilting. Nature Methods 14:793-796."
)
AXES: Mapping[str, tuple[float, float, float]] = {"x": (1, 0, 0), "y": (0, 1, 0), "z": (0, 0, 1)}
HALF_ANGLE_DEGREES = 20.0
_COLUMNS = ("x", "y", "z", "half_angle_degrees", "frequency_per_angstrom", "fsc", "samples")
_MOST_SAMPLES = 1e12


@dataclass(frozen=True)
class ConeFsc:
    """The correlation of the frequencies within a cone about an axis, and about its opposite.

    ``direction`` is ``(x, y, z)``, a unit vector in the frame of the maps.
    """

    name: str
    direction: tuple[float, float, float]
    half_angle_degrees: float
    curve: FscCurve

    def resolution(self, threshold: float) -> float:
        """`FscCurve.resolution` of the mean over three shells, each by its samples, as a cone holds few."""
        samples = np.nan_to_num(self.curve.samples)
        count = np.convolve(samples, np.ones(3), "same")
        total = np.convolve(samples * self.curve.correlation, np.ones(3), "same")
        mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
        return replace(self.curve, correlation=mean).resolution(threshold)


def directional_fsc(
    a: RealArray,
    b: RealArray,
    pixel_size: float,
    directions: Mapping[str, ArrayLike] = AXES,
    *,
    half_angle_degrees: float = HALF_ANGLE_DEGREES,
    mask: RealArray | None = None,
    weights: NDArray[Any] | None = None,
    threads: int = 0,
) -> tuple[ConeFsc, ...]:
    """The correlation of two volumes in cones about directions, one curve each.

    A cone of 20 degrees holds 6 % of a shell, so its curve scatters four times as much as that of the whole.

    Parameters
    ----------
    a, b
        ``(z, y, x)``, one shape.
    pixel_size
        Angstrom.
    directions
        Vectors (x, y, z) of any length by their names.
    half_angle_degrees
        Between the axis and the rim of the cone, up to 90, where it holds all frequencies.
    mask
        ``(z, y, x)``, multiplied into both.
    weights
        How much each frequency counts, of the shape of the half-spectrum; see `fsc_of_transforms`.
    threads
        Of the transforms; 0 is all cores.

    Raises
    ------
    ValueError
        If the shapes differ, a direction has no length, or there is no such angle.
    """
    if a.ndim != 3 or a.shape != b.shape:
        raise ValueError(f"fsc needs volumes of the same shape, got {a.shape} and {b.shape}")
    if not 0 < half_angle_degrees <= 90:
        raise ValueError(f"the half angle of a cone is from 0 to 90 degrees, not {half_angle_degrees:g}")
    one, other = (transform(volume, mask=mask, threads=threads) for volume in (a, b))
    cones: list[ConeFsc] = []
    for name, vector in directions.items():
        axis = _unit(vector)
        inside = cone(a.shape, axis, half_angle_degrees)
        counts = inside if weights is None else inside * weights
        curve = fsc_of_transforms(one, other, a.shape, pixel_size, weights=counts)
        x, y, z = (float(value) for value in axis)
        cones.append(ConeFsc(name, (x, y, z), half_angle_degrees, curve))
    return tuple(cones)


def cone(shape: tuple[int, ...], axis: Float64, half_angle_degrees: float) -> NDArray[np.bool_]:
    """Which frequencies of the half-spectrum ``(z, y, x // 2 + 1)`` lie in a double cone about an axis.

    Frequency zero lies in every cone.
    """
    kz, ky, kx = np.meshgrid(*map(fft.fftfreq, shape[:2]), fft.rfftfreq(shape[2]), indexing="ij", sparse=True)
    along = np.abs(axis[0] * kx + axis[1] * ky + axis[2] * kz)
    length = np.sqrt(kx**2 + ky**2 + kz**2)
    # rounding must not decide whether the rim belongs to it
    return np.asarray(along >= length * math.cos(math.radians(half_angle_degrees)) - 1e-9)


def write_cones(path: Path, cones: tuple[ConeFsc, ...], *, overwrite: bool = True) -> None:
    """Write ``direction,x,y,z,half_angle_degrees,frequency_per_angstrom,fsc,samples``, a row a shell."""
    rows = (
        (one.name, *(f"{value:.6f}" for value in one.direction), f"{one.half_angle_degrees:g}",
         f"{frequency:.8g}", f"{correlation:.6f}", f"{samples:.0f}")
        for one in cones
        for frequency, correlation, samples in zip(
            one.curve.frequency, one.curve.correlation, one.curve.samples, strict=True
        )
    )  # fmt: skip
    write_table(path, ("direction", *_COLUMNS), rows, overwrite=overwrite)


def read_cones(path: Path) -> tuple[ConeFsc, ...]:
    """The curves that were written, none if there is no file; `InputError` if it cannot be read."""
    names = [row["direction"] for row in read_table(path, ("direction",))]
    table = read_numbers(path, _COLUMNS)
    if not names:
        return ()
    require_ordinary(table, path, least=-1.01, most=_MOST_SAMPLES)
    if (np.abs(table[:, 5]) > 1.01).any() or (table[:, 4] < 0).any():
        raise InputError("a correlation is not between -1 and 1, or a frequency below zero", path=path)
    cones: list[ConeFsc] = []
    for name in dict.fromkeys(names):
        rows = table[[one == name for one in names]]
        frequency = rows[:, 4]
        if len(rows) < 2 or (np.diff(frequency) <= 0).any():
            raise InputError(f"the frequencies of direction {name} do not rise", path=path)
        if cones and len(rows) != len(cones[0].curve.frequency):
            told = f"{len(rows)} frequencies, not {len(cones[0].curve.frequency)} as the first"
            raise InputError(f"direction {name} has {told}", path=path)
        curve = FscCurve(frequency, rows[:, 5], rows[:, 6], 0.5 / float(frequency[-1]))
        x, y, z, angle = (float(value) for value in rows[0, :4])
        cones.append(ConeFsc(name, (x, y, z), angle, curve))
    return tuple(cones)


def _unit(vector: ArrayLike) -> Float64:
    given = np.asarray(vector, dtype=np.float64)
    length = float(np.linalg.norm(given)) if given.shape == (3,) else 0.0
    if not (length > 0 and math.isfinite(length)):
        raise ValueError(f"{vector!r} is no direction: give x, y and z")
    return given / length
