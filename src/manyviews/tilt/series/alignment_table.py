"""The table that `manyviews.tilt.align` leaves in its run folder: one line a view, as it was aligned.

A view is ``S(shift) Rz(rotation) Ry(tilt) Rx(x tilt) Rz(-axis)``: RELION-5's angles in a frame of each stack
whose tilt axis is upright, and the direction of that axis in the volume.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.geometry.euler import split_view, zyx_angles
from manyviews.geometry.views import TiltGeometry, rotation_z
from manyviews.io.tables import read_columns, write_table

Float64 = NDArray[np.float64]

ALIGNMENT_FILE = "alignment.csv"
_NUMBERS = (
    "section", "used", "axis_degrees", "tilt_degrees", "x_tilt_degrees", "rotation_degrees",
    "shift_x_angstrom", "shift_y_angstrom",
)  # fmt: skip
_HEADER = ("stack", "file", *_NUMBERS, "moved_x_pixels", "moved_y_pixels", "correlation")
_LARGEST_STRETCH = 1e-3
_LARGEST = 1e9


@dataclass(frozen=True)
class StackAlignment:
    """The views of one stack; angles in degrees, ``shifts (view, 2)`` in angstrom, sections from 0.

    ``used (view,)`` says which views were not bad, ``axis_degrees`` where the axis lies in the volume.
    """

    sections: NDArray[np.int64]
    used: NDArray[np.bool_]
    axis_degrees: float
    tilts: Float64
    x_tilts: Float64
    rotations: Float64
    shifts: Float64


def alignment_path(given: Path) -> Path:
    """The table of a run folder, or the table itself."""
    return given / ALIGNMENT_FILE if given.is_dir() else given


def read_alignment(given: Path, stack: Path) -> StackAlignment:
    """The lines of a table, or of a run folder's, that are for a stack of that name.

    Raises
    ------
    InputError
        If it cannot be read, or has no lines for the stack.
    """
    path = alignment_path(given)
    if not path.is_file():
        raise InputError(
            "holds no finished alignment",
            path=given,
            fix="give the run folder of tilt align, when it is done",
        )
    columns = read_columns(path)
    missing = [name for name in (*_NUMBERS, "file") if name not in columns]
    if missing:
        raise InputError(f"has no column {missing[0]}", path=path, where="line 1")
    mine = columns["file"].astype(str) == stack.name
    if not mine.any():
        known = ", ".join(sorted(set(columns["file"].astype(str))))
        raise InputError(f"speaks of {known}, not of {stack.name}", path=path, fix="give the stacks it is of")
    try:
        numbers = {name: columns[name][mine].astype(np.float64) for name in _NUMBERS}
    except ValueError as error:
        raise InputError("holds something that is not a number", path=path) from error
    if not all((np.abs(values) < _LARGEST).all() for values in numbers.values()):
        raise InputError(f"a number is missing, not finite or not below {_LARGEST:g}", path=path)
    sections = numbers["section"].astype(np.int64) - 1
    axes = numbers["axis_degrees"]
    if len(np.unique(sections)) < len(sections) or sections.min() < 0 or np.ptp(axes) > 1e-6:
        raise InputError(f"the lines of {stack.name} contradict each other", path=path)
    return StackAlignment(
        sections=sections,
        used=numbers["used"] > 0,
        axis_degrees=float(axes[0]),
        tilts=numbers["tilt_degrees"],
        x_tilts=numbers["x_tilt_degrees"],
        rotations=numbers["rotation_degrees"],
        shifts=np.stack([numbers["shift_x_angstrom"], numbers["shift_y_angstrom"]], axis=1),
    )


def write_alignment(
    path: Path,
    geometry: TiltGeometry,
    files: tuple[str, ...],
    used: NDArray[np.bool_],
    moved_pixels: Float64,
    correlation: Float64,
) -> None:
    """Write the table of all stacks.

    ``files`` are their names; ``used (view,)``; ``moved_pixels (view, 2)`` is how far each view's image was
    moved against the input, ``correlation (view,)`` that of image and projection.

    Raises
    ------
    InputError
        If a view is magnified or stretched, which the table cannot hold.
    """
    rows = []
    for view, matrix in enumerate(geometry.matrices):
        parts = split_view(matrix)
        if np.abs(parts.stretch - np.eye(2)).max() > _LARGEST_STRETCH:
            raise InputError(
                "images that are magnified or stretched cannot be aligned", where=f"view {view + 1}"
            )
        axis = float(geometry.axis_degrees[view])
        x_tilt, tilt, turn = zyx_angles(parts.rotation @ rotation_z(axis))
        series = int(geometry.series[view])
        rows.append(
            (series + 1, files[series], geometry.sections[view] + 1, int(used[view]),
             *(f"{value:.8f}" for value in (axis, tilt, x_tilt, turn)),
             *(f"{value:.6f}" for value in (*parts.shift, *moved_pixels[view])), f"{correlation[view]:.6f}")
        )  # fmt: skip
    write_table(path, _HEADER, rows)
