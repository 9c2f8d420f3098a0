"""SerialEM and Tomography 5 metadata (.mdoc): tilt angles, pixel size and tilt axis of a stack.

Sources: SerialEM help, "About Mdoc Files"; files of both programs. The direction of the tilt axis stands in a
title, which may run over several lines: ``[T = Tilt axis angle = -88.7, binning = 1 ...]`` (SerialEM) or
``[T = TiltAxisAngle = 85.60 Binning = 1 ...]`` (Tomography 5), or in a key TiltAxisAngle, global or of every
section. ``RotationAngle`` of a section is the rotation of the image against the stage axes: 90 degrees more
than the tilt axis angle in SerialEM's files, that angle itself in Tomography 5's, 0 where nobody set it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyviews.errors import InputError
from manyviews.geometry.euler import within_half_turn
from manyviews.io.atomic import atomic_write
from manyviews.io.text import content_lines, parse_number, parse_whole_number

_SECTION = re.compile(r"^\[\s*ZValue\s*=\s*(\S+)\s*\]$", re.IGNORECASE)
_TITLE_START = re.compile(r"^\[?\s*T\s*=", re.IGNORECASE)
_AXIS = re.compile(r"tilt\s*axis(?:\s*angle)?\s*[=:]\s*([+-]?\d+(?:[.,]\d+)?(?:e[+-]?\d+)?)", re.IGNORECASE)
_AXIS_KEYS = ("tiltaxisangle", "tiltaxis")
_DECIMAL_COMMA = re.compile(r"^([+-]?\d+),(\d+)$")
_SAME_DEGREES = 0.05
_MOST_QUOTED = 120

MdocBlock = dict[str, tuple[str, str]]  # value and place of every key


@dataclass(frozen=True)
class Mdoc:
    """What an .mdoc file says about a tilt series, in the order of its sections in the file's numbering.

    Attributes
    ----------
    tilt_degrees
        ``(section,)`` float64.
    fault
        What is wrong with the numbering of the sections, empty where they are 0, 1, 2, ...
    pixel_size
        Angstrom, or None.
    axes
        Directions of the tilt axis in the raw image, degrees counter-clockwise from +y, each with the words
        that say where in the file it stands; the most trusted first.
    axis_quote
        What the file holds about the direction of the image where that names no axis, for the user.
    rotation_degrees
        RotationAngle of each section, empty where a section has none.
    image_size
        ``(columns, rows)``, or None.
    titles
        Title lines.
    """

    tilt_degrees: NDArray[np.float64]
    fault: str = ""
    pixel_size: float | None = None
    axes: tuple[tuple[str, float], ...] = ()
    axis_quote: str = ""
    rotation_degrees: tuple[float, ...] = ()
    image_size: tuple[int, int] | None = None
    titles: tuple[str, ...] = ()

    @property
    def axis_degrees(self) -> float | None:
        """The most trusted of `axes`, or None."""
        return self.axes[0][1] if self.axes else None


def read_mdoc(path: Path) -> Mdoc:
    """Read an .mdoc file.

    Raises
    ------
    InputError
        If there is no section, one has no TiltAngle, or a number is bad. Sections that are missing or
        repeated are told in `Mdoc.fault`: whether they matter depends on the stack.
    """
    blocks = read_blocks(path)
    if not blocks.sections:
        what = (
            "describes stacks of frames ([FrameSet]), not the sections of a tilt series"
            if blocks.has_frame_sets
            else "has no [ZValue = n] section"
        )
        raise InputError(what, path=path, fix="give the .mdoc of the tilt series")
    numbers = [number for number, _ in blocks.sections]
    ordered = [block for _, block in sorted(blocks.sections, key=lambda pair: pair[0])]
    tilts = [
        _number(path, block, "TiltAngle", f"section {number}")
        for number, block in zip(sorted(numbers), ordered, strict=True)
    ]
    rotations = [optional_number(path, block, "RotationAngle") for block in ordered]
    rotation_degrees = tuple(r for r in rotations if r is not None) if None not in rotations else ()
    axes = _axes(blocks, ordered, rotation_degrees)
    return Mdoc(
        tilt_degrees=np.array(tilts, dtype=np.float64),
        fault=_numbering_fault(numbers),
        pixel_size=_pixel_size(path, [blocks.preamble, *ordered]),
        axes=axes,
        axis_quote="" if axes else _quote(blocks.titles, rotation_degrees),
        rotation_degrees=rotation_degrees,
        image_size=_image_size(path, blocks.preamble),
        titles=tuple(blocks.titles),
    )


@dataclass
class MdocBlocks:
    """The file taken apart: global keys, keys of every [ZValue] with its number, titles."""

    preamble: MdocBlock
    sections: list[tuple[int, MdocBlock]]
    titles: list[str]
    others: list[MdocBlock] = field(default_factory=list)
    has_frame_sets: bool = False


def read_axis_quote(path: Path) -> str:
    """What a file that `read_mdoc` refuses holds about the direction of the image; empty if nothing."""
    try:
        blocks = read_blocks(path)
        of_blocks = [block for _, block in blocks.sections] + blocks.others
        rotations = [optional_number(path, block, "RotationAngle") for block in of_blocks]
    except InputError:
        return ""
    return _quote(blocks.titles, [rotation for rotation in rotations if rotation is not None])


def read_blocks(path: Path) -> MdocBlocks:
    """Take an .mdoc file apart; `InputError` if it cannot be read or a section has no number."""
    blocks = MdocBlocks({}, [], [])
    current = blocks.preamble
    open_title = False
    for number, line in content_lines(path):
        where = f"line {number}"
        if open_title and not line.startswith("["):
            blocks.titles[-1] = f"{blocks.titles[-1]} {line.rstrip(']').strip()}".strip()
            open_title = not line.endswith("]")
            continue
        open_title = False
        if found := _SECTION.match(line):
            index = parse_whole_number(found[1], path=path, where=where)
            current = {}
            blocks.sections.append((index, current))
        elif found := _TITLE_START.match(line):
            blocks.titles.append(line[found.end() :].rstrip("]").strip())
            open_title = line.startswith("[") and not line.endswith("]")
        elif line.startswith("["):
            blocks.has_frame_sets |= line.lower().startswith("[frameset")
            current = {}  # another kind of block, such as [MontSection]
            blocks.others.append(current)
        elif "=" in line:
            key, value = line.split("=", 1)
            current[key.strip()] = (value.strip(), where)
    return blocks


def _numbering_fault(numbers: Sequence[int]) -> str:
    """What is wrong with ZValues that are not 0, 1, 2, ... each once."""
    if sorted(numbers) == list(range(len(numbers))):
        return ""
    for number in sorted(set(numbers)):
        if numbers.count(number) > 1:
            return f"section {number} is there twice"
    missing = next(i for i in range(len(numbers) + 1) if i not in numbers)
    return f"section {missing} is missing"


def _number(path: Path, block: MdocBlock, key: str, name: str) -> float:
    if key not in block:
        raise InputError(f"{key} is missing", path=path, where=name, fix="add it or give an angle file")
    value, where = block[key]
    return parse_number(_DECIMAL_COMMA.sub(r"\1.\2", value), path=path, where=where)


def optional_number(path: Path, block: MdocBlock, key: str) -> float | None:
    """The number of a key of a block, None where it has none; `InputError` if it is no number."""
    return _number(path, block, key, "") if key in block else None


def _pixel_size(path: Path, blocks: Sequence[MdocBlock]) -> float | None:
    """PixelSpacing, which must be the same wherever it is given."""
    values = [
        value for block in blocks if (value := optional_number(path, block, "PixelSpacing")) is not None
    ]
    if not values:
        return None
    if min(values) <= 0 or max(values) > min(values) * 1.001:
        raise InputError(
            f"PixelSpacing runs from {min(values):g} to {max(values):g}",
            path=path,
            fix="give one positive pixel size",
        )
    return values[0]


# --- the tilt axis ---


def _axes(
    blocks: MdocBlocks, sections: Sequence[MdocBlock], rotation_degrees: Sequence[float]
) -> tuple[tuple[str, float], ...]:
    """Everything that names the tilt axis, the most trusted first."""
    found = [
        (f"title {match[0].split('=')[0].strip()!r}", _degrees(match[1]))
        for title in blocks.titles
        for match in _AXIS.finditer(title)
    ]
    found += [(f"key {key!r}", value) for key, value in _axis_keys(blocks.preamble)]
    of_sections = [pair for block in sections for pair in _axis_keys(block)]
    if of_sections and len(of_sections) == len(sections):
        values = np.array([value for _, value in of_sections])
        if np.ptp(values) <= _SAME_DEGREES:
            found.append((f"key {of_sections[0][0]!r} of the sections", float(np.median(values))))
    if not found:
        found += _axis_of_rotation(" ".join(blocks.titles), rotation_degrees)
    return tuple((words, within_half_turn(value)) for words, value in found)


def _axis_keys(block: MdocBlock) -> list[tuple[str, float]]:
    """Keys such as TiltAxisAngle or ``Tilt axis angle`` with a number."""
    found = []
    for key, (value, _) in block.items():
        is_axis = "".join(key.split()).lower() in _AXIS_KEYS
        if is_axis and (match := re.match(r"[+-]?\d+(?:[.,]\d+)?", value)):
            found.append((key, _degrees(match[0])))
    return found


def _axis_of_rotation(titles: str, rotation_degrees: Sequence[float]) -> list[tuple[str, float]]:
    """RotationAngle as the program that wrote the file means it; nothing where that is not clear."""
    values = np.array(rotation_degrees)
    if not len(values) or np.ptp(values) > _SAME_DEGREES or abs(values[0]) < _SAME_DEGREES:
        return []
    angle = float(np.median(values))
    if "serialem" in titles.lower():
        return [(f"RotationAngle {angle:g} less 90, as SerialEM writes it", angle - 90.0)]
    if "tomography" in titles.lower() or "tomo5" in titles.lower():
        return [(f"RotationAngle {angle:g}, as Tomography 5 writes it", angle)]
    return []


def _degrees(text: str) -> float:
    return float(text.replace(",", "."))


def _quote(titles: Sequence[str], rotation_degrees: Sequence[float]) -> str:
    """What could have named the axis, in the file's words."""
    parts = [f"title {' '.join(title.split())[:_MOST_QUOTED]!r}" for title in titles[:3]]
    if rotation_degrees:
        low, high = min(rotation_degrees), max(rotation_degrees)
        parts.append(f"RotationAngle = {low:g}" + (f" to {high:g}" if high > low else ""))
    return ", ".join(parts)


