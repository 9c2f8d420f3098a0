"""IMOD's .defocus files, versions 2 and 3.

Source: IMOD man page ctfphaseflip. Columns are first and last view (from 1), first and last tilt angle
(degrees), defocus (nanometres). Version 2 has the number 2 at the end of its first line. Version 3 begins
with a line ``flags 0 0. 0. 0 3``; the flags add up: 1 for a second defocus and the angle of astigmatism
after the first, 2 for that angle in radians, 4 for a phase shift after it, 8 for that in radians, 16 for
tilt angles of the other sign, 32 for a cut-on frequency at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.defocus_table import DefocusTable
from manyviews.io.text import NumberRow, read_number_rows

Float64 = NDArray[np.float64]

_ANGSTROM_PER_NANOMETRE = 10.0
_MOST_VIEWS = 100_000
_MOST_FLAGS = 63


@dataclass(frozen=True)
class _Flags:
    astigmatism: bool
    angle_in_radians: bool
    phase: bool
    phase_in_radians: bool
    tilts_inverted: bool
    cut_on: bool

    @classmethod
    def of(cls, value: int) -> _Flags:
        return cls(*(bool(value & bit) for bit in (1, 2, 4, 8, 16, 32)))

    @property
    def columns(self) -> int:
        return 5 + 2 * self.astigmatism + self.phase + self.cut_on


def read_imod_defocus(path: Path) -> DefocusTable:
    """Read a .defocus file; lines that are for several views hold for the middle of them.

    Between middles defocus is interpolated, beyond the first and the last it is theirs.

    Raises
    ------
    InputError
        If the version is another, a line holds another number of columns, or views are no range.
    """
    rows = read_number_rows(path, meaning="views, tilt angles and a defocus")
    flags, rows = _flags(rows, path)
    for row in rows:
        if len(row.values) != flags.columns:
            raise InputError(
                f"the line holds {len(row.values)} numbers where {flags.columns} are expected",
                path=path,
                where=row.where,
                fix="give a whole .defocus file of version 2 or 3",
            )
        first, last = row.values[:2]
        if not (first == int(first) and last == int(last) and 1 <= first <= last <= _MOST_VIEWS):
            raise InputError(
                f"{first:g} to {last:g} are no views counted from 1",
                path=path,
                where=row.where,
                fix="correct it",
            )
    return _table(np.array([row.values for row in rows]), flags, path)


def _flags(rows: list[NumberRow], path: Path) -> tuple[_Flags, list[NumberRow]]:
    """What the columns are, and the rows that hold them."""
    first = rows[0]
    if len(first.values) == 6 and first.values[5] == 3 and first.values[1] == 0:
        value = first.values[0]
        if not (value == int(value) and 0 <= value <= _MOST_FLAGS):
            raise InputError(f"{value:g} are no flags", path=path, where=first.where, fix="give 0 to 63")
        if len(rows) == 1:
            raise InputError("holds no defocus", path=path, fix="give a whole .defocus file")
        return _Flags.of(int(value)), rows[1:]
    if len(first.values) == 6 and first.values[5] == 2:
        return _Flags.of(0), [NumberRow(first.values[:5], first.where), *rows[1:]]
    raise InputError(
        "does not say that it is of version 2 or 3",
        path=path,
        where=first.where,
        fix="write it anew by ctfplotter",
    )


def _table(table: Float64, flags: _Flags, path: Path) -> DefocusTable:
    middle = table[:, :2].mean(axis=1)
    order = np.argsort(middle, kind="stable")
    table, middle = table[order], middle[order]
    if (np.diff(middle) == 0).any():
        raise InputError("two lines are for the same views", path=path, fix="leave one of them out")
    views = np.unique(np.concatenate([np.arange(row[0], row[1] + 1) for row in table]))

    def at_views(column: Float64) -> Float64:
        return np.asarray(np.interp(views, middle, column), dtype=np.float64)

    first = _ANGSTROM_PER_NANOMETRE * table[:, 4]
    second, angle, phase = first, np.zeros(len(table)), np.zeros(len(table))
    if flags.astigmatism:
        second = _ANGSTROM_PER_NANOMETRE * table[:, 5]
        angle = np.rad2deg(table[:, 6]) if flags.angle_in_radians else table[:, 6]
    if flags.phase:
        column = table[:, 5 + 2 * flags.astigmatism]
        phase = np.rad2deg(column) if flags.phase_in_radians else column
    # twice the angle is what goes round
    turned = np.rad2deg(np.unwrap(np.deg2rad(2 * angle))) / 2
    single = bool((table[:, 0] == table[:, 1]).all())
    tilts = table[:, 2:4].mean(axis=1) * (-1 if flags.tilts_inverted else 1)
    return DefocusTable(
        source=str(path),
        defocus=np.stack([at_views(first), at_views(second)], axis=1),
        angle=at_views(turned),
        phase_shift=at_views(phase),
        sections=views.astype(np.int64) - 1,
        tilt_degrees=at_views(tilts) if single else None,
    )
