"""AreTomo alignment files (.aln).

Source: AreTomo3 ``SaveAlignFile`` and ``CSaveXF``. The columns are ``SEC ROT GMAG TX TY SMEAN SFIT SCALE BASE
TILT``; to align, a raw image is moved by ``(-TX, -TY)`` and turned by ``-ROT``, both about its middle, after
which the tilt axis is vertical. SEC counts, from 0, the sections left once the dark ones were removed; a file
whose largest SEC equals their number is taken to count from 1. The first number of a DarkFrame line counts
from 1, or from 0 if a 0 is among them. (In the example file of cryoet-alignment only this reading gives the
first lines the tilt angle of their raw section.)
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


def read_aln(path: Path) -> AreTomoAlignment:
    """Read an .aln file.

    Raises
    ------
    InputError
        If the table is missing, a line is short or holds something that is not a number, or the sections do
        not fit the raw stack.
    """
    header: dict[str, tuple[str, str]] = {}
    dark: list[int] = []
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
                dark.append(_dark_number(value, path, where))
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
    dark = [number - (0 if 0 in dark else 1) for number in dark]
    return AreTomoAlignment(
        raw_shape=shape,
        sections=_raw_sections(table[:, 0], dark, shape, path, numbers_of_rows),
        rotation_degrees=table[:, 1],
        magnification=_magnification(table[:, 2], path, numbers_of_rows),
        shifts=table[:, 3:5],
        tilt_degrees=table[:, 9],
        dark_sections=tuple(sorted(dark)),
        alpha_offset=_header_number(header, "AlphaOffset", path),
        beta_offset=_header_number(header, "BetaOffset", path),
        has_local_alignment=has_local,
    )


def _dark_number(value: str, path: Path, where: str) -> int:
    words = value.split()
    if not words:
        raise InputError("DarkFrame names no section", path=path, where=where, fix="correct the line")
    number = parse_whole_number(words[0], path=path, where=where)
    if not 0 <= number < 1_000_000:
        raise InputError(
            f"DarkFrame {number} is not a section", path=path, where=where, fix="correct the line"
        )
    return number


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


def _raw_sections(
    numbers: NDArray[np.float64],
    dark: list[int],
    shape: tuple[int, int, int] | None,
    path: Path,
    lines: list[int],
) -> NDArray[np.int64]:
    """Map SEC, which skips dark sections, to indices into the raw stack."""
    count = shape[0] if shape else len(dark) + int(min(max(numbers.max(), 0), 1e6)) + 1
    is_dark = np.zeros(count, dtype=bool)
    is_dark[[number for number in dark if number < count]] = True
    kept = np.flatnonzero(~is_dark)
    positions = numbers - (1 if numbers.max() == len(kept) else 0)
    bad = (positions != np.floor(positions)) | (positions < 0) | (positions >= len(kept))
    if np.any(bad):
        at = int(np.argmax(bad))
        raise InputError(
            f"section {numbers[at]:g} does not exist among {len(kept)} sections that are not dark",
            path=path,
            where=f"line {lines[at]}",
            fix="give the .aln file of this stack",
        )
    if len(np.unique(positions)) != len(positions):
        raise InputError("a section is listed twice", path=path, fix="give the .aln file as AreTomo wrote it")
    sections: NDArray[np.int64] = kept[positions.astype(np.int64)]
    return sections


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
    left_out = set(range(sections)) - set(alignment.sections.tolist())
    kept = [i for i in range(sections) if i not in left_out]
    lines = [
        "# AreTomo Alignment / Priims bprmMn",
        f"# RawSize = {columns} {rows} {sections}",
        "# NumPatches = 0",
    ]
    lines += [f"# DarkFrame = {i + 1:5d} {0:4d} {0.0:8.2f}" for i in sorted(left_out)]
    lines += [
        f"# AlphaOffset = {alignment.alpha_offset:8.2f}",
        f"# BetaOffset = {alignment.beta_offset:8.2f}",
    ]
    lines.append(
        "# SEC     ROT         GMAG       TX          TY      SMEAN     SFIT    SCALE     BASE     TILT"
    )
    for i in range(len(alignment.sections)):
        number = kept.index(int(alignment.sections[i]))
        tx, ty = alignment.shifts[i]
        lines.append(
            f"{number:5d} {alignment.rotation_degrees[i]:11.4f} {alignment.magnification[i]:10.5f}"
            f" {tx:10.3f} {ty:10.3f}     1.00     1.00     1.00     0.00 {alignment.tilt_degrees[i]:9.3f}"
        )
    atomic_write(path, ("\n".join(lines) + "\n").encode("ascii"), overwrite=overwrite)
