"""Which file the defocus of a stack is from, and whether it belongs to that stack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.ctffind import read_ctffind
from manyviews.io.defocus_table import DefocusTable
from manyviews.io.imod_defocus import read_imod_defocus
from manyviews.io.mdoc_microscope import read_mdoc_defocus
from manyviews.io.relion_defocus import read_relion_defocus
from manyviews.tilt.series.inputs import named_after
from manyviews.tilt.series.resolve import ResolvedSeries

Float64 = NDArray[np.float64]

_READERS: dict[str, Callable[[Path], DefocusTable]] = {
    ".defocus": read_imod_defocus,
    ".star": read_relion_defocus,
    ".mdoc": read_mdoc_defocus,
}
# Tilts in defocus files are nominal, those of the series refined and moved by an offset.
_SAME_TILT_DEGREES = 1.0


@dataclass(frozen=True)
class StackDefocus:
    """Defocus of the views of one stack that are used, in their order; fields as of `DefocusTable`."""

    table: DefocusTable
    defocus: Float64
    angle: Float64
    phase_shift: Float64

    @property
    def words(self) -> str:
        """The range and the file."""
        low, high = 1e-4 * self.defocus.min(), 1e-4 * self.defocus.max()
        nominal = ", nominal: as it was asked for, not measured" if self.table.is_nominal else ""
        return f"{low:.3f} to {high:.3f} um, from {self.table.source}{nominal}"


def read_defocus(path: Path) -> DefocusTable:
    """Read a file by its suffix: .defocus, .star, .mdoc, else the text of CTFFIND or AreTomo."""
    return _READERS.get(path.suffix.lower(), read_ctffind)(path)


def stack_defocus(series: ResolvedSeries, given: tuple[Path, ...]) -> list[StackDefocus]:
    """Defocus of every stack, from the files given or what lies beside the stack.

    Raises
    ------
    InputError
        If there is no file for a stack, or it is that of another series.
    """
    if given and len(given) != len(series.stacks):
        raise InputError(
            f"{len(given)} files were given for {len(series.stacks)} stacks",
            where="--defocus",
            fix="give one file for each stack, in the same order",
        )
    found = []
    for number in range(len(series.stacks)):
        path = given[number] if given else _beside(series, number)
        found.append(_of_views(read_defocus(path), series, number))
    return found


def _beside(series: ResolvedSeries, stack: int) -> Path:
    """The angle file, where it is one with defocus; else what is named after the stack."""
    for path in _candidates(series, stack):
        if path.is_file():
            return path
    raise InputError(
        "the defocus of its views is not known", path=series.stacks[stack].path, fix="give --defocus FILE"
    )


def _candidates(series: ResolvedSeries, stack: int) -> Iterator[Path]:
    path = series.stacks[stack].path
    angles = series.sources("tilt angles").get(stack, "")
    if angles.lower().endswith(".star"):
        yield Path(angles)
    yield path.with_suffix(".defocus")
    yield path.with_name(f"{path.stem}_CTF.txt")
    yield from named_after(path, ".mdoc")


def _of_views(table: DefocusTable, series: ResolvedSeries, stack: int) -> StackDefocus:
    """The rows of a table for the views of a stack; `InputError` if it is that of another series."""
    mine = series.geometry.series == stack
    sections, tilts = series.geometry.sections[mine], series.geometry.tilt_degrees[mine]
    rows = _rows(table, sections, series.stacks[stack].shape[0], stack)
    if table.tilt_degrees is not None:
        _check_tilts(table, table.tilt_degrees[rows], tilts, sections, stack)
    return StackDefocus(table, table.defocus[rows], table.angle[rows], table.phase_shift[rows])


def _rows(table: DefocusTable, sections: NDArray[np.int64], stored: int, stack: int) -> NDArray[np.int64]:
    """Rows by section; where views were left out before defocus was measured, by their order."""
    count = len(table.sections)
    place = {int(section): row for row, section in enumerate(table.sections)}
    if count <= stored and all(int(section) in place for section in sections):
        return np.array([place[int(section)] for section in sections], dtype=np.int64)
    if count == len(sections) and table.sections.max() < count:
        order = np.argsort(np.argsort(sections, kind="stable"), kind="stable")
        return np.array([place[int(section)] for section in order], dtype=np.int64)
    raise InputError(
        f"holds defocus for {count} views but stack {stack + 1} has {stored} sections, of which "
        f"{len(sections)} are used: is it that of another series?",
        path=table.source,
        fix="give the file of this stack",
    )


def _check_tilts(
    table: DefocusTable, said: Float64, tilts: Float64, sections: NDArray[np.int64], stack: int
) -> None:
    """Refuse a file whose tilts are not those of the views, up to a common offset."""
    apart = said - tilts
    worst = int(np.argmax(np.abs(apart - np.median(apart))))
    if abs(apart[worst] - np.median(apart)) > _SAME_TILT_DEGREES:
        raise InputError(
            f"section {sections[worst] + 1} is tilted by {said[worst]:g} degrees there and by "
            f"{tilts[worst]:g} in stack {stack + 1}: is it that of another series?",
            path=table.source,
            fix="give the file of this stack",
        )
