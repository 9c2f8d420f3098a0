"""IMOD alignment files: .tlt, .rawtlt, .xtilt and .xf; tilt.com is in `manyviews.io.imod_com`.

Sources: IMOD man pages xf2rotmagstr, newstack, tilt; ``tilt.f`` for the projection, which in the right-handed
volume that ``trimvol -rx`` makes is ``u = x cos(tilt) + (y sin(xtilt) + z cos(xtilt)) sin(tilt)``,
``v = y cos(xtilt) - z sin(xtilt)``: our ``Ry(tilt) Rx(xtilt)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyviews.errors import InputError, quoted
from manyviews.geometry.euler import half_pixel_offset, move_image_origin, split_view, zyx_angles
from manyviews.geometry.views import TiltGeometry, rotation_z
from manyviews.io.text import (
    parse_whole_number,
    read_number_rows,
    read_number_table,
    write_number_table,
)

Float64 = NDArray[np.float64]


def read_angles(path: Path) -> Float64:
    """Degrees, one a line (.tlt, .rawtlt, .xtilt), ``(view,)``; `InputError` on any other line."""
    return read_number_table(path, 1, meaning="an angle")[:, 0]


@dataclass(frozen=True)
class AngleTable:
    """Tilt angles ``(view,)`` in degrees; order of acquisition and dose ``(view,)``, where the file has them.

    The dose is in the unit of the file: electrons per square angstrom in those of AreTomo.
    """

    tilt_degrees: Float64
    acquisition_order: NDArray[np.int64] | None = None
    dose: Float64 | None = None


def read_angle_table(path: Path) -> AngleTable:
    """Read a list of tilt angles: one a line, or AreTomo's ``_TLT.txt``, ``angle order [dose]``.

    Raises
    ------
    InputError
        If lines hold anything else, or if it is not clear which column holds the angles.
    """
    rows = read_number_rows(path, meaning="a tilt angle")
    columns = len(rows[0].values)
    for row in rows:
        if len(row.values) != columns or not 1 <= columns <= 3:
            raise InputError(
                f"the line holds {len(row.values)} numbers where a tilt angle was expected"
                + (f" and the first line holds {columns}" if columns != len(row.values) else ""),
                path=path,
                where=row.where,
                fix="give one angle a line, or AreTomo's columns angle, order of acquisition, dose",
            )
    table = np.array([row.values for row in rows])
    if columns == 1:
        return AngleTable(table[:, 0])
    if not _counts(np.sort(table[:, 1])) or (len(table) > 1 and _counts(table[:, 0])):
        raise InputError(
            f"has {columns} columns, of which the second is not an order of acquisition 1, 2, 3, ..."
            " beside angles in the first",
            path=path,
            fix="leave only the angles in the file",
        )
    order = table[:, 1].astype(np.int64)
    return AngleTable(table[:, 0], order, table[:, 2] if columns == 3 else None)


def _counts(values: Float64) -> bool:
    """Whether values are 0, 1, 2, ... or 1, 2, 3, ..."""
    return bool(values[0] in (0, 1)) and bool(np.all(np.diff(values) == 1))


def write_angles(path: Path, degrees: ArrayLike, *, overwrite: bool = False) -> None:
    """Write degrees one a line, two decimals more than IMOD so that nothing is lost on the way back."""
    rows = np.asarray(degrees, dtype=np.float64).reshape(-1, 1)
    write_number_table(path, rows, "%10.4f", overwrite=overwrite)


def read_xf(path: Path) -> Float64:
    """Linear transforms ``a11 a12 a21 a22 dx dy``, ``(view, 6)``, shifts in pixels.

    Raises
    ------
    InputError
        If a line is not six finite numbers or its matrix cannot be inverted.
    """
    rows = read_number_table(path, 6, meaning="a transform a11 a12 a21 a22 dx dy")
    determinants = rows[:, 0] * rows[:, 3] - rows[:, 1] * rows[:, 2]
    if np.any(np.abs(determinants) < 1e-6):
        bad = int(np.argmax(np.abs(determinants) < 1e-6)) + 1
        raise InputError(
            "the matrix cannot be inverted", path=path, where=f"transform {bad}", fix="align this view again"
        )
    return rows


def write_xf(path: Path, rows: ArrayLike, *, overwrite: bool = False) -> None:
    """Write ``(view, 6)`` transforms in IMOD's columns."""
    given = np.asarray(rows, dtype=np.float64).reshape(-1, 6)
    write_number_table(path, given, "%12.7f%12.7f%12.7f%12.7f%12.3f%12.3f", overwrite=overwrite)


