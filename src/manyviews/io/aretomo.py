"""AreTomo alignment files (.aln).

Source: AreTomo3 ``SaveAlignFile`` and ``CSaveXF``; files of AreTomo 1, 2 and 3. The columns are ``SEC ROT
GMAG TX TY SMEAN SFIT SCALE BASE TILT``; to align, a raw image is moved by ``(-TX, -TY)`` and turned by
``-ROT``, both about its middle, after which the tilt axis is vertical.

SEC is the number of a section in the raw stack, dark ones included, and so is the second number of a
DarkFrame line. Both count from 0 where one of them is 0 or where the two numbers of the first DarkFrame line
agree (AreTomo 2), else from 1 (AreTomo 3). In some older files SEC counts only the sections left once the
dark ones were removed, and the first number of DarkFrame is the raw section, from 1, or from 0 if a 0 is
among them: they are read so where the first reading is impossible, and otherwise offered as another reading.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.geometry.euler import half_pixel_offset, split_view, zyx_angles
from manyviews.geometry.views import TiltGeometry, rotation_z
from manyviews.io.atomic import atomic_write
from manyviews.io.text import parse_number, parse_whole_number, read_text

_COLUMNS = 10


@dataclass(frozen=True)
class AreTomoAlignment:
    """Global alignment of an .aln file.

    Attributes
    ----------
    raw_shape
        ``(sections, rows, columns)`` of the raw stack, or None where the header does not have it.
    sections
        ``(view,)`` index of each line's section in the raw stack, from 0.
    numbering
        How SEC was read, in words.
    other_sections
        Other readings of SEC that would be possible, with their words.
    rotation_degrees, magnification, tilt_degrees
        ``(view,)`` ROT, GMAG, TILT.
    shifts
        ``(view, 2)`` TX, TY in pixels of the raw stack.
    dark_sections
        Raw sections that AreTomo left out, from 0.
    alpha_offset, beta_offset
        Degrees: offsets of the tilt about the axis and across it that AreTomo found; TILT holds the first.
    has_local_alignment
        True where patches follow, which are not used.
    """

    raw_shape: tuple[int, int, int] | None
    sections: NDArray[np.int64]
    rotation_degrees: NDArray[np.float64]
    magnification: NDArray[np.float64]
    shifts: NDArray[np.float64]
    tilt_degrees: NDArray[np.float64]
    dark_sections: tuple[int, ...] = ()
    alpha_offset: float = 0.0
    beta_offset: float = 0.0
    has_local_alignment: bool = False
    numbering: str = ""
    other_sections: tuple[tuple[str, NDArray[np.int64]], ...] = ()


def read_aln(path: Path) -> AreTomoAlignment:
    """Read an .aln file.

    Raises
    ------
    InputError
        If the table is missing, a line is short or holds something that is not a number, or the sections do
        not fit the raw stack.
    """
    header: dict[str, tuple[str, str]] = {}
    dark: list[tuple[int, int]] = []
    rows: list[list[float]] = []
    numbers_of_rows: list[int] = []
    has_local = False
    text = read_text(path)
    if "AreTomo" not in text.split("\n", 1)[0]:
        raise InputError(
            "is not an AreTomo alignment file", path=path, where="line 1", fix="give the .aln file"
        )
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        where = f"line {number}"
        words = line.lstrip("# ").split()
        if line.lstrip().startswith("# Local Alignment"):
            has_local = True
            break
        if line.lstrip().startswith("#"):
            key, _, value = line.lstrip("# ").partition("=")
            if key.strip() == "DarkFrame":
                dark.append(_dark_numbers(value, path, where))
            else:
                header[key.strip()] = (value.strip(), where)
        elif words:
            if len(words) != _COLUMNS:
                raise InputError(f"the line holds {len(words)} columns, not 10", path=path, where=where)
            rows.append([parse_number(word, path=path, where=where) for word in words])
            numbers_of_rows.append(number)
    if not rows:
        raise InputError("has no alignment lines", path=path, fix="give a complete .aln file")
    table = np.array(rows)
    shape = _raw_shape(header, path)
    readings = _readings(table[:, 0], dark, shape, path, numbers_of_rows)
    return AreTomoAlignment(
        raw_shape=shape,
        sections=readings[0].sections,
        rotation_degrees=table[:, 1],
        magnification=_magnification(table[:, 2], path, numbers_of_rows),
        shifts=table[:, 3:5],
        tilt_degrees=table[:, 9],
        dark_sections=readings[0].dark,
        alpha_offset=_header_number(header, "AlphaOffset", path),
        beta_offset=_header_number(header, "BetaOffset", path),
        has_local_alignment=has_local,
        numbering=readings[0].words,
        other_sections=tuple((reading.words, reading.sections) for reading in readings[1:]),
    )


def _dark_numbers(value: str, path: Path, where: str) -> tuple[int, int]:
    """The two numbers of a DarkFrame line; an absent second one is taken to be the first."""
    words = value.split()
    if not words:
        raise InputError("DarkFrame names no section", path=path, where=where, fix="correct the line")
    numbers = [parse_whole_number(word, path=path, where=where) for word in words[:2]]
    for number in numbers:
        if not 0 <= number < 1_000_000:
            raise InputError(
                f"DarkFrame {number} is not a section", path=path, where=where, fix="correct the line"
            )
    return numbers[0], numbers[-1]


def _raw_shape(header: dict[str, tuple[str, str]], path: Path) -> tuple[int, int, int] | None:
    if "RawSize" not in header:
        return None
    value, where = header["RawSize"]
    sides = [parse_whole_number(word, path=path, where=where) for word in value.split()]
    if len(sides) != 3 or min(sides) < 1 or max(sides) > 1_000_000:
        raise InputError(
            "RawSize is not three positive numbers", path=path, where=where, fix="correct the line"
        )
    return sides[2], sides[1], sides[0]


def _header_number(header: dict[str, tuple[str, str]], key: str, path: Path) -> float:
    if key not in header:
        return 0.0
    value, where = header[key]
    return parse_number(value, path=path, where=where)


def _magnification(values: NDArray[np.float64], path: Path, lines: list[int]) -> NDArray[np.float64]:
    if np.any((values < 0.1) | (values > 10)):
        bad = lines[int(np.argmax((values < 0.1) | (values > 10)))]
        raise InputError("GMAG is not a magnification near 1", path=path, where=f"line {bad}")
    return values


# --- which section a line belongs to ---


@dataclass(frozen=True)
class _Reading:
    """One way to read SEC: indices into the raw stack of the lines ``(view,)``, and of the dark sections."""

    words: str
    sections: NDArray[np.int64]
    dark: tuple[int, ...]


def _readings(
    numbers: NDArray[np.float64],
    dark: list[tuple[int, int]],
    shape: tuple[int, int, int] | None,
    path: Path,
    lines: list[int],
) -> list[_Reading]:
    """The readings of SEC that are possible, the most likely first."""
    _check_sections(numbers, path, lines)
    sections = numbers.astype(np.int64)
    count = shape[0] if shape else int(1e6)
    first = 0 if _counts_from_zero(sections, dark) else 1
    possible = [
        reading
        for reading in (
            _raw(sections, dark, first),
            _left_over(sections, dark, shape),
            _raw(sections, dark, 0),
        )
        if _is_possible(reading, count)
    ]
    if not possible:
        largest = int(np.argmax(sections))
        raise InputError(
            f"section {sections[largest]} does not exist among {count - len(dark)} that are not dark",
            path=path,
            where=f"line {lines[largest]}",
            fix="give the .aln file of this stack",
        )
    kept = possible[:1]
    for reading in possible[1:]:
        if not any(np.array_equal(reading.sections, other.sections) for other in kept):
            kept.append(reading)
    return kept


def _check_sections(numbers: NDArray[np.float64], path: Path, lines: list[int]) -> None:
    bad = (numbers != np.floor(numbers)) | (numbers < 0) | (numbers > 1e6)
    if np.any(bad):
        at = int(np.argmax(bad))
        raise InputError(
            f"section {numbers[at]:g} does not exist",
            path=path,
            where=f"line {lines[at]}",
            fix="give the .aln file of this stack",
        )
    if len(np.unique(numbers)) != len(numbers):
        raise InputError("a section is listed twice", path=path, fix="give the .aln file as AreTomo wrote it")


def _counts_from_zero(sections: NDArray[np.int64], dark: list[tuple[int, int]]) -> bool:
    return bool((sections == 0).any()) or any(
        second == 0 or (first == second and line == 0) for line, (first, second) in enumerate(dark)
    )


def _raw(sections: NDArray[np.int64], dark: list[tuple[int, int]], first: int) -> _Reading:
    """SEC and the second numbers of DarkFrame are sections of the raw stack, counted from ``first``."""
    words = f"SEC counts the sections of the raw stack from {first}"
    return _Reading(words, sections - first, tuple(sorted(second - first for _, second in dark)))


def _left_over(
    sections: NDArray[np.int64], dark: list[tuple[int, int]], shape: tuple[int, int, int] | None
) -> _Reading:
    """SEC counts what is left without the dark sections, which are the first numbers of DarkFrame."""
    start = 0 if any(first == 0 for first, _ in dark) else 1
    gone = sorted(first - start for first, _ in dark)
    count = shape[0] if shape else len(dark) + int(sections.max()) + 1
    left = np.setdiff1d(np.arange(count, dtype=np.int64), gone)
    positions = sections - (1 if sections.max() == len(left) else 0)
    fits = bool((positions >= 0).all() and (positions < len(left)).all())
    found = left[positions] if fits else np.full(len(sections), -1)
    return _Reading("SEC counts the sections that are not dark", found, tuple(gone))


def _is_possible(reading: _Reading, count: int) -> bool:
    used = [*reading.sections.tolist(), *reading.dark]
    return len(set(used)) == len(used) and min(used) >= 0 and max(used) < count


def aln_to_xf(alignment: AreTomoAlignment) -> NDArray[np.float64]:
    """.xf lines ``(view, 6)`` of the alignment: turn by -ROT after moving by (-TX, -TY)."""
    xf = np.empty((len(alignment.sections), 6))
    for i, (degrees, magnification, shift) in enumerate(
        zip(alignment.rotation_degrees, alignment.magnification, alignment.shifts, strict=True)
    ):
        turn = rotation_z(-float(degrees))[:2, :2] * float(magnification)
        xf[i, :4], xf[i, 4:] = turn.ravel(), -turn @ shift
    return xf


def geometry_to_aln(
    geometry: TiltGeometry, pixel_size: float, raw_shape: tuple[int, int, int]
) -> AreTomoAlignment:
    """The alignment that AreTomo would write for these views of a raw stack ``(sections, rows, columns)``.

    Raises
    ------
    InputError
        If a view is tilted about x as well or stretched unevenly, which .aln cannot express.
    """
    offset = half_pixel_offset(raw_shape[1:])
    columns = np.empty((len(geometry), 5))
    for i, matrix in enumerate(geometry.matrices):
        parts = split_view(matrix)
        x_tilt, y_tilt, turn = zyx_angles(parts.rotation)
        magnification = 1 / parts.stretch[0, 0]
        if abs(x_tilt) > 1e-4 or np.ptp(np.linalg.eigvalsh(parts.stretch)) > 1e-5:
            raise InputError(
                "an AreTomo file cannot hold a view tilted about x or stretched unevenly",
                where=f"view {i}",
                fix="write IMOD or RELION files",
            )
        columns[i] = turn, magnification, *(parts.shift / pixel_size + offset), y_tilt
    order = np.argsort(geometry.sections, kind="stable")
    columns, sections = columns[order], geometry.sections[order]
    missing = sorted(set(range(raw_shape[0])) - set(sections.tolist()))
    return AreTomoAlignment(
        raw_shape=raw_shape,
        sections=sections,
        rotation_degrees=columns[:, 0],
        magnification=columns[:, 1],
        shifts=columns[:, 2:4],
        tilt_degrees=columns[:, 4],
        dark_sections=tuple(missing),
    )


def write_aln(path: Path, alignment: AreTomoAlignment, *, overwrite: bool = False) -> None:
    """Write the global alignment; sections without a line are listed as dark frames."""
    if alignment.raw_shape is None:
        raise InputError("the size of the raw stack is needed to write an .aln file", path=path)
    sections, rows, columns = alignment.raw_shape
    left_out = sorted(set(range(sections)) - set(alignment.sections.tolist()))
    lines = [
        "# AreTomo Alignment / Priims bprmMn",
        f"# RawSize = {columns} {rows} {sections}",
        "# NumPatches = 0",
    ]
    lines += [f"# DarkFrame = {i:5d} {i:4d} {0.0:8.2f}" for i in left_out]
    lines += [
        f"# AlphaOffset = {alignment.alpha_offset:8.2f}",
        f"# BetaOffset = {alignment.beta_offset:8.2f}",
    ]
    lines.append(
        "# SEC     ROT         GMAG       TX          TY      SMEAN     SFIT    SCALE     BASE     TILT"
    )
    for i in range(len(alignment.sections)):
        rotation, magnification = alignment.rotation_degrees[i], alignment.magnification[i]
        tx, ty = alignment.shifts[i]
        lines.append(
            f"{alignment.sections[i]:5d} {rotation:11.4f} {magnification:10.5f}"
            f" {tx:10.3f} {ty:10.3f}     1.00     1.00     1.00     0.00 {alignment.tilt_degrees[i]:9.3f}"
        )
    atomic_write(path, ("\n".join(lines) + "\n").encode("ascii"), overwrite=overwrite)
