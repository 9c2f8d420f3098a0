"""IMOD alignment files: .tlt, .rawtlt, .xtilt, .xf and tilt.com.

Sources: IMOD man pages xf2rotmagstr, newstack, tilt; ``tilt.f`` for the projection, which in the right-handed
volume that ``trimvol -rx`` makes is ``u = x cos(tilt) + (y sin(xtilt) + z cos(xtilt)) sin(tilt)``,
``v = y cos(xtilt) - z sin(xtilt)``: our ``Ry(tilt) Rx(xtilt)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyviews.errors import InputError
from manyviews.geometry.euler import half_pixel_offset, move_image_origin, split_view, zyx_angles
from manyviews.geometry.views import TiltGeometry, rotation_z
from manyviews.io.text import (
    content_lines,
    parse_number,
    parse_whole_number,
    read_number_table,
    write_number_table,
)

Float64 = NDArray[np.float64]


def read_angles(path: Path) -> Float64:
    """Degrees, one a line (.tlt, .rawtlt, .xtilt), ``(view,)``; `InputError` on any other line."""
    return read_number_table(path, 1, meaning="an angle")[:, 0]


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


@dataclass(frozen=True)
class TiltCom:
    """The geometry in a tilt.com file; lengths in unbinned pixels as in the file.

    Attributes
    ----------
    tilt_file, x_tilt_file
        Paths beside the com file, or None.
    thickness
        Unbinned pixels, or None.
    full_image
        ``(columns, rows)`` of the unbinned images, or None.
    image_binned
        Binning of the aligned stack that the file was written for.
    tilt_offset, x_axis_tilt
        Degrees, OFFSET and XAXISTILT.
    axis_offset
        Displacement of the tilt axis from the image centre, the second number of OFFSET, unbinned pixels.
    shift
        ``(x, z)``: how far the reconstruction is moved when it is written, unbinned pixels.
    exclude
        Sections left out, counted from 1.
    unsupported
        Entries present that change the geometry in a way we do not follow.
    """

    tilt_file: Path | None = None
    x_tilt_file: Path | None = None
    thickness: int | None = None
    full_image: tuple[int, int] | None = None
    image_binned: int = 1
    tilt_offset: float = 0.0
    x_axis_tilt: float = 0.0
    axis_offset: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    exclude: tuple[int, ...] = ()
    unsupported: tuple[str, ...] = ()


_UNSUPPORTED = ("LOCALFILE", "ZFACTORFILE", "COMPRESS", "COMPFRACTION", "ANGLES", "INCLUDE", "REPROJECT")


def read_tilt_com(path: Path) -> TiltCom:
    """Read the entries of a tilt.com that say how images look at the specimen.

    Raises
    ------
    InputError
        If a value is missing or not a number, or nothing in the file belongs to the tilt program.
    """
    found: dict[str, tuple[list[str], str]] = {}
    for number, line in content_lines(path):
        if not line.startswith("$"):
            words = line.split()
            found[words[0].upper()] = (words[1:], f"line {number}")
    if not {"TILTFILE", "INPUTPROJECTIONS", "THICKNESS"} & set(found):
        raise InputError("is not a tilt.com file", path=path, fix="give the com file of IMOD's tilt program")
    entries = _ComEntries(path, found)
    offsets = entries.numbers("OFFSET", 1, 2)
    shifts = entries.numbers("SHIFT", 1, 2)
    full_image = entries.whole_numbers("FULLIMAGE", 2)
    return TiltCom(
        tilt_file=entries.file("TILTFILE"),
        x_tilt_file=entries.file("XTILTFILE"),
        thickness=next(iter(entries.whole_numbers("THICKNESS", 1)), None),
        full_image=(full_image[0], full_image[1]) if full_image else None,
        image_binned=next(iter(entries.whole_numbers("IMAGEBINNED", 1)), 1),
        tilt_offset=offsets[0] if offsets else 0.0,
        x_axis_tilt=next(iter(entries.numbers("XAXISTILT", 1, 1)), 0.0),
        axis_offset=offsets[1] if len(offsets) > 1 else 0.0,
        shift=(shifts[0], shifts[1] if len(shifts) > 1 else 0.0) if shifts else (0.0, 0.0),
        exclude=entries.section_list("EXCLUDELIST") + entries.section_list("EXCLUDELIST2"),
        unsupported=tuple(name for name in _UNSUPPORTED if name in found),
    )


@dataclass(frozen=True)
class _ComEntries:
    """The entries of a com file by upper-case name: the words after it, and where it stood."""

    path: Path
    found: dict[str, tuple[list[str], str]]

    def numbers(self, name: str, fewest: int, most: int) -> list[float]:
        words, where = self.found.get(name, (None, ""))
        if words is None:
            return []
        values = [
            parse_number(word, path=self.path, where=where)
            for word in " ".join(words).replace(",", " ").split()
        ]
        if not fewest <= len(values) <= most:
            raise InputError(
                f"{name} has {len(values)} numbers", path=self.path, where=where, fix="correct the line"
            )
        return values

    def whole_numbers(self, name: str, count: int) -> list[int]:
        values = self.numbers(name, count, count)
        where = self.found.get(name, ([], ""))[1]
        if any(value != int(value) or value < 1 for value in values):
            raise InputError(
                f"{name} is not made of positive whole numbers",
                path=self.path,
                where=where,
                fix="correct the line",
            )
        return [int(value) for value in values]

    def file(self, name: str) -> Path | None:
        words, where = self.found.get(name, (None, ""))
        if words is None:
            return None
        if not words:
            raise InputError(f"{name} names no file", path=self.path, where=where, fix="add the file name")
        return self.path.parent / words[0]

    def section_list(self, name: str) -> tuple[int, ...]:
        words, where = self.found.get(name, (None, ""))
        return () if not words else parse_section_list(",".join(words), path=self.path, where=where)


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
                f"{part[:40]!r} is not a section or range", path=path, where=where, fix="write 1,4-6"
            )
        low = parse_whole_number(first, path=path or Path(), where=where)
        high = parse_whole_number(last, path=path or Path(), where=where) if last else low
        if not 1 <= low <= high < 100_000 or part.endswith("-"):
            raise InputError(
                f"{part[:40]!r} is not a section or range", path=path, where=where, fix="write 1,4-6"
            )
        sections.extend(range(low, high + 1))
    return tuple(sections)
