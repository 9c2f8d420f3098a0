"""What .mdoc files say about defocus and dose: what was asked of the microscope, not what came of it.

Source: SerialEM help, "About Mdoc Files". TargetDefocus and Defocus are micrometres, negative under focus;
ExposureDose is of a section, PriorRecordDose what the specimen had seen before it, electrons per square
angstrom.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.defocus_table import DefocusTable
from manyviews.io.mdoc import MdocBlock, optional_number, read_blocks

Float64 = NDArray[np.float64]

_ANGSTROM_PER_MICROMETRE = 1e4
_DEFOCUS_KEYS = ("TargetDefocus", "Defocus")


def read_mdoc_defocus(path: Path) -> DefocusTable:
    """Nominal defocus of every section: TargetDefocus, or where that is missing Defocus.

    Raises
    ------
    InputError
        If neither is there for every section, or they are not under focus.
    """
    sections = _sections(path)
    for key in _DEFOCUS_KEYS:
        values = [optional_number(path, block, key) for block in sections]
        if None not in values:
            break
    else:
        raise InputError(
            "has neither TargetDefocus nor Defocus for every section",
            path=path,
            fix="give a file of CTFFIND, IMOD, AreTomo or RELION",
        )
    defocus = -_ANGSTROM_PER_MICROMETRE * np.array(values, dtype=np.float64)
    blank = np.zeros(len(defocus))
    return DefocusTable(
        source=str(path),
        defocus=np.stack([defocus, defocus], axis=1),
        angle=blank,
        phase_shift=blank,
        sections=np.arange(len(defocus), dtype=np.int64),
        tilt_degrees=_column(path, sections, "TiltAngle"),
        voltage_kv=read_mdoc_voltage(path),
        is_nominal=True,
    )


def read_mdoc_voltage(path: Path) -> float | None:
    """Voltage in kV, of the file or of its first section; None where it does not say."""
    blocks = read_blocks(path)
    first = [block for _, block in blocks.sections[:1]]
    found = [optional_number(path, block, "Voltage") for block in (blocks.preamble, *first)]
    return next((value for value in found if value), None)


def read_mdoc_dose(path: Path) -> tuple[Float64 | None, Float64 | None]:
    """Dose of every section, and before every section, ``(section,)`` each; None where it is not known."""
    sections = _sections(path)
    own = _column(path, sections, "ExposureDose")
    return (own if own is not None and own.any() else None), _column(path, sections, "PriorRecordDose")


def _sections(path: Path) -> list[MdocBlock]:
    blocks = read_blocks(path)
    if not blocks.sections:
        raise InputError("has no [ZValue = n] section", path=path, fix="give the .mdoc of the tilt series")
    return [block for _, block in sorted(blocks.sections, key=lambda pair: pair[0])]


def _column(path: Path, sections: list[MdocBlock], key: str) -> Float64 | None:
    values = [optional_number(path, block, key) for block in sections]
    return None if None in values else np.array(values, dtype=np.float64)
