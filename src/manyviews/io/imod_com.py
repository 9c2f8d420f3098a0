"""IMOD's tilt.com: the entries that say how images look at the specimen.

Sources: IMOD man page tilt; ``tilt.f90`` for what the numbers do (see `TiltCom.axis_shift`). Entries may be
written in any case and, for lists, several times: lists add up. An entry without a value is as good as none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from manyviews.errors import InputError
from manyviews.io.imod import parse_section_list
from manyviews.io.text import content_lines, parse_number

_TILT = re.compile(r"^\$\s*(\S*/)?tilt(\s|$)")
_NOT_FOLLOWED = ("LOCALFILE", "ZFACTORFILE", "COMPRESS", "COMPFRACTION", "REPROJECT", "WIDTH", "SLICE")
_EXCLUDE = ("EXCLUDELIST", "EXCLUDELIST2", "EXCLUDE")
_Entry = tuple[str, str]  # the text after the name, and where it stood


@dataclass(frozen=True)
class TiltCom:
    """The geometry in a tilt.com file; lengths in unbinned pixels as in the file.

    Attributes
    ----------
    tilt_file, x_tilt_file
        Paths beside the com file, or None.
    tilt_degrees
        The numbers of ANGLES, empty where there are none.
    thickness
        Unbinned pixels, or None.
    full_image, subset_start
        ``(columns, rows)`` of the whole unbinned images, or None, and where in them the stack's images start.
    image_binned
        Binning of the aligned stack that the file was written for.
    tilt_offset, x_axis_tilt
        Degrees, OFFSET (added to every tilt) and XAXISTILT (taken from every tilt about x).
    axis_offset
        Displacement of the tilt axis from the image centre, the second number of OFFSET.
    shift
        ``(x, z)``: how far the reconstruction is moved when it is written.
    exclude, include
        Sections left out, or the only ones taken, counted from 1.
    not_followed
        Entries present that change the reconstruction in a way we do not follow.
    """

    tilt_file: Path | None = None
    x_tilt_file: Path | None = None
    tilt_degrees: tuple[float, ...] = ()
    thickness: int | None = None
    full_image: tuple[int, int] | None = None
    subset_start: tuple[int, int] = (0, 0)
    image_binned: int = 1
    tilt_offset: float = 0.0
    x_axis_tilt: float = 0.0
    axis_offset: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    exclude: tuple[int, ...] = ()
    include: tuple[int, ...] = ()
    not_followed: tuple[str, ...] = ()

    def full_size(self, image_shape: tuple[int, int]) -> tuple[int, int]:
        """``(columns, rows)`` of the whole images in pixels of the stack, for images ``(rows, columns)``."""
        rows, columns = image_shape
        if self.full_image is None or self.full_image == (0, 0):
            return columns, rows
        binned = tuple(-(-side // self.image_binned) for side in self.full_image)
        return binned[0] or columns, binned[1] or rows

    def axis_shift(self, image_shape: tuple[int, int]) -> tuple[float, float]:
        """Where the origin of the axis lies in the images, ``(x, y)`` in their pixels from their middle.

        ``tilt.f90``: the axis is at ``full / 2 + 0.5 - subset start + OFFSET``, counted from 1.
        """
        start_x, start_y = self._start()
        full_x, full_y = self.full_size(image_shape)
        rows, columns = image_shape
        x = (full_x - columns) / 2 - start_x + self.axis_offset / self.image_binned
        return x, (full_y - rows) / 2 - start_y

    def specimen_shift(self, image_shape: tuple[int, int]) -> tuple[float, float, float]:
        """Where that origin lies in the volume, ``(x, y, z)`` in pixels of the images from its middle.

        ``tilt.f90``: x is OFFSET plus SHIFT, less what the start of the subset moves (divided as whole
        numbers); rows of the volume are those of the images; SHIFT z counts along the other side of our z.
        """
        start_x, _ = self._start()
        full_x, _ = self.full_size(image_shape)
        moved = image_shape[1] // 2 + start_x - full_x // 2
        shift_x, shift_z = (value / self.image_binned for value in self.shift)
        _, y = self.axis_shift(image_shape)
        return self.axis_offset / self.image_binned + shift_x - moved, y, -shift_z

    def _start(self) -> tuple[int, int]:
        """SUBSETSTART in pixels of the stack; Fortran divides whole numbers towards zero."""
        x, y = (int(start / self.image_binned) for start in self.subset_start)
        return x, y


def read_tilt_com(path: Path) -> TiltCom:
    """Read the entries of a tilt.com that say how images look at the specimen.

    Raises
    ------
    InputError
        If a value is not a number, two entries contradict each other, or nothing in the file belongs to the
        tilt program.
    """
    entries = _ComEntries(path, _entries(path))
    if not {"TILTFILE", "INPUTPROJECTIONS", "THICKNESS", "ANGLES"} & set(entries.found):
        raise InputError("is not a tilt.com file", path=path, fix="give the com file of IMOD's tilt program")
    offset = entries.numbers("OFFSET", 1, 2)
    shift = entries.numbers("SHIFT", 1, 2)
    exclude = tuple(section for name in _EXCLUDE for section in entries.section_list(name))
    include = entries.section_list("INCLUDE")
    if include and exclude:
        raise InputError(
            "has INCLUDE and EXCLUDELIST", path=path, fix="leave one of the two out, as for IMOD"
        )
    return TiltCom(
        tilt_file=entries.file("TILTFILE"),
        x_tilt_file=entries.file("XTILTFILE"),
        tilt_degrees=tuple(entries.all_numbers("ANGLES")),
        thickness=next(iter(entries.whole_numbers("THICKNESS", 1, least=1)), None),
        full_image=_pair(entries.whole_numbers("FULLIMAGE", 2, least=0)),
        subset_start=_pair(entries.whole_numbers("SUBSETSTART", 2)) or (0, 0),
        image_binned=next(iter(entries.whole_numbers("IMAGEBINNED", 1, least=1)), 1),
        tilt_offset=offset[0] if offset else 0.0,
        x_axis_tilt=next(iter(entries.numbers("XAXISTILT", 1, 1)), 0.0),
        axis_offset=offset[1] if len(offset) > 1 else 0.0,
        shift=(shift[0], shift[1] if len(shift) > 1 else 0.0) if shift else (0.0, 0.0),
        exclude=exclude,
        include=include,
        not_followed=tuple(name for name in _NOT_FOLLOWED if entries.texts(name)),
    )


def _pair(values: list[int]) -> tuple[int, int] | None:
    return (values[0], values[1]) if values else None


def _entries(path: Path) -> dict[str, list[_Entry]]:
    """Entries by upper-case name: those after ``$tilt`` up to the next command, or all where it is absent."""
    lines = list(content_lines(path))
    starts = [i for i, (_, line) in enumerate(lines) if _TILT.match(line)]
    found: dict[str, list[_Entry]] = {}
    for number, line in lines[starts[0] + 1 :] if starts else lines:
        if line.startswith("$"):
            if starts:
                break
            continue
        name, *rest = line.split(maxsplit=1)
        if name.upper() == "DONE":
            break
        found.setdefault(name.upper(), []).append((rest[0] if rest else "", f"line {number}"))
    return found


@dataclass(frozen=True)
class _ComEntries:
    """The entries of a com file by upper-case name, each as often as it was given."""

    path: Path
    found: dict[str, list[_Entry]]

    def texts(self, name: str) -> list[_Entry]:
        """The entries of that name which say something."""
        return [entry for entry in self.found.get(name, []) if entry[0]]

    def all_numbers(self, name: str) -> list[float]:
        """The numbers of all entries of that name."""
        return [number for entry in self.texts(name) for number in self._numbers_of(entry)]

    def numbers(self, name: str, fewest: int, most: int) -> list[float]:
        texts = self.texts(name)
        if len({text for text, _ in texts}) > 1:
            raise InputError(
                f"{name} is there twice", path=self.path, where=texts[1][1], fix="leave one of the two"
            )
        values = self._numbers_of(texts[0]) if texts else []
        if texts and not fewest <= len(values) <= most:
            raise InputError(
                f"{name} has {len(values)} numbers", path=self.path, where=texts[0][1], fix="correct the line"
            )
        return values

    def _numbers_of(self, entry: _Entry) -> list[float]:
        text, where = entry
        return [parse_number(word, path=self.path, where=where) for word in text.replace(",", " ").split()]

    def whole_numbers(self, name: str, count: int, least: int | None = None) -> list[int]:
        values = self.numbers(name, count, count)
        if any(value != int(value) or (least is not None and value < least) for value in values):
            kind = "whole numbers" if least is None else f"whole numbers from {least} on"
            where = self.texts(name)[0][1]
            raise InputError(
                f"{name} is not made of {kind}", path=self.path, where=where, fix="correct the line"
            )
        return [int(value) for value in values]

    def file(self, name: str) -> Path | None:
        texts = self.texts(name)
        return self.path.parent / texts[0][0] if texts else None

    def section_list(self, name: str) -> tuple[int, ...]:
        return tuple(
            section
            for text, where in self.texts(name)
            for section in parse_section_list(",".join(text.split()), path=self.path, where=where)
        )
