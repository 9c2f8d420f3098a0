"""STAR files: data blocks of named columns of text, read strictly and written in RELION's dialect.

Sources: Hall, J. Chem. Inf. Comput. Sci. 31 (1991) 326 (STAR); RELION 3.1 ``metadata_table.cpp`` (one loop a
block, the line ``# version 30001`` before each). The text is taken apart by gemmi's CIF parser.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError, quoted, shortened
from manyviews.io.atomic import atomic_write
from manyviews.io.star_rows import RowFault, find_cut, find_row_fault
from manyviews.io.text import LARGEST_NUMBER, parse_number, parse_whole_number, read_text

MAXIMUM_STAR_BYTES = 1024**3
"""Some three million particles; a larger file is the wrong one."""

RELION_VERSION = 30001
"""The number in the ``# version`` line that RELION 3.1 writes and later ones read."""

_LARGEST_EXACT = 2**53
_EMAN_SETS = "#LST", "#LSX"
_PARSER_PLACE = re.compile(r"^string:?(?P<line>\d+)?(:\d+\(\d+\))?:?\s*(?P<what>.*)$")


@dataclass(frozen=True)
class StarBlock:
    """One data block; its name is what follows ``data_``, possibly nothing.

    ``columns`` are values by label (without the leading underscore), all of one length, quotes taken off. A
    value that stands outside a loop is a column of length one.
    """

    name: str
    columns: Mapping[str, list[str]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))


def read_star(path: Path) -> tuple[StarBlock, ...]:
    """All data blocks of a STAR file, in their order.

    Raises
    ------
    InputError
        If the file cannot be read, is larger than 1 GiB, is not STAR, a block has a column twice, columns of
        different lengths or a save frame, or the lines of a loop are not its rows.
    """
    from gemmi import cif

    text = read_text(
        Path(path), maximum_bytes=MAXIMUM_STAR_BYTES, wanted="the STAR file", images="the images"
    )
    if text.startswith(_EMAN_SETS):
        raise InputError(
            "is a set of EMAN2, a list of images",
            path=path,
            fix="make a STAR file of it with e2refinetorelion3d.py, and stacks with e2proc2d.py",
        )
    try:
        document = cif.read_string(text)
    except (ValueError, RuntimeError) as error:
        raise explain_star_error(error, text, path) from error
    blocks = tuple(_block(block, path) for block in document)
    if fault := find_row_fault(text, is_parsed=True) or find_cut(text):
        raise _row_error(fault, path)
    return blocks


def explain_star_error(error: Exception, text: str, path: Path) -> InputError:
    """What a parser complains of in one sentence: a line that is no row of its loop, else its own words."""
    fault = find_row_fault(text)
    return _not_star(error, text, path) if fault is None else _row_error(fault, path)


def _row_error(fault: RowFault, path: Path) -> InputError:
    return InputError(fault.what, path=path, where=f"line {fault.line}", fix=fault.fix)


def _not_star(error: Exception, text: str, path: Path) -> InputError:
    """The parser's complaint as ours: its line, its reason, and a hint where letters are not ASCII."""
    first = shortened(str(error).splitlines()[0], 160) if str(error) else "unreadable"
    match = _PARSER_PLACE.match(first)
    line, what = (match["line"], match["what"]) if match else (None, first)
    fix = "close the quote" if "unterminated" in what else "give a STAR file as RELION writes it"
    if not text.isascii():
        fix += "; letters beyond ASCII are not allowed in its values"
    where = f"line {line}" if line else None
    return InputError(f"is not a STAR file ({what or 'unreadable'})", path=path, where=where, fix=fix)


def is_cut_within_line(path: Path) -> bool:
    """Whether a file ends in the middle of a line, so that its last value may be cut off."""
    with open(path, "rb") as handle:
        handle.seek(max(0, handle.seek(0, os.SEEK_END) - 1))
        return handle.read(1) not in (b"", b"\n", b"\r")


