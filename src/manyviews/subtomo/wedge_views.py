"""The wedge as it was told beside the wedge as the particles' power shows it.

``wedge.csv`` has a row for each wedge, with the numbers of `WedgeView` as columns; ``wedge_power.mrc`` has a
section for each row: the mean power of the particles across the tilt axis, frequency zero in the middle
(index ``n // 2``), to the right the direction across the tilt axis, upwards the beam. A tilt of t degrees
measures the line at t degrees from the first towards the second (`manyviews.geometry.views`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.mrc import read_mrc, write_mrc
from manyviews.io.tables import read_numbers, require_ordinary, write_table
from manyviews.subtomo.coverage import sample_half_spectrum

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

WEDGE_FILE = "wedge.csv"
POWER_FILE = "wedge_power.mrc"
_NUMBERS = (
    "particles",
    "axis_degrees",
    "lowest_degrees",
    "highest_degrees",
    "measured_lowest_degrees",
    "measured_highest_degrees",
)
_AVERAGED = 2  # planes each side of the middle one, along the tilt axis
_MOST = 1e12


@dataclass(frozen=True)
class WedgeView:
    """One wedge and the particles that are said to have it.

    Attributes
    ----------
    particles
        How many.
    axis_degrees
        Direction of the tilt axis in the xy plane, counter-clockwise from +y: 0 is y, -90 is x.
    lowest_degrees, highest_degrees
        The range of tilts that was told.
    measured_lowest_degrees, measured_highest_degrees
        The range that the power shows; NaN where it could not be measured.
    power
        ``(n, n)`` as of `power_across_axis`.
    """

    particles: int
    axis_degrees: float
    lowest_degrees: float
    highest_degrees: float
    measured_lowest_degrees: float
    measured_highest_degrees: float
    power: Float32


def power_across_axis(power: NDArray[Any], axis_degrees: float) -> Float32:
    """``(n, n)`` mean power across a tilt axis, from that of a volume ``(n, n, n // 2 + 1)``, unshifted.

    Rows are the beam, z, columns the direction across the axis, frequency zero at ``n // 2``; zero beyond
    Nyquist. Five planes next to each other along the axis are averaged.
    """
    side = len(power)
    turn = math.radians(axis_degrees)
    across = np.array([math.cos(turn), math.sin(turn), 0.0])
    axis = np.array([-math.sin(turn), math.cos(turn), 0.0])
    along = np.arange(side) - side // 2
    plane = along[:, None, None] * np.array([0.0, 0.0, 1.0]) + along[:, None] * across
    steps = np.arange(-_AVERAGED, _AVERAGED + 1)
    at = plane[..., None, :] + steps[:, None] * axis
    inside = np.linalg.norm(at, axis=-1) < side // 2
    values = sample_half_spectrum(power, np.where(inside[..., None], at, 0.0)) * inside
    return np.asarray(values.sum(axis=-1) / np.maximum(inside.sum(axis=-1), 1), dtype=np.float32)


def write_wedges(folder: Path, views: Sequence[WedgeView], pixel_size: float) -> None:
    """Write ``wedge.csv`` and ``wedge_power.mrc`` to a folder; at least one view, all of one size."""
    rows = [[_text(getattr(view, name)) for name in _NUMBERS] for view in views]
    write_table(folder / WEDGE_FILE, _NUMBERS, rows)
    stack = np.stack([view.power for view in views])
    write_mrc(folder / POWER_FILE, stack, pixel_size, overwrite=True, is_volume=False)


def read_wedges(folder: Path) -> tuple[WedgeView, ...]:
    """The wedges that were written, none if one of the files is missing; `InputError` if one is damaged."""
    path = folder / WEDGE_FILE
    table = read_numbers(path, _NUMBERS)
    if not len(table) or not (folder / POWER_FILE).exists():
        return ()
    require_ordinary(table[:, :4], path, least=-360, most=_MOST)
    require_ordinary(np.nan_to_num(table[:, 4:]), path, least=-360, most=360)
    stack, _ = read_mrc(folder / POWER_FILE)
    if len(stack) != len(table) or stack.shape[1] != stack.shape[2]:
        raise InputError(f"does not have {len(table)} square sections", path=folder / POWER_FILE)
    views = []
    for row, power in zip(table, stack, strict=True):
        axis, *tilts = (float(value) for value in row[1:])
        views.append(WedgeView(int(row[0]), axis, tilts[0], tilts[1], tilts[2], tilts[3], power))
    return tuple(views)


def _text(value: float) -> str:
    return f"{value:.7g}" if math.isfinite(value) else ""
