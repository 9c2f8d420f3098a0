"""What each iteration of an alignment leaves in the run folder, so that the report shows how it went.

``iterations.csv`` has a row an iteration, with the fields of `Iteration` as columns; an empty field is a
number that is not known. ``slices.mrc`` is a stack of images: of each iteration the planes xy, xz and yz
through the middle of its map, iteration 1 first; planes of an iteration that left none are zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.io.tables import read_numbers, require_ordinary, write_table
from manyviews.report.planes import add_planes, central_planes

Float32 = NDArray[np.float32]

ITERATIONS_FILE = "iterations.csv"
SLICES_FILE = "slices.mrc"
_MOST = 1e9


@dataclass(frozen=True)
class Iteration:
    """What an iteration came to; NaN for what is not known, as the changes of the first.

    Attributes
    ----------
    iteration
        From 1.
    resolution_angstrom
        Where the correlation of the halves that counts, in the mask and corrected, falls below 0.143.
    fsc143_angstrom
        Where that of the halves as they are does.
    median_angle_change_degrees, median_shift_change_angstrom
        Of the poses, to the nearest one that symmetry makes equal.
    mean_score
        Of the particles that count.
    frequency_limit
        1/angstrom, up to which particles were compared.
    """

    iteration: int
    resolution_angstrom: float = math.nan
    fsc143_angstrom: float = math.nan
    median_angle_change_degrees: float = math.nan
    median_shift_change_angstrom: float = math.nan
    mean_score: float = math.nan
    frequency_limit: float = math.nan


_COLUMNS = tuple(item.name for item in fields(Iteration))


def write_iterations(path: Path, iterations: Sequence[Iteration]) -> None:
    """Write all iterations so far; infinity, a resolution of nothing, is written as not known."""
    rows = ((one.iteration, *(_text(getattr(one, name)) for name in _COLUMNS[1:])) for one in iterations)
    write_table(path, _COLUMNS, rows)


def read_iterations(path: Path) -> tuple[Iteration, ...]:
    """The iterations that were written, none if there is no file; `InputError` if it cannot be read."""
    table = read_numbers(path, _COLUMNS)
    require_ordinary(np.nan_to_num(table, nan=0.0), path, least=-_MOST, most=_MOST)
    require_ordinary(table[:, :1], path, least=0, most=_MOST)
    return tuple(Iteration(int(row[0]), *row[1:].tolist()) for row in table)


def write_slices(path: Path, iteration: int, volume: NDArray[Any], pixel_size: float) -> None:
    """Add the planes of an iteration's map ``(n, n, n)``, iteration from 1, as `add_planes` does."""
    add_planes(path, iteration, central_planes(volume), pixel_size)


def _text(value: float) -> str:
    return f"{value:.7g}" if math.isfinite(value) else ""
