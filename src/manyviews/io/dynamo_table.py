"""Dynamo's tables (``.tbl``): a particle a line, columns by number, no header.

Source: Dynamo's wiki, "Table" and "Table convention"; ``dthelp``. A particle sits at
``(x, y, z) + (dx, dy, dz)`` in voxels, of which the first is 1; angles are those of
`manyviews.geometry.zxz_angles`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from manyviews.errors import InputError, quoted
from manyviews.geometry.zxz_angles import from_dynamo, to_dynamo
from manyviews.io.atomic import atomic_write
from manyviews.io.numbered_files import find_numbered_volumes
from manyviews.io.numbered_tomograms import NumberedTomograms, number_tomograms
from manyviews.io.star import column_numbers, column_whole_numbers
from manyviews.io.subtomogram_table import Float64, Int64, SubtomogramTable
from manyviews.io.text import read_text
from manyviews.options import is_number

MAXIMUM_BYTES = 1024**3

FIRST_VOXEL = 1
"""The number of the first voxel, as in MATLAB."""

_FEWEST, _MOST = 9, 100
_WRITTEN = 35
_PIXEL_SIZE_COLUMN = 36
_LABEL = "dynamo"
_USED = {1, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16, 17, 20, 21, 22, 24, 25, 26, _PIXEL_SIZE_COLUMN}
_DEFAULTS = {2: "1", 3: "1", 32: "1"}  # aligned, averaged, number of particles in a group


def read_dynamo_table(
    path: Path,
    *,
    pixel_size: float | None = None,
    default_pixel_size: float | None = None,
    data_root: Path | None = None,
    with_volumes: bool = True,
) -> SubtomogramTable:
    """Read a Dynamo table.

    Parameters
    ----------
    path
        The table, with at least nine columns; columns 24 to 26 are needed for positions.
    pixel_size
        Angstrom; left out: column 36.
    default_pixel_size
        Angstrom, where that column says nothing.
    data_root
        Dynamo's data folder, in which ``particle_00001.em`` and so on lie by their tags.
    with_volumes
        Whether these volumes must be there.

    Raises
    ------
    InputError
        If it is not a table of numbers, the pixel size is not known, or a volume is missing.
    """
    columns = _Columns(Path(path))
    number = columns.whole(1)
    size, notes, warnings = _pixel_size(columns, pixel_size, default_pixel_size)
    has_position = columns.count >= 26
    tomograms = NumberedTomograms.of(columns.whole(20)) if columns.count >= 20 else None
    volumes: tuple[Path, ...] = ()
    if with_volumes:
        volumes = find_numbered_volumes(data_root or columns.path.parent, number.tolist(), columns.path)
    return SubtomogramTable(
        pixel_size=size,
        shifts=-columns.numbers(4, 5, 6) * size,
        angles=from_dynamo(columns.numbers(7, 8, 9)),
        volumes=volumes,
        tomograms=() if tomograms is None else tomograms.names,
        tomogram_index=None if tomograms is None else tomograms.index,
        coordinates=(columns.numbers(24, 25, 26) - FIRST_VOXEL) * size if has_position else None,
        score=columns.numbers(10)[:, 0] if columns.count >= 10 else None,
        number=number,
        wedge_type=columns.whole(13) if columns.count >= 17 else None,
        tilt_ranges=columns.numbers(14, 15, 16, 17) if columns.count >= 17 else None,
        parent=columns.whole(21) if columns.count >= 21 else None,
        class_number=columns.whole(22) if columns.count >= 22 else None,
        extra=columns.others(),
        notes=notes,
        warnings=warnings,
    )


def _pixel_size(
    columns: _Columns, given: float | None, default: float | None
) -> tuple[float, tuple[str, ...], tuple[str, ...]]:
    """Angstrom, where it is from, and what to warn of."""
    sizes = columns.numbers(_PIXEL_SIZE_COLUMN)[:, 0] if columns.count >= _PIXEL_SIZE_COLUMN else np.zeros(1)
    known = np.unique(sizes[sizes > 0])
    if given is not None:
        if len(known) and np.abs(known / given - 1).max() > 1e-3:
            said = (
                f"the pixel size is taken as {given:g} A, not as the {known[0]:g} A of the table's column 36"
            )
            return given, (), (said,)
        return given, (), ()
    if len(known) > 1:
        raise InputError(
            f"the particles have different pixel sizes ({known[0]:g} to {known[-1]:g} A)",
            path=columns.path,
            where="column 36",
            fix="give one with --pixel-size or make a table of each",
        )
    if not len(known) and default is not None:
        return default, (), ()
    if not len(known):
        raise InputError(
            "a Dynamo table does not tell the pixel size",
            path=columns.path,
            fix="give it with --pixel-size, in angstrom",
        )
    return float(known[0]), (f"the pixel size is {known[0]:g} A: column 36 of the table",), ()


class _Columns:
    """The columns of a table as texts, counted from 1."""

    def __init__(self, path: Path) -> None:
        self.path = path
        text = read_text(path, maximum_bytes=MAXIMUM_BYTES, wanted="the Dynamo table", images="the particles")
        rows: list[list[str]] = []
        for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
            words = line.split()
            if not words:
                continue
            if not rows and not _FEWEST <= len(words) <= _MOST:
                what = f"the line holds {len(words)} values, where a Dynamo table has {_FEWEST} to {_MOST}"
                raise InputError(what, path=path, where=f"line {number}", fix="give a table of Dynamo")
            if rows and len(words) != len(rows[0]):
                raise InputError(
                    f"the line holds {len(words)} values where the first has {len(rows[0])}",
                    path=path,
                    where=f"line {number}",
                    fix="copy the table again",
                )
            rows.append(words)
        if not rows:
            raise InputError("holds no particles", path=path, fix="give a table of Dynamo")
        self._texts = [list(column) for column in zip(*rows, strict=True)]
        self.count = len(self._texts)

    def numbers(self, *columns: int) -> Float64:
        """``(N, columns)`` finite numbers."""
        found = [column_numbers(self._texts[n - 1], str(n), self.path) for n in columns]
        return np.stack(found, axis=1)

    def whole(self, column: int) -> Int64:
        return column_whole_numbers(self._texts[column - 1], str(column), self.path)

    def others(self) -> dict[str, list[str]]:
        """What has no field of its own, for the round trip; it may be NaN, but must be numbers."""
        kept = {n: texts for n, texts in enumerate(self._texts, start=1) if n not in _USED}
        for number, texts in kept.items():
            for row, text in enumerate(texts, start=1):
                if not (text.isascii() and is_number(text)):
                    raise InputError(
                        f"{quoted(text)} is not a number",
                        path=self.path,
                        where=f"column {number}, row {row}",
                        fix="correct the table",
                    )
        return {f"{_LABEL}{number}": texts for number, texts in kept.items()}


def write_dynamo_table(path: Path, table: SubtomogramTable, *, overwrite: bool = False) -> tuple[str, ...]:
    """Write 35 columns, or more where the table has them; what could not be said in them is returned.

    Raises
    ------
    InputError
        If positions count from the middle of a tomogram, or the file cannot be written.
    """
    flat = table.in_tomogram()
    count, size = len(flat), flat.pixel_size
    positions = voxel_positions(flat, Path(path))
    numbered = number_tomograms(flat)
    zeros = np.zeros((count, 3))
    columns: dict[int, Sequence[str]] = {}

    def put(first: int, values: Float64 | Int64 | None, say: Callable[[float], str]) -> None:
        if values is not None:
            table_of_values = values.reshape(count, -1)
            for offset in range(table_of_values.shape[1]):
                columns[first + offset] = [say(value) for value in table_of_values[:, offset].tolist()]

    put(1, np.arange(1, count + 1) if flat.number is None else flat.number, str)
    put(4, -flat.shifts / size, _decimal)
    put(7, to_dynamo(zeros if flat.angles is None else flat.angles), _decimal)
    put(10, flat.score, _decimal)
    put(13, flat.wedge_type, str)
    put(14, flat.tilt_ranges, _decimal)
    put(20, numbered.numbers, str)
    put(21, flat.parent, str)
    put(22, flat.class_number, str)
    put(24, positions, _decimal)
    kept = {int(label[len(_LABEL) :]): texts for label, texts in flat.extra.items() if is_own_label(label)}
    columns = {**kept, **columns}
    width = max(_WRITTEN, *columns)
    if width >= _PIXEL_SIZE_COLUMN:
        put(_PIXEL_SIZE_COLUMN, np.full(count, size), _decimal)
    lists = [columns.get(number, [_DEFAULTS.get(number, "0")] * count) for number in range(1, width + 1)]
    text = "".join(" ".join(row) + "\n" for row in zip(*lists, strict=True))
    atomic_write(Path(path), text.encode("ascii"), overwrite=overwrite)
    return numbered.warnings


def is_own_label(label: str) -> bool:
    """Whether a column was kept from a Dynamo table."""
    return label.startswith(_LABEL) and label[len(_LABEL) :].isdecimal()


def _decimal(value: float) -> str:
    """Six decimals, without zeros at the end."""
    return f"{value:.6f}".rstrip("0").rstrip(".") or "0"


def voxel_positions(table: SubtomogramTable, path: Path) -> Float64:
    """``(N, 3)``, where boxes lie, in voxels of the subtomograms of which the first is 1; zeros if not known.

    `InputError` where they count from the middle of a tomogram.
    """
    if table.coordinates is None:
        return np.zeros((len(table), 3))
    if table.origin != "corner":
        raise InputError(
            "positions count from the middle of a tomogram whose size is not known",
            path=path,
            fix="give it with --tomogram-size X Y Z, in voxels",
        )
    return table.coordinates / table.pixel_size + FIRST_VOXEL
