"""Defocus in the text files of CTFFIND (``diagnostic_output.txt``) and AreTomo (``_CTF.txt``).

Source: CTFFIND 4 and 5, AreTomo 3. Lines that begin with # are remarks, among them the microscope's numbers
in CTFFIND's. The columns are number of the image from 1, defocus 1 and 2 (angstrom), angle of astigmatism
(degrees), phase shift (radians), score, resolution of the fit (angstrom), then up to four more that are not
used.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from manyviews.errors import InputError
from manyviews.io.atomic import atomic_write
from manyviews.io.defocus_table import DefocusTable
from manyviews.io.text import content_lines, parse_number, parse_whole_number

_FEWEST_COLUMNS, _MOST_COLUMNS = 7, 11
_MOST_SECTIONS = 100_000
_HEADER = {
    "voltage_kv": re.compile(r"acceleration voltage:\s*([^\s;]+)"),
    "spherical_aberration_mm": re.compile(r"spherical aberration:\s*([^\s;]+)"),
    "amplitude_contrast": re.compile(r"amplitude contrast:\s*([^\s;]+)"),
}


def read_ctffind(path: Path) -> DefocusTable:
    """Read the defocus of a series.

    Raises
    ------
    InputError
        If a line has too few or many columns, or holds what is no number.
    """
    rows: list[list[float]] = []
    header: dict[str, float] = {}
    for number, line in content_lines(path, comment=""):
        where = f"line {number}"
        if line.startswith("#"):
            for name, pattern in _HEADER.items():
                if match := pattern.search(line):
                    header[name] = parse_number(match[1], path=path, where=where)
            continue
        words = line.split()
        if not _FEWEST_COLUMNS <= len(words) <= _MOST_COLUMNS or (rows and len(words) != len(rows[0])):
            raise InputError(
                f"the line holds {len(words)} columns where 7 to 11 are expected, as many in all lines",
                path=path,
                where=where,
                fix="give a whole file of one of them",
            )
        # what follows the columns that are used may be infinite: the resolution of a fit that failed
        used = [parse_number(word, path=path, where=where) for word in words[1:5]]
        rows.append([_section(words[0], path, where), *used, *[0.0] * (len(words) - 5)])
    if not rows:
        raise InputError("holds no defocus", path=path, fix="give CTFFIND's or AreTomo's text file")
    table = np.array(rows)
    return DefocusTable(
        source=str(path),
        defocus=table[:, 1:3],
        angle=table[:, 3],
        phase_shift=np.rad2deg(table[:, 4]),
        sections=table[:, 0].astype(np.int64),
        voltage_kv=header.get("voltage_kv"),
        spherical_aberration_mm=header.get("spherical_aberration_mm"),
        amplitude_contrast=header.get("amplitude_contrast"),
    )


def _section(word: str, path: Path, where: str) -> int:
    """From 0. CTFFIND writes whole numbers as 1.000000."""
    number = parse_whole_number(word, path=path, where=where)
    if not 1 <= number <= _MOST_SECTIONS:
        raise InputError(f"{number} is not an image", path=path, where=where, fix="number them from 1")
    return number - 1


def write_ctffind(path: Path, table: DefocusTable, *, overwrite: bool = False) -> None:
    """Write the columns of CTFFIND and AreTomo; score and resolution of the fit are zero."""
    microscope = {
        "acceleration voltage": (table.voltage_kv, "keV"),
        "spherical aberration": (table.spherical_aberration_mm, "mm"),
        "amplitude contrast": (table.amplitude_contrast, ""),
    }
    known = [
        f"{name}: {value:.9g} {unit}".strip()
        for name, (value, unit) in microscope.items()
        if value is not None
    ]
    columns = (
        "#1 micrograph number; #2 defocus 1 [A]; #3 defocus 2; #4 azimuth of astigmatism; "
        "#5 additional phase shift [radian]; #6 cross correlation; #7 spacing of the fit [A]"
    )
    lines = [*([f"# {' ; '.join(known)}"] if known else []), f"# Columns: {columns}"]
    for section, pair, angle, phase in zip(
        table.sections, table.defocus, table.angle, np.deg2rad(table.phase_shift), strict=True
    ):
        lines.append(f"{section + 1:5d} {pair[0]:11.3f} {pair[1]:11.3f} {angle:9.4f} {phase:9.6f} 0.0 0.0")
    atomic_write(path, ("\n".join(lines) + "\n").encode("ascii"), overwrite=overwrite)