def _image_size(path: Path, preamble: MdocBlock) -> tuple[int, int] | None:
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
    voltage_kv: float | None = None,
    of_sections: Mapping[str, ArrayLike] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a minimal .mdoc: angles, pixel size (angstrom), image shape (rows, columns) and tilt axis.

    ``of_sections`` are further numbers of every section, ``(section,)`` by key.
    """
    lines = [f"PixelSpacing = {pixel_size:.9g}"]
    if voltage_kv is not None:
        lines.append(f"Voltage = {voltage_kv:g}")
    if image_file:
        lines.append(f"ImageFile = {image_file}")
    lines += [f"ImageSize = {image_shape[1]} {image_shape[0]}", ""]
    if axis_degrees is not None:
        lines += [f"[T =     Tilt axis angle = {axis_degrees:.9g}, binning = 1]", ""]
    for index, tilt in enumerate(np.asarray(tilt_degrees, dtype=np.float64)):
        lines += [f"[ZValue = {index}]", f"TiltAngle = {tilt:.9g}", f"PixelSpacing = {pixel_size:.9g}"]
        lines += [f"{key} = {np.asarray(values)[index]:.9g}" for key, values in (of_sections or {}).items()]
        lines.append("")
    atomic_write(path, "\n".join(lines).encode("utf-8"), overwrite=overwrite)