def xf_to_raw_to_aligned(rows: ArrayLike, pixel_size: float, image_shape: tuple[int, int]) -> Float64:
    """.xf lines as ``(view, 3, 3)`` raw-to-aligned transforms in angstrom for `with_image_transform`.

    An .xf line turns a raw image about its middle ``(n - 1) / 2`` and places the result about the middle of
    the aligned image, through which the tilt axis runs. The transforms returned take raw points counted from
    pixel ``n // 2``, so the half pixel between the two centres of an even image is in them.
    """
    given = np.asarray(rows, dtype=np.float64)
    transforms = np.tile(np.eye(3), (len(given), 1, 1))
    transforms[:, :2, :2] = given[:, :4].reshape(-1, 2, 2)
    transforms[:, :2, 2] = given[:, 4:] * pixel_size
    return move_image_origin(transforms, half_pixel_offset(image_shape) * pixel_size)


@dataclass(frozen=True)
class ImodAlignment:
    """What IMOD needs to see the views as we do: ``xf (view, 6)``, shifts in pixels, tilts ``(view,)``."""

    xf: Float64
    tilt_degrees: Float64
    x_tilt_degrees: Float64


def geometry_to_imod(
    geometry: TiltGeometry, pixel_size: float, image_shape: tuple[int, int]
) -> ImodAlignment:
    """The files for any view: a rotation is ``Rz Ry Rx``, and .xf carries the rest."""
    offset = half_pixel_offset(image_shape)
    xf = np.empty((len(geometry), 6))
    tilts, x_tilts = np.empty(len(geometry)), np.empty(len(geometry))
    for i, matrix in enumerate(geometry.matrices):
        parts = split_view(matrix)
        x_tilts[i], tilts[i], turn = zyx_angles(parts.rotation)
        to_aligned = np.linalg.inv(parts.stretch @ rotation_z(turn)[:2, :2])
        xf[i, :4] = to_aligned.ravel()
        xf[i, 4:] = -to_aligned @ (parts.shift / pixel_size + offset)
    return ImodAlignment(xf, tilts, x_tilts)


def parse_section_list(text: str, *, path: Path | None = None, where: str = "") -> tuple[int, ...]:
    """IMOD's list of sections counted from 1, e.g. ``1,4-6`` is 1, 4, 5, 6.

    Raises
    ------
    InputError
        If the list is not made of positive numbers and rising ranges below 100000.
    """
    sections: list[int] = []
    for part in text.replace(" ", "").split(","):
        if not part:
            continue
        first, _, last = part.partition("-")
        if not (first.isascii() and first.isdigit() and (not last or (last.isascii() and last.isdigit()))):
            raise InputError(
                f"{quoted(part)} is not a section or range", path=path, where=where, fix="write 1,4-6"
            )
        low = parse_whole_number(first, path=path or Path(), where=where)
        high = parse_whole_number(last, path=path or Path(), where=where) if last else low
        if not 1 <= low <= high < 100_000 or part.endswith("-"):
            raise InputError(
                f"{quoted(part)} is not a section or range", path=path, where=where, fix="write 1,4-6"
            )
        sections.extend(range(low, high + 1))
    return tuple(sections)
