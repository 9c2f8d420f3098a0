"""Small tables as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.atomic import atomic_write


def write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a header and rows, in place of what is there.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    atomic_write(path, text.getvalue().encode(), overwrite=True)


def read_columns(path: Path) -> dict[str, NDArray[Any]]:
    """The columns of a table by their headings, ``(row,)`` each: whole numbers, numbers, else texts.

    Raises
    ------
    InputError
        If the file cannot be read, or a row has another number of fields than the header.
    """
    try:
        with open(path, encoding="utf-8", newline="") as handle:
            header, *rows = csv.reader(handle)
    except (ValueError, OSError, csv.Error) as error:
        raise InputError(f"cannot be read as a table ({error})", path=path) from error
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
        except ValueError:
            continue
    return np.array(texts, dtype=str)
