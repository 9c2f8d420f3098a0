"""What dose the specimen had seen at every view."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.imod import read_angle_table
from manyviews.io.mdoc_microscope import read_mdoc_dose
from manyviews.io.relion_defocus import read_relion_dose
from manyviews.tilt.series.inputs import read_if_possible
from manyviews.tilt.series.resolve import ResolvedSeries

Float64 = NDArray[np.float64]


def stack_dose(
    series: ResolvedSeries, stack: int, files: tuple[Path, ...], per_view: float | None
) -> tuple[Float64, str]:
    """Dose halfway through every used view of a stack, electrons per square angstrom, and where it is from.

    ``files`` may hold doses: those of angles and defocus, and what lies beside the stack. With ``per_view``
    they say the order only, else both.

    Raises
    ------
    InputError
        If neither option nor files tell.
    """
    sections = series.geometry.sections[series.geometry.series == stack]
    stored = series.stacks[stack].shape[0]
    for path in files:
        found = _of_file(path, stored, per_view)
        if found is not None:
            return found[sections], f"{path}"
    if per_view is None:
        raise InputError(
            "the dose of its views is not known",
            path=series.stacks[stack].path,
            fix="give --dose-per-view, or an .mdoc or RELION-5 table that holds it",
        )
    dose = per_view * (np.arange(stored) + 0.5)
    return dose[sections], "--dose-per-view, in the order of the sections"


def _of_file(path: Path, stored: int, per_view: float | None) -> Float64 | None:
    """Dose halfway through each of ``stored`` sections; None where the file does not tell."""
    if not path.is_file():
        return None
    own, before = _READERS.get(path.suffix.lower(), _of_nothing)(path, stored)
    if before is None:
        return None
    if per_view is not None:
        order = np.argsort(np.argsort(before, kind="stable"), kind="stable")
        return np.asarray(per_view * (order + 0.5), dtype=np.float64)
    if path.suffix.lower() == ".txt":
        return None  # the doses in it may be of a view or of all before: the order alone is taken on trust
    if own is None:
        own = np.full(stored, float(np.median(np.diff(np.sort(before)))) if stored > 1 else 0.0)
    return np.asarray(before + 0.5 * own, dtype=np.float64)


Doses = tuple[Float64 | None, Float64 | None]


def _of_nothing(path: Path, stored: int) -> Doses:
    return None, None


def _of_mdoc(path: Path, stored: int) -> Doses:
    """Of every section and before it."""
    found, _ = read_if_possible(read_mdoc_dose, path)
    own, before = found or (None, None)
    if before is None or len(before) != stored or np.ptp(before) == 0.0:
        return None, None
    return own, before


def _of_star(path: Path, stored: int) -> Doses:
    found, _ = read_if_possible(read_relion_dose, path)
    if found is None or sorted(found[0]) != list(range(stored)):
        return None, None
    before = np.empty(stored)
    before[found[0]] = found[1]
    return None, before


def _of_angle_table(path: Path, stored: int) -> Doses:
    """AreTomo's angles with the order of acquisition, which stands for the dose before."""
    table, _ = read_if_possible(read_angle_table, path)
    if table is None or table.acquisition_order is None or len(table.tilt_degrees) != stored:
        return None, None
    return None, table.acquisition_order.astype(np.float64)


_READERS: dict[str, Callable[[Path, int], Doses]] = {
    ".mdoc": _of_mdoc,
    ".star": _of_star,
    ".txt": _of_angle_table,
}
