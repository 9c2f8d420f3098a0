"""The wedge as it was told beside the wedge as the particles' power shows it.

``wedge.csv`` has a row for each wedge: how many particles have it, the tilt axis and the beam (x, y, z) that
it is looked at along and across, the range that the power shows, and what was told and measured in words.
``wedge_power.mrc`` has two sections for each row, across the tilt axis: the mean power of the particles, and
what was told to be measured. Frequency zero is in the middle (index ``n // 2``), to the right is the
direction across axis and beam, upwards the beam, so that a tilt of t degrees measures the line at t degrees
from the one towards the other (`manyviews.geometry.missing_wedge`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError, shortened
from manyviews.geometry.missing_wedge import AXES, TiltScheme, Vector, axis_words
from manyviews.io.mrc import read_mrc, write_mrc
from manyviews.io.tables import read_numbers, read_table, require_ordinary, write_table
from manyviews.subtomo.coverage import sample_half_spectrum
from manyviews.subtomo.wedge.measure import MeasuredWedge

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

WEDGE_FILE = "wedge.csv"
POWER_FILE = "wedge_power.mrc"
_NUMBERS = (
    "particles", "axis_x", "axis_y", "axis_z", "beam_x", "beam_y", "beam_z",
    "measured_lowest_degrees", "measured_highest_degrees",
)  # fmt: skip
_WORDS = ("told", "measured")
_AVERAGED = 2  # planes each side of the middle one, along the tilt axis
_MOST = 1e12


@dataclass(frozen=True)
class WedgeView:
    """One wedge, looked at along the tilt axis.

    Attributes
    ----------
    particles
        How many are said to have it.
    axis, beam
        Unit vectors (x, y, z) at right angles.
    lowest_degrees, highest_degrees
        The range of tilts that the power shows; NaN where it shows no single one.
    told, measured
        What was told and what the power shows, in words.
    power, transfer
        ``(n, n)`` as of `across_axis`: mean power of the particles, and square of what was told.
    """

    particles: int
    axis: Vector
    beam: Vector
    lowest_degrees: float
    highest_degrees: float
    told: str
    measured: str
    power: Float32
    transfer: Float32


def wedge_view(
    power: NDArray[Any], measured: MeasuredWedge, transfer: NDArray[Any], told: TiltScheme | None
) -> WedgeView:
    """The view of a wedge for the report, along the axis that was measured, else told, else y.

    ``power`` is the mean power that was measured from and ``transfer`` what was told, ``(n, n, n // 2 + 1)``
    both; ``told`` is the range that the latter was made from, None where it was given as a volume.
    """
    seen = measured.scheme or told or TiltScheme(-90, 90)
    words = "as its volume says"
    if told is not None:
        words = f"{told.low:g} to {told.high:g} degrees about {axis_words(told.axis)}"
    known = measured.scheme is not None
    return WedgeView(
        measured.particles,
        seen.axis,
        seen.beam,
        seen.low if known else math.nan,
        seen.high if known else math.nan,
        words,
        measured.described(),
        across_axis(power, seen.axis, seen.beam),
        across_axis(np.asarray(transfer, np.float64) ** 2, seen.axis, seen.beam),
    )


def across_axis(values: NDArray[Any], axis: Vector = AXES["y"], beam: Vector = AXES["z"]) -> Float32:
    """``(n, n)`` section across a tilt axis of a half-spectrum ``(n, n, n // 2 + 1)``, unshifted.

    Rows are along the beam, columns along ``axis x beam``, frequency zero at ``n // 2``; zero beyond Nyquist.
    The mean of five planes next to each other along the axis.
    """
    side = len(values)
    across = np.cross(axis, beam)
    along = np.arange(side) - side // 2
    plane = along[:, None, None] * np.asarray(beam) + along[:, None] * across
    steps = np.arange(-_AVERAGED, _AVERAGED + 1)
    at = plane[..., None, :] + steps[:, None] * np.asarray(axis)
    inside = np.linalg.norm(at, axis=-1) < side // 2
    found = sample_half_spectrum(values, np.where(inside[..., None], at, 0.0)) * inside
    return np.asarray(found.sum(axis=-1) / np.maximum(inside.sum(axis=-1), 1), dtype=np.float32)


def write_wedges(folder: Path, views: Sequence[WedgeView], pixel_size: float) -> None:
    """Write ``wedge.csv`` and ``wedge_power.mrc`` to a folder; at least one view, all of one size."""
    rows = [
        [str(view.particles)]
        + [_text(value) for value in (*view.axis, *view.beam, view.lowest_degrees, view.highest_degrees)]
        + [view.told, view.measured]
        for view in views
    ]
    write_table(folder / WEDGE_FILE, (*_NUMBERS, *_WORDS), rows)
    stack = np.stack([section for view in views for section in (view.power, view.transfer)])
    write_mrc(folder / POWER_FILE, stack, pixel_size, overwrite=True, is_volume=False)


def read_wedges(folder: Path) -> tuple[WedgeView, ...]:
    """The wedges that were written, none if one of the files is missing; `InputError` if one is damaged."""
    path = folder / WEDGE_FILE
    table, words = read_numbers(path, _NUMBERS), read_table(path, _WORDS)
    if not len(table) or not (folder / POWER_FILE).exists():
        return ()
    require_ordinary(table[:, :1], path, least=0, most=_MOST)
    require_ordinary(table[:, 1:7], path, least=-1, most=1)
    require_ordinary(np.nan_to_num(table[:, 7:]), path, least=-360, most=360)
    stack, _ = read_mrc(folder / POWER_FILE)
    if len(stack) != 2 * len(table) or stack.shape[1] != stack.shape[2]:
        raise InputError(f"does not have {2 * len(table)} square sections", path=folder / POWER_FILE)
    views = []
    for number, (row, text) in enumerate(zip(table.tolist(), words, strict=True)):
        count, *numbers = row
        axis, beam = (numbers[0], numbers[1], numbers[2]), (numbers[3], numbers[4], numbers[5])
        told, measured = (shortened(text[name]) for name in _WORDS)
        views.append(
            WedgeView(int(count), axis, beam, numbers[6], numbers[7], told, measured,
                      stack[2 * number], stack[2 * number + 1])
        )  # fmt: skip
    return tuple(views)


def _text(value: float) -> str:
    return f"{value:.7g}" if math.isfinite(value) else ""
