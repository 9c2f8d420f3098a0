"""Strict reading of small text files: size limits, line numbers in every complaint, no NaN.

Also the two shift formats that need no program's conventions: two columns ``x y``, and TomViz's JSON.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError, quoted
from manyviews.io.compressed import compression_of
from manyviews.io.hdf5 import SIGNATURE as HDF5_SIGNATURE
from manyviews.io.nested import parse_json

MAXIMUM_BYTES = 64 * 1024 * 1024
"""Alignment files are kilobytes; a larger one is the wrong file."""

_BLOCK_BYTES = 1024 * 1024

LARGEST_NUMBER = 1e12
"""No angle, shift or count comes near; beyond it sums and products lose their meaning."""

_LINE_RANGE = re.compile(r"^(?P<file>.+):(?P<first>\d{1,9})-(?P<last>\d{1,9})$")


def read_text(
    path: Path,
    *,
    maximum_bytes: int | None = None,
    wanted: str = "the text file",
    images: str = "the stack",
) -> str:
    """Whole text of a small file, at most ``maximum_bytes`` or `MAXIMUM_BYTES`: the wrong one is larger.

    ``wanted`` and ``images`` are what the user is told to give where the file is no text, and what that goes
    with. `InputError` if the file cannot be read, is too large, or is not text.
    """
    most = MAXIMUM_BYTES if maximum_bytes is None else maximum_bytes
    try:
        with open(path, "rb") as handle:
            # no more room is asked for than the file has; a pipe or a file that grows is read to the limit
            stored = min(most, os.fstat(handle.fileno()).st_size)
            data = handle.read(stored + 1)
            while len(data) <= most and (more := handle.read(_BLOCK_BYTES)):
                data += more
    except IsADirectoryError as error:
        raise InputError("is a folder", path=path, fix=f"give {wanted} in it") from error
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror or error})", path=path, fix="check the name and the permissions"
        ) from error
    except ValueError as error:
        raise InputError("is not a possible file name", path=path, fix="check the name") from error
    if len(data) > most:
        size = most / 1024**2
        raise InputError(f"is larger than {size:g} MiB", path=path, fix=f"give {wanted}, not the images")
    if compression := compression_of(data[:3]):
        raise InputError(f"is compressed by {compression}", path=path, fix=f"decompress {wanted} first")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        # Notepad's "Unicode"; a cut or wrong file fails where its numbers are read.
        return data.decode("utf-16", errors="replace")
    if b"\0" in data:
        what = "is an HDF5 file, as of EMAN2," if data.startswith(HDF5_SIGNATURE) else "is binary,"
        raise InputError(f"{what} not text", path=path, fix=f"give {wanted} that goes with {images}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Comments in microscope files are often Latin-1; the numbers in them are ASCII all the same.
        return data.decode("latin-1")


def content_lines(path: Path, *, comment: str = "#") -> Iterator[tuple[int, str]]:
    """Line number (from 1) and stripped text of every line that is neither empty nor a comment."""
    for number, line in enumerate(re.split(r"\r\n|\r|\n", read_text(path)), start=1):
        text = line.strip()
        if text and not (comment and text.startswith(comment)):
            yield number, text


def parse_number(text: str, *, path: Path, where: str) -> float:
    """One finite number, also with a typographic minus; `InputError` if it is none, or is beyond 1e12."""
    try:
        value = float(text.replace("\N{MINUS SIGN}", "-"))
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or abs(value) > LARGEST_NUMBER or "_" in text:
        what = f"{quoted(text)} is not a finite number of ordinary size"
        raise InputError(what, path=path, where=where, fix="correct the line")
    return value


def parse_whole_number(text: str, *, path: Path, where: str) -> int:
    """One whole number; errors as in `parse_number`."""
    value = parse_number(text, path=path, where=where)
    if value != int(value):
        raise InputError(
            f"{quoted(text)} is not a whole number", path=path, where=where, fix="correct the line"
        )
    return int(value)


def read_number_table(path: Path, columns: int, *, meaning: str) -> NDArray[np.float64]:
    """Numbers in a fixed number of columns separated by blanks or commas, ``(line, column)`` float64.

    ``meaning`` is what a line should hold, for the message, e.g. ``"a tilt angle"``. `InputError` on a line
    with another number of columns, on anything that is not a finite number, on an empty file.
    """
    rows = read_number_rows(path, meaning=meaning)
    for row in rows:
        if len(row.values) != columns:
            raise InputError(
                f"the line holds {len(row.values)} numbers where {meaning} ({columns}) was expected",
                path=path,
                where=row.where,
                fix="check that this is the right kind of file",
            )
    return np.array([row.values for row in rows], dtype=np.float64)


@dataclass(frozen=True)
class NumberRow:
    """The numbers of one line, and where it stands."""

    values: tuple[float, ...]
    where: str


def read_number_rows(path: Path, *, meaning: str) -> list[NumberRow]:
    """The numbers of every line, separated by blanks or commas; errors as in `read_number_table`."""
    rows = []
    for number, line in content_lines(path):
        where = f"line {number}"
        words = line.replace(",", " ").split()
        rows.append(NumberRow(tuple(parse_number(word, path=path, where=where) for word in words), where))
    if not rows:
        raise InputError("holds no numbers", path=path, fix=f"give a file with {meaning} on every line")
    return rows


def write_number_table(path: Path, rows: NDArray[np.float64], line_format: str, *, overwrite: bool) -> None:
    """Write one formatted line a row; ``line_format`` is a ``%`` format for the tuple of columns."""
    from manyviews.io.atomic import atomic_write

    text = "".join(line_format % tuple(row) + "\n" for row in np.atleast_2d(rows))
    atomic_write(path, text.encode("ascii"), overwrite=overwrite)


def split_line_range(path: Path) -> tuple[Path, slice]:
    """Take ``FILE:FIRST-LAST`` apart into the file and the lines meant (counted from 1, both included).

    A path without such an ending, or one that exists as it is, means the whole file.
    """
    match = _LINE_RANGE.match(str(path))
    if match is None or path.exists():
        return path, slice(None)
    first, last = int(match["first"]), int(match["last"])
    if first < 1 or last < first:
        raise InputError(
            f"the range {first}-{last} is empty", path=match["file"], fix="count from 1, first before last"
        )
    return Path(match["file"]), slice(first - 1, last)


def read_shifts(path: Path) -> NDArray[np.float64]:
    """Shifts ``(view, 2)`` in pixels, ``(x, y)``: how far to move each raw image so that it is aligned.

    ``x`` grows with the column index and ``y`` with the row index of the stored array, so moving by ``(dx,
    dy)`` takes the pixel at ``[row, column]`` to ``[row + dy, column + dx]``. Two formats are read:

    * text, two columns ``x y`` a line, one line a section;
    * JSON as TomViz exports manual alignments, a list of ``[x, y]`` pairs, one a section. TomViz shows images
      with y upwards and loads TIFF and similar images with the first row on top, so its second number has
      the opposite sign of our row index: a pair ``[x, y]`` is read as the shift ``(x, -y)``. On the published
      openNCEM HAADF series this raises the mean correlation of neighbouring views from 0.88 to 0.97, while
      ``(x, +y)`` gives 0.93 and every swapped or negated reading makes it worse. If your stack was written
      with its rows the other way up, write the shifts as text.

    ``FILE:FIRST-LAST`` reads only those lines or pairs, counted from 1, for a stack that holds a part of the
    series the file was made for.

    Raises
    ------
    InputError
        If the file is neither, holds anything but finite numbers, or has no such lines.
    """
    file, wanted = split_line_range(path)
    shifts = _read_json_pairs(file) if file.suffix.lower() == ".json" else _read_shift_columns(file)
    if wanted.stop is not None and wanted.stop > len(shifts):
        raise InputError(
            f"lines up to {wanted.stop} were asked for but there are {len(shifts)}",
            path=file,
            fix="give a range within the file",
        )
    return shifts[wanted]


def _read_shift_columns(path: Path) -> NDArray[np.float64]:
    return read_number_table(path, 2, meaning="a shift x y")


def _read_json_pairs(path: Path) -> NDArray[np.float64]:
    fix = "give a list of [x, y] pairs as TomViz writes it"
    try:
        pairs = parse_json(read_text(path))
    except ValueError as error:
        raise InputError("is not valid JSON", path=path, fix=fix) from error
    if not isinstance(pairs, list) or not pairs:
        raise InputError("is not a list of pairs", path=path, fix=fix)
    shifts = np.empty((len(pairs), 2))
    for index, pair in enumerate(pairs):
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(v) in (int, float) for v in pair)):
            raise InputError("is not a pair of numbers", path=path, where=f"entry {index + 1}", fix=fix)
        x, y = (parse_number(str(v), path=path, where=f"entry {index + 1}") for v in pair)
        shifts[index] = x, -y
    return shifts
