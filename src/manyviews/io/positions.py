"""Positions as plain text or CSV: x y z on every line; a CSV file may name the tomogram of each too."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from manyviews.errors import InputError, quoted
from manyviews.io.subtomogram_table import Float64
from manyviews.io.text import parse_number, read_number_table, read_text

_TOMOGRAM_HEADINGS = ("tomogram", "tomo", "tomo_name", "rlntomoname")


@dataclass(frozen=True)
class Positions:
    """``values`` ``(N, 3)``, x y z in the unit of the file, and the name of each one's tomogram, or none."""

    values: Float64
    tomograms: tuple[str, ...] = ()


def read_positions(path: Path) -> Positions:
    """Three numbers a line, separated by blanks or commas; CSV files may begin with headings.

    With headings, the columns ``x``, ``y``, ``z`` and, if it is there, ``tomogram`` are read.

    Raises
    ------
    InputError
        If it is not text, a line holds something else, or there is none.
    """
    path = Path(path)
    if path.suffix.lower() == ".csv":
        found = _with_headings(path)
        if found is not None:
            return found
    return Positions(read_number_table(path, 3, meaning="a position x y z"))


def _with_headings(path: Path) -> Positions | None:
    """The columns of a CSV file by their headings; None where it has none."""
    text = read_text(path, wanted="the positions", images="the tomogram")
    try:
        rows = [row for row in csv.reader(text.splitlines()) if any(field.strip() for field in row)]
    except csv.Error as error:
        raise InputError(
            f"is not a CSV file ({error})", path=path, fix="give x, y, z on every line"
        ) from error
    headings = [field.strip().lower() for field in rows[0]] if rows else []
    if not any(field.isidentifier() for field in headings):
        return None
    missing = [axis for axis in "xyz" if axis not in headings]
    if missing:
        raise InputError(
            f"there is no column {missing[0]}", path=path, where="line 1", fix="give the columns x, y and z"
        )
    if len(rows) == 1:
        raise InputError("holds no positions", path=path, fix="give x, y, z on every line")
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(headings):
            raise InputError(
                f"holds {len(row)} fields under {len(headings)} headings",
                path=path,
                where=f"position {number}",
                fix="give a field for each heading",
            )
    columns = {name: [row[at].strip() for row in rows[1:]] for at, name in enumerate(headings)}
    values = [
        [
            parse_number(text, path=path, where=f"column {axis}, position {number}")
            for axis, text in zip("xyz", row, strict=True)
        ]
        for number, row in enumerate(zip(*(columns[axis] for axis in "xyz"), strict=True), start=1)
    ]
    label = next((name for name in _TOMOGRAM_HEADINGS if name in columns), None)
    names = () if label is None else tuple(columns[label])
    if "" in names:
        raise InputError(
            f"position {names.index('') + 1} has no tomogram", path=path, where=f"column {quoted(label)}",
            fix="name it",
        )  # fmt: skip
    return Positions(np.array(values, dtype=np.float64), names)
