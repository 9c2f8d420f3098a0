"""Small tables as CSV files with a header line."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError, quoted, shortened
from manyviews.io.atomic import atomic_write

Float64 = NDArray[np.float64]
Row = dict[str, str]


def write_table(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[object]], *, overwrite: bool = True
) -> None:
    """Write a header and rows; `InputError` if the file is there and ``overwrite`` is false."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    atomic_write(path, text.getvalue().encode(), overwrite=overwrite)


def read_table(path: Path, columns: tuple[str, ...]) -> list[Row]:
    """Rows of a CSV file with a header line, none if there is no file.

    `InputError` if it cannot be read, or one of ``columns`` is not in it.
    """
    if not path.exists():
        return []
    try:
        with open(path, encoding="utf-8", newline="") as handle:
            reader = csv.DictReader(handle, restkey="", restval="")
            rows = [{key: str(value) for key, value in row.items()} for row in reader]
            missing = set(columns) - set(reader.fieldnames or ())
    except (ValueError, OSError, csv.Error) as error:
        raise InputError(f"cannot be read ({shortened(error)})", path=path) from error
    if missing:
        raise InputError(f"has no column {', '.join(sorted(missing))}", path=path, where="line 1")
    return rows


def read_numbers(path: Path, columns: tuple[str, ...]) -> Float64:
    """``(row, column)`` of a CSV file, no row if there is no file; an empty field is NaN.

    `InputError` as of `read_table`, or if a field is no number.
    """
    rows = read_table(path, columns)
    found = np.full((len(rows), len(columns)), math.nan)
    for number, row in enumerate(rows):
        for at, column in enumerate(columns):
            try:
                found[number, at] = float(row[column] or "nan")
            except ValueError as error:
                raise InputError(
                    f"{column} is {quoted(row[column])}, not a number", path=path, where=f"line {number + 2}"
                ) from error
    return found


def require_ordinary(values: Float64, path: Path, *, least: float, most: float) -> None:
    """Refuse a table ``(row, column)`` with a number that is NaN or not from ``least`` to ``most``."""
    good = np.all((values >= least) & (values <= most), axis=1)
    if not good.all():
        row = int(np.argmin(good))
        raise InputError(
            f"a number is missing or not from {least:.6g} to {most:.6g}", path=path, where=f"line {row + 2}"
        )


def read_columns(path: Path) -> dict[str, NDArray[Any]]:
    """The columns of a table by their headings, ``(row,)`` each: whole numbers, numbers, else texts.

    `InputError` if it cannot be read, or a row has another number of fields than the header.
    """
    try:
        with open(path, encoding="utf-8", newline="") as handle:
            header, *rows = csv.reader(handle)
    except (ValueError, OSError, csv.Error) as error:
        raise InputError(f"cannot be read as a table ({shortened(error)})", path=path) from error
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise InputError(
                f"{len(row)} fields under {len(header)} headings", path=path, where=f"row {number}"
            )
    return {name: _column([row[at] for row in rows]) for at, name in enumerate(header)}


def _column(texts: list[str]) -> NDArray[Any]:
    """An empty field among numbers is NaN."""
    if texts and not any(texts):
        return np.array(texts)
    for texts_as, kind in ((texts, np.int64), ([text or "nan" for text in texts], np.float64)):
        try:
            return np.array(texts_as, dtype=str).astype(kind)
        except (ValueError, OverflowError):
            continue
    return np.array(texts, dtype=str)
