"""Defocus and dose in the tilt-series tables of RELION-5 (and of Warp, which writes the same)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.defocus_table import DefocusTable
from manyviews.io.relion_list import find_listed
from manyviews.io.relion_tomo import column_numbers, parse_star, stack_sections

Float64 = NDArray[np.float64]

_COLUMNS = (
    *("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnPhaseShift"),
    *("rlnTomoNominalStageTiltAngle", "rlnMicrographPreExposure", "rlnMicrographName"),
)


def read_relion_defocus(path: Path) -> DefocusTable:
    """Read rlnDefocusU, V and Angle (and rlnPhaseShift) of one tilt series.

    Hand and microscope are those of the list of tilt series beside its folder, where there is one. Rows are
    the sections named before ``@`` in rlnMicrographName where there are such, else in their order.

    Raises
    ------
    InputError
        If it is not STAR, lacks the columns, or holds something that is not a number.
    """
    block = _block(path, "rlnDefocusU")
    columns = {name: column_numbers(block, name, path) for name in _COLUMNS[:5]}
    first = columns["rlnDefocusU"]
    assert first is not None
    second, angle = columns["rlnDefocusV"], columns["rlnDefocusAngle"]
    if second is None or angle is None:
        missing = "rlnDefocusV" if second is None else "rlnDefocusAngle"
        raise InputError(f"column {missing} is missing", path=path, fix="estimate the CTF in RELION first")
    phase, listed = columns["rlnPhaseShift"], find_listed(path)
    return DefocusTable(
        source=str(path),
        defocus=np.stack([first, second], axis=1),
        angle=angle,
        phase_shift=np.zeros(len(first)) if phase is None else phase,
        sections=_sections(block, len(first), path),
        tilt_degrees=columns["rlnTomoNominalStageTiltAngle"],
        **({} if listed is None else vars(listed)),
    )


def read_relion_dose(path: Path) -> tuple[NDArray[np.int64], Float64]:
    """Sections, and the dose before each view (rlnMicrographPreExposure), both ``(row,)``.

    `InputError` as of `read_relion_defocus`.
    """
    block = _block(path, "rlnMicrographPreExposure")
    dose = column_numbers(block, "rlnMicrographPreExposure", path)
    assert dose is not None
    return _sections(block, len(dose), path), dose


def _block(path: Path, column: str) -> Any:
    """The data block with a column, whose columns are all of one loop."""
    for block in parse_star(path):
        if block.find_loop(f"_{column}"):
            lengths = {len(found) for name in _COLUMNS if (found := block.find_loop(f"_{name}"))}
            if len(lengths) > 1:
                what = f"the columns of data_{block.name} have different lengths"
                raise InputError(what, path=path, fix="keep one loop in a data block")
            return block
    raise InputError(f"has no {column} column", path=path, fix="give RELION's table of one tilt series")


def _sections(block: Any, count: int, path: Path) -> NDArray[np.int64]:
    """The numbers before '@', from 0; the order of the rows where there are none."""
    found = stack_sections(block, count, path)
    return np.arange(count, dtype=np.int64) if found is None else found