def _block(block: Any, path: Path) -> StarBlock:
    name = str(block.name).strip()
    columns: dict[str, list[str]] = {}
    for item in block:
        if item.pair is not None:
            tag, value = item.pair
            columns[_label(tag)] = _plain([value])
        elif item.loop is not None:
            tags, values = list(item.loop.tags), list(item.loop.values)
            for number, tag in enumerate(tags):
                columns[_label(tag)] = _plain(values[number :: len(tags)])
        elif item.frame is not None:
            raise InputError("has a save frame, which particle files never have", path=path, where=name)
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise InputError(
            f"the columns of data_{name} have different lengths ({min(lengths)} to {max(lengths)})",
            path=path,
            fix="keep one loop in a data block",
        )
    return StarBlock(name, columns)


def _label(tag: str) -> str:
    return tag.removeprefix("_")


def _plain(values: list[str]) -> list[str]:
    """The values without their quotes."""
    from gemmi import cif

    return [cif.as_string(value) if value[:1] in ('"', "'", ";") else value for value in values]


def column_numbers(values: Sequence[str], label: str, path: Path) -> NDArray[np.float64]:
    """A column as finite numbers ``(row,)``; an `InputError` names the column and the row (from 1)."""
    try:
        numbers = np.array([float(value) for value in values], dtype=np.float64)
    except ValueError:
        numbers = np.array([np.nan])
    ordinary = bool(np.all(np.abs(numbers) <= LARGEST_NUMBER))  # false for NaN as well
    if ordinary and "_" not in "".join(values):
        return numbers
    # Slowly once more: it ends at the culprit.
    return np.array(
        [parse_number(value, path=path, where=_cell(label, row)) for row, value in enumerate(values)]
    )


def column_whole_numbers(values: Sequence[str], label: str, path: Path) -> NDArray[np.int64]:
    """A column as whole numbers ``(row,)``; errors as in `column_numbers`."""
    numbers = column_numbers(values, label, path)
    whole = (numbers == np.rint(numbers)) & (np.abs(numbers) < _LARGEST_EXACT)
    if not whole.all():
        row = int(np.flatnonzero(~whole)[0])
        parse_whole_number(values[row], path=path, where=_cell(label, row))
    return numbers.astype(np.int64)


def _cell(label: str, row: int) -> str:
    return f"column {label}, row {row + 1}"


def write_star(
    path: Path, blocks: Sequence[StarBlock], *, version: int = RELION_VERSION, overwrite: bool = False
) -> None:
    """Write blocks as loops, with RELION's version line before each.

    Raises
    ------
    InputError
        If the file exists or cannot be written, or a value cannot stand in a STAR file (line breaks, letters
        beyond ASCII, both kinds of quotes).
    ValueError
        If the columns of a block differ in length.
    """
    parts = []
    for block in blocks:
        labels = list(block.columns)
        parts.append(f"\n# version {version}\n\ndata_{block.name}\n\nloop_")
        parts += [f"_{label} #{number}" for number, label in enumerate(labels, start=1)]
        tokens = [_tokens(block.columns[label], label, path) for label in labels]
        parts += [" ".join(row) for row in zip(*tokens, strict=True)]
        parts.append("")
    atomic_write(Path(path), ("\n".join(parts) + "\n").encode("ascii"), overwrite=overwrite)


_BARE = r"(?!(?i:data_|loop_|save_|stop_|global_))[A-Za-z0-9+\-./@\[(][!-~]*"
_BARE_VALUE = re.compile(_BARE)
_BARE_LINES = re.compile(rf"(?:{_BARE}\n)*+")


def _tokens(values: list[str], label: str, path: Path) -> list[str]:
    """A column as it may stand in rows; almost always as it is, which is found out in one go."""
    lines = "".join(f"{value}\n" for value in values)
    if lines.count("\n") == len(values) and _BARE_LINES.fullmatch(lines):
        return values
    return [_token(value, label, path) for value in values]


def _token(value: str, label: str, path: Path) -> str:
    """A value as it may stand in a row; quoted where it has blanks or begins like something else."""
    if _BARE_VALUE.fullmatch(value):
        return value
    quote = "'" if '"' in value else '"'
    if not value.isascii() or not value.isprintable() or quote in value:
        raise InputError(
            f"{quoted(value)} cannot stand in a STAR file",
            path=path,
            where=f"column {label}",
            fix="rename it with plain letters",
        )
    return f"{quote}{value}{quote}"
