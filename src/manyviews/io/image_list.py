"""Tilt images that are a file each, as RELION 5 and Warp write them, read as one stack.

What names them: a tilt-series STAR of RELION 5 (rlnMicrographName), a tomostar of Warp (wrpMovieName), an
.mdoc (SubFramePath, ImageFile or ``[Image = ...]`` of its sections), or a text file with a name on every line
and, if wanted, a tilt angle after it. ``n@FILE`` names section n of a stack.

Sources: RELION-5 ``motioncorr_runner.cpp``; Warp ``TiltSeries.cs``; SerialEM help, "About Mdoc Files".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from manyviews.errors import InputError, quoted
from manyviews.io.file_kinds import PROBE_BYTES, TEXT, foreign_kind
from manyviews.io.star import StarBlock, column_numbers, read_star
from manyviews.io.text import content_lines, parse_number, read_text
from manyviews.options import is_number

MRC_SUFFIXES = (".mrc", ".st", ".ali", ".mrcs", ".map", ".rec")
_LARGEST_LIST = 10_000
_SECTION_OF_STACK = re.compile(r"^(\d{1,9})@(.+)$")
_MDOC_SECTION = re.compile(r"^\[\s*(ZValue|Image|FrameSet)\s*=\s*(.*?)\s*\]$", re.IGNORECASE)
_MDOC_NAMES = ("imagefile", "subframepath")
_STAR_NAMES = ("rlnMicrographName", "wrpMovieName")
_STAR_TILTS = ("rlnTomoNominalStageTiltAngle", "wrpAngleTilt")
_STAR_AXES = ("rlnTomoNominalTiltAxisAngle", "wrpAxisAngle")


@dataclass(frozen=True)
class ListedImage:
    """One image of a list.

    ``name`` is the file's, ``section`` its section in it from 0, or None where the file holds one image.
    ``where`` is the place in the list; ``tilt`` and ``axis`` (of the tilt axis in the raw image) are degrees,
    if the list has them.
    """

    name: str
    section: int | None
    where: str
    tilt: float | None = None
    axis: float | None = None


def is_image_list(path: Path) -> bool:
    """Whether a file is text and not called an MRC file, and so may list some; False if it cannot be read."""
    if path.suffix.lower() in MRC_SUFFIXES:
        return False
    try:
        with open(path, "rb") as handle:
            start = handle.read(PROBE_BYTES)
    except (OSError, ValueError):
        return False
    return foreign_kind(start, path) is TEXT


def read_image_list(path: Path) -> tuple[ListedImage, ...]:
    """The images that a list names, in the order of its sections, rows or lines.

    `InputError` if it is of none of the kinds that are read, names no image, or one twice.
    """
    text = read_text(path, wanted="a list of images", images="it")
    if re.search(r"^\s*data_", text, re.MULTILINE):
        images = _of_star(path)
    elif any(_MDOC_SECTION.match(line.strip()) for line in text.splitlines()):
        images = _of_mdoc(path)
    else:
        images = _of_lines(path)
    if not images or len(images) > _LARGEST_LIST:
        raise InputError(f"names {len(images)} images", path=path, fix="give a list of the tilt images")
    first: dict[tuple[str, int | None], str] = {}
    for image in images:
        other = first.setdefault((image.name, image.section), image.where)
        if other != image.where:
            raise InputError(
                f"names {image.name!r} again, after {other}", path=path, where=image.where, fix="name it once"
            )
    return images


def _entry(
    name: str, where: str, path: Path, tilt: float | None = None, axis: float | None = None
) -> ListedImage:
    """An image by the name that a list gives it."""
    found = _SECTION_OF_STACK.match(name)
    if found and int(found[1]) == 0:
        raise InputError("images are counted from 1, not 0", path=path, where=where)
    plain = (found[2] if found else name).strip().replace("\\", "/")
    if not plain or len(plain) > 4096 or not plain.isprintable():
        raise InputError(f"{quoted(name)} is not a possible file name", path=path, where=where)
    return ListedImage(plain, int(found[1]) - 1 if found else None, where, tilt, axis)


# --- STAR ---


def _of_star(path: Path) -> tuple[ListedImage, ...]:
    blocks = read_star(path)
    for block in blocks:
        for label in _STAR_NAMES:
            if label in block.columns:
                return tuple(_star_rows(block, label, path))
    series = next((b for b in blocks if "rlnTomoTiltSeriesStarFile" in b.columns), None)
    if series is not None:
        first = next(iter(series.columns["rlnTomoTiltSeriesStarFile"]), "")
        fix = f"give one of the files in its column rlnTomoTiltSeriesStarFile, e.g. {first[:100]}"
        raise InputError("lists tilt series, not images", path=path, fix=fix)
    if any("rlnImageName" in block.columns for block in blocks):
        raise InputError("is a table of particles", path=path, fix="use `manyviews particles`")
    names = " nor ".join(_STAR_NAMES)
    raise InputError(f"has neither {names}", path=path, fix="give the STAR file of one tilt series")


def _star_rows(block: StarBlock, label: str, path: Path) -> Iterator[ListedImage]:
    tilts, axes = (_star_column(block, labels, path) for labels in (_STAR_TILTS, _STAR_AXES))
    for row, name in enumerate(block.columns[label]):
        yield _entry(name, f"column {label}, row {row + 1}", path, tilts[row], axes[row])


def _star_column(block: StarBlock, labels: Sequence[str], path: Path) -> Sequence[float | None]:
    """The first of these columns that there is."""
    found = next((label for label in labels if label in block.columns), None)
    if found is None:
        return [None] * len(block)
    return [float(value) for value in column_numbers(block.columns[found], found, path)]


# --- .mdoc ---


def _of_mdoc(path: Path) -> tuple[ListedImage, ...]:
    """The images of the sections in the order of ZValue, as `manyviews.io.mdoc` has them."""
    found: list[tuple[float, str, dict[str, tuple[str, str]]]] = []
    preamble: dict[str, tuple[str, str]] = {}
    current = preamble
    for number, line in content_lines(path):
        where = f"line {number}"
        if match := _MDOC_SECTION.match(line):
            is_number = match[1].lower() == "zvalue"
            order = parse_number(match[2], path=path, where=where) if is_number else float(len(found))
            current = {} if is_number or match[1].lower() == "frameset" else {"imagefile": (match[2], where)}
            found.append((order, where, current))
        elif not line.startswith("[") and "=" in line:
            key, value = line.split("=", 1)
            current[key.strip().lower()] = (value.strip(), where)
    sections = [(where, section) for _, where, section in sorted(found, key=lambda item: item[0])]
    key = _naming_key([section for _, section in sections])
    images = []
    for where, section in sections:
        if key not in section:
            raise _names_no_image(path, where, preamble)
        tilt = section.get("tiltangle")
        degrees = None if tilt is None else parse_number(tilt[0], path=path, where=tilt[1])
        images.append(_entry(*section[key], path, degrees))
    return tuple(images)


def _naming_key(sections: Sequence[dict[str, tuple[str, str]]]) -> str:
    """The key that names the images: not the same in all sections, as the name of their stack would be."""
    for key in _MDOC_NAMES:
        if len({section[key][0] for section in sections if key in section}) > 1:
            return key
    return _MDOC_NAMES[-1]


def _names_no_image(path: Path, where: str, preamble: dict[str, tuple[str, str]]) -> InputError:
    stack = preamble.get("imagefile", ("", ""))[0]
    fix = f"give the stack {stack[:100]}" if stack else "give the stack that it belongs to"
    return InputError("names no image of its own for this section", path=path, where=where, fix=fix)


# --- text ---


def _of_lines(path: Path) -> tuple[ListedImage, ...]:
    lines = list(content_lines(path))
    if lines and all(is_number(word) for _, line in lines for word in line.split()):
        raise InputError(
            "holds numbers, not names of images", path=path, fix="give the stack; angles go to --tilt-angles"
        )
    with_tilts = _have_tilts([line for _, line in lines])
    images = []
    for number, line in lines:
        where = f"line {number}"
        name, tilt = line, None
        if with_tilts:
            name, text = line.rsplit(None, 1)
            tilt = parse_number(text, path=path, where=where)
        images.append(_entry(name, where, path, tilt))
    return tuple(images)


def _have_tilts(lines: Sequence[str]) -> bool:
    """Whether every line ends in a number that is no part of the name."""
    words = [line.rsplit(None, 1) for line in lines]
    return all(len(pair) == 2 and is_number(pair[1]) for pair in words)
