"""The options of a series sorted by stack, with the metadata that lies beside each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.imod import parse_section_list
from manyviews.io.mdoc import Mdoc, read_mdoc
from manyviews.io.mrc import MrcStack
from manyviews.io.relion_tomo import read_tilt_series_star
from manyviews.io.tilt_stack import open_stacks
from manyviews.options import flag
from manyviews.tilt.options import SeriesOptions
from manyviews.tilt.series.alignment_table import alignment_path, read_alignment
from manyviews.tilt.series.choices import Notes

_T = TypeVar("_T")
_ALIGNED = "_ali"  # IMOD's a_ali.mrc goes with a.tlt


@dataclass(frozen=True)
class StackInputs:
    """One stack with what the options give for it; ``index`` is its place among the stacks.

    ``excluded`` are the sections that the user leaves out, from 0. ``mdoc`` is None where there is none or
    where it cannot be read; ``mdoc_error`` says why.
    """

    stack: MrcStack
    index: int
    tilt_file: Path | None
    axis_angle: float | None
    transform: Path | None
    shifts: Path | None
    x_tilt: Path | None
    tilt_offset: float
    excluded: frozenset[int]
    mdoc_path: Path | None
    mdoc: Mdoc | None
    mdoc_error: InputError | None

    @property
    def sections(self) -> int:
        """Number of images in the stack."""
        return self.stack.shape[0]

    @property
    def left(self) -> NDArray[np.int64]:
        """Sections that the user does not leave out, from 0."""
        return np.setdiff1d(np.arange(self.sections, dtype=np.int64), sorted(self.excluded))

    @property
    def image_shape(self) -> tuple[int, int]:
        """``(rows, columns)``."""
        return self.stack.shape[1], self.stack.shape[2]

    @property
    def is_named_aligned(self) -> bool:
        """Whether the name is one that IMOD gives to aligned stacks."""
        path = self.stack.path
        return path.suffix.lower() == ".ali" or path.stem.endswith(_ALIGNED)

    def beside(self, suffix: str) -> Path | None:
        """``a.mrc.tlt`` or ``a.tlt`` beside ``a.mrc``; also ``a.tlt`` beside ``a_ali.mrc``."""
        return _beside(self.stack.path, suffix)


def collect_inputs(options: SeriesOptions, notes: Notes) -> list[StackInputs]:
    """Sort the options by stack; what the headers warn of goes into ``notes``.

    Raises
    ------
    InputError
        If an option names too few or too many files, or a file that was named cannot be read.
    """
    stacks = open_stacks(options.stacks)
    count = len(stacks)
    tilt_files = _one_each(options.tilt_angles, count, "tilt_angles")
    if options.alignment is not None:
        tilt_files = _of_alignment(options, options.alignment)
    transforms = _one_each(options.transform, count, "transform")
    shifts = _one_each(options.shifts, count, "shifts")
    x_tilts = _one_each(options.x_tilt, count, "x_tilt")
    axes = options.axis_angle * count if len(options.axis_angle) == 1 else options.axis_angle
    if axes and len(axes) != count:
        raise InputError(
            f"{len(axes)} angles were given for {count} stacks",
            where="option axis_angle",
            fix="give one angle for each stack, or one for all",
        )
    excluded = _exclusions(options.exclude, count)
    inputs = []
    for i, path in enumerate(options.stacks):
        if path in options.stacks[:i]:
            raise InputError("is given twice", path=path, fix="name each stack once")
        tilt_file = tilt_files[i] or _own_alignment(path)
        is_mdoc = tilt_file is not None and tilt_file.suffix.lower() == ".mdoc"
        mdoc_path = tilt_file if is_mdoc else _beside(path, ".mdoc")
        mdoc, error = read_if_possible(read_mdoc, mdoc_path)
        if is_mdoc and error is not None:
            raise error
        notes.warnings += [f"{path}: {text}" for text in stacks[i].header.warnings]
        inputs.append(
            StackInputs(
                stack=stacks[i],
                index=i,
                tilt_file=tilt_file,
                axis_angle=_axis(options, axes, i),
                transform=transforms[i],
                shifts=shifts[i],
                x_tilt=x_tilts[i],
                tilt_offset=options.tilt_offset,
                excluded=frozenset(excluded[i]),
                mdoc_path=mdoc_path,
                mdoc=mdoc,
                mdoc_error=error,
            )
        )
    return inputs


def _axis(options: SeriesOptions, axes: Sequence[float], stack: int) -> float | None:
    if options.alignment is not None:
        return read_alignment(options.alignment, options.stacks[stack]).axis_degrees
    return axes[stack] if axes else None


def _of_alignment(options: SeriesOptions, run: Path) -> list[Path | None]:
    """The table of an alignment for each stack; what it holds already cannot be given again."""
    for name in ("tilt_angles", "transform", "shifts", "x_tilt", "axis_angle", "tilt_offset"):
        if getattr(options, name):
            raise InputError(
                f"{run} has it already", where=flag(name), fix="leave it out, or leave out --alignment"
            )
    return [alignment_path(run)] * len(options.stacks)


def _own_alignment(path: Path) -> Path | None:
    """The list of images itself, where it is a RELION table that says how they are aligned."""
    if path.suffix.lower() != ".star":
        return None
    series, _ = read_if_possible(read_tilt_series_star, path)
    return None if series is None else path


def read_if_possible(reader: Callable[[Path], _T], path: Path | None) -> tuple[_T | None, InputError | None]:
    """What a file beside the stack holds, or why it cannot be read: such a file may not be needed."""
    if path is None:
        return None, None
    try:
        return reader(path), None
    except InputError as error:
        return None, error


def _one_each(values: Sequence[Path], count: int, name: str) -> Sequence[Path | None]:
    """The files an option gives: none at all, or one for each stack."""
    if not values:
        return [None] * count
    if len(values) != count:
        raise InputError(
            f"{len(values)} files were given for {count} stacks",
            where=f"option {name}",
            fix="give one file for each stack, in the same order",
        )
    return values


def named_after(path: Path, suffix: str) -> tuple[Path, Path]:
    """What a file that belongs to a stack may be called: NAME.mrc.mdoc, NAME.mdoc."""
    return path.with_name(path.name + suffix), path.with_suffix(suffix)


def _beside(path: Path, suffix: str) -> Path | None:
    candidates = list(named_after(path, suffix))
    if path.stem.endswith(_ALIGNED):
        candidates.append(path.with_name(path.stem.removesuffix(_ALIGNED) + suffix))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _exclusions(texts: Sequence[str], count: int) -> list[set[int]]:
    """Sections to leave out of each stack, from 0."""
    where = "option exclude"
    excluded: list[set[int]] = [set() for _ in range(count)]
    for text in texts:
        prefix, colon, sections = text.rpartition(":")
        if not colon and count > 1:
            raise InputError(
                f"{text!r} does not say which of the {count} stacks is meant",
                where=where,
                fix="write 2:1,4-6",
            )
        number = prefix.strip() if colon else "1"
        if not (number.isascii() and number.isdigit() and 1 <= int(number[:9]) <= count):
            raise InputError(f"{text!r} names stack {number!r} of {count}", where=where, fix="count from 1")
        excluded[int(number) - 1] |= {n - 1 for n in parse_section_list(sections, where=where)}
    return excluded
