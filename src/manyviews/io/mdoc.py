"""SerialEM metadata (.mdoc): tilt angles, pixel size and tilt axis of a stack.

Source: SerialEM help, "About Mdoc Files". The direction of the tilt axis stands in a title line
``[T = Tilt axis angle = -88.7, binning = 1 ...]``; ``RotationAngle`` of a section is the rotation of the
image against the stage axes, often left at 0 by STEM set-ups, and is only reported here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyviews.errors import InputError
from manyviews.io.atomic import atomic_write
from manyviews.io.text import content_lines, parse_number, parse_whole_number

_SECTION = re.compile(r"^\[\s*ZValue\s*=\s*(\S+)\s*\]$", re.IGNORECASE)
_TITLE = re.compile(r"^\[\s*T\s*=(.*)\]$")
_AXIS = re.compile(r"Tilt\s+axis\s+angle\s*=\s*([^,\s\]]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Mdoc:
    """What an .mdoc file says about a tilt series, in the order of the sections of its stack.

    Attributes
    ----------
    tilt_degrees
        ``(section,)`` float64.
    pixel_size
        Angstrom, or None.
    axis_degrees
        Tilt axis angle from the title: direction of the axis in the raw image, counter-clockwise from +y.
        None where no title has it.
    rotation_degrees
        RotationAngle of each section, empty where a section has none.
    image_size
        ``(columns, rows)``, or None.
    titles
        Title lines.
    """

    tilt_degrees: NDArray[np.float64]
    pixel_size: float | None = None
    axis_degrees: float | None = None
    rotation_degrees: tuple[float, ...] = ()
    image_size: tuple[int, int] | None = None
    titles: tuple[str, ...] = ()


def read_mdoc(path: Path) -> Mdoc:
    """Read an .mdoc file.

    Raises
    ------
    InputError
        If there is no section, sections are missing or repeated, one has no TiltAngle, or a number is bad.
    """
    preamble: dict[str, tuple[str, str]] = {}
    sections: dict[int, dict[str, tuple[str, str]]] = {}
    titles: list[str] = []
    current = preamble
    for number, line in content_lines(path):
        where = f"line {number}"
        if found := _SECTION.match(line):
            index = parse_whole_number(found[1], path=path, where=where)
            if index in sections:
                raise InputError(f"section {index} is there twice", path=path, where=where, fix="remove one")
            current = sections.setdefault(index, {})
        elif found := _TITLE.match(line):
            titles.append(found[1].strip())
        elif line.startswith("["):
            current = {}  # another kind of block, such as [MontSection]
        elif "=" in line:
            key, value = line.split("=", 1)
            current[key.strip()] = (value.strip(), where)
    ordered = _in_order(path, sections)
    tilts = [_number(path, section, "TiltAngle", f"section {i}") for i, section in enumerate(ordered)]
    rotations = [_optional(path, section, "RotationAngle") for section in ordered]
    return Mdoc(
        tilt_degrees=np.array(tilts, dtype=np.float64),
        pixel_size=_pixel_size(path, [preamble, *ordered]),
        axis_degrees=_axis(path, titles),
        rotation_degrees=tuple(r for r in rotations if r is not None) if None not in rotations else (),
        image_size=_image_size(path, preamble),
        titles=tuple(titles),
    )


def _in_order(
    path: Path, sections: dict[int, dict[str, tuple[str, str]]]
) -> list[dict[str, tuple[str, str]]]:
    if not sections:
        raise InputError("has no [ZValue = n] section", path=path, fix="give the .mdoc of the tilt series")
    if sorted(sections) != list(range(len(sections))):
        missing = next(i for i in range(len(sections)) if i not in sections)
        raise InputError(
            f"section {missing} is missing", path=path, fix="number the sections from 0 without gaps"
        )
    return [sections[i] for i in range(len(sections))]


def _number(path: Path, block: dict[str, tuple[str, str]], key: str, name: str) -> float:
    if key not in block:
        raise InputError(f"{key} is missing", path=path, where=name, fix="add it or give an angle file")
    value, where = block[key]
    return parse_number(value, path=path, where=where)


def _optional(path: Path, block: dict[str, tuple[str, str]], key: str) -> float | None:
    return _number(path, block, key, "") if key in block else None


def _pixel_size(path: Path, blocks: Sequence[dict[str, tuple[str, str]]]) -> float | None:
    """PixelSpacing, which must be the same wherever it is given."""
    values = [value for block in blocks if (value := _optional(path, block, "PixelSpacing")) is not None]
    if not values:
        return None
    if min(values) <= 0 or max(values) > min(values) * 1.001:
        raise InputError(
            f"PixelSpacing runs from {min(values):g} to {max(values):g}",
            path=path,
            fix="give one positive pixel size",
        )
    return values[0]


def _axis(path: Path, titles: Sequence[str]) -> float | None:
    for title in titles:
        if found := _AXIS.search(title):
            return parse_number(found[1], path=path, where="title 'Tilt axis angle'")
    return None


def _image_size(path: Path, preamble: dict[str, tuple[str, str]]) -> tuple[int, int] | None:
    if "ImageSize" not in preamble:
        return None
    value, where = preamble["ImageSize"]
    words = value.split()
    if len(words) != 2:
        raise InputError("ImageSize is not two numbers", path=path, where=where, fix="correct the line")
    columns, rows = (parse_whole_number(word, path=path, where=where) for word in words)
    return columns, rows


def write_mdoc(
    path: Path,
    tilt_degrees: ArrayLike,
    pixel_size: float,
    image_shape: tuple[int, int],
    *,
    axis_degrees: float | None = None,
    image_file: str = "",
    overwrite: bool = False,
) -> None:
    """Write a minimal .mdoc: angles, pixel size (angstrom), image shape (rows, columns) and tilt axis."""
    lines = [f"PixelSpacing = {pixel_size:.9g}"]
    if image_file:
        lines.append(f"ImageFile = {image_file}")
    lines += [f"ImageSize = {image_shape[1]} {image_shape[0]}", ""]
    if axis_degrees is not None:
        lines += [f"[T =     Tilt axis angle = {axis_degrees:.9g}, binning = 1]", ""]
    for index, tilt in enumerate(np.asarray(tilt_degrees, dtype=np.float64)):
        lines += [f"[ZValue = {index}]", f"TiltAngle = {tilt:.9g}", f"PixelSpacing = {pixel_size:.9g}", ""]
    atomic_write(path, "\n".join(lines).encode("utf-8"), overwrite=overwrite)
