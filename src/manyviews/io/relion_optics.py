"""Optics groups of RELION's STAR files: the table ``data_optics``, and the same from RELION 3.0's columns.

Source: RELION 3.1 ``obs_model.cpp``, ``metadata_label.h``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.particle_table import IDENTITY, OpticsGroup
from manyviews.io.star import StarBlock, column_whole_numbers
from manyviews.io.text import parse_number

OPTICS_LABELS = (
    "rlnVoltage",
    "rlnSphericalAberration",
    "rlnAmplitudeContrast",
    "rlnImagePixelSize",
    "rlnMagnification",
    "rlnDetectorPixelSize",
    "rlnImageSize",
    "rlnImageDimensionality",
    "rlnBeamTiltX",
    "rlnBeamTiltY",
)
"""Columns of a 3.0 table, or of one without ``data_optics``, that are used up in its optics groups."""

LARGEST_GROUP_COUNT = 100_000

_CTF = OPTICS_LABELS[:3]
_MAGNIFICATION = ("rlnMagMat00", "rlnMagMat01", "rlnMagMat10", "rlnMagMat11")
_NO_CTF = (300.0, 0.0, 1.0)
"""Voltage, spherical aberration and amplitude contrast with which the CTF is 1 at every frequency."""


def read_optics(
    block: StarBlock, path: Path, *, ctf: bool, pixel_size: float | None
) -> tuple[tuple[OpticsGroup, ...], NDArray[np.int64]]:
    """The groups of ``data_optics`` and their numbers ``(group,)``.

    `InputError` if columns are missing, numbers are impossible, or a number is given twice.
    """
    if "rlnOpticsGroup" not in block.columns:
        raise InputError("rlnOpticsGroup is missing in data_optics", path=path)
    numbers = column_whole_numbers(block.columns["rlnOpticsGroup"], "rlnOpticsGroup", path)
    if len(np.unique(numbers)) != len(numbers) or len(numbers) == 0:
        raise InputError("data_optics has no group or one number twice", path=path)
    _require(block.columns, path, "data_optics", ctf=ctf, pixel_size=pixel_size)
    rows = [{label: values[row] for label, values in block.columns.items()} for row in range(len(block))]
    groups = tuple(
        _group(_Row(row, path, f"data_optics, row {number}"), ctf=ctf, pixel_size=pixel_size)
        for number, row in enumerate(rows, start=1)
    )
    return groups, numbers


def optics_of_particles(
    block: StarBlock, path: Path, *, ctf: bool, pixel_size: float | None
) -> tuple[tuple[OpticsGroup, ...], NDArray[np.int64]]:
    """Groups of particles that agree in all columns of `OPTICS_LABELS`, and the index of each ``(N,)``."""
    _require(block.columns, path, "the particle table", ctf=ctf, pixel_size=pixel_size)
    labels = [label for label in OPTICS_LABELS if label in block.columns]
    found: dict[tuple[str, ...], int] = {}
    columns = [block.columns[label] for label in labels] or [[""] * len(block)]
    index = np.array([found.setdefault(key, len(found)) for key in zip(*columns, strict=True)])
    if len(found) > LARGEST_GROUP_COUNT:
        raise InputError(f"the particles have {len(found)} different optics", path=path)
    first = [int(row) for row in np.unique(index, return_index=True)[1]]
    groups = [
        _group(
            _Row({label: block.columns[label][row] for label in labels}, path, f"row {row + 1}"),
            ctf=ctf,
            pixel_size=pixel_size,
        )
        for row in first
    ]
    named = tuple(replace(group, name=f"opticsGroup{n}") for n, group in enumerate(groups, start=1))
    return named, index.astype(np.int64)


def _require(
    columns: Mapping[str, list[str]], path: Path, table: str, *, ctf: bool, pixel_size: float | None
) -> None:
    missing = [label for label in (_CTF if ctf else ()) if label not in columns]
    calibrated = "rlnMagnification" in columns and "rlnDetectorPixelSize" in columns
    if "rlnImagePixelSize" not in columns and not calibrated and pixel_size is None:
        missing.append("rlnImagePixelSize")
    if missing:
        names = ", ".join(missing)
        raise InputError(
            f"{names} {'is' if len(missing) == 1 else 'are'} missing in {table}",
            path=path,
            fix="add what is missing, or say that the images have no CTF and what their pixel size is",
        )


@dataclass(frozen=True)
class _Row:
    """One row of text by label, and where it stands."""

    values: Mapping[str, str]
    path: Path
    where: str

    def number(self, label: str, default: float = 0.0) -> float:
        if label not in self.values:
            return default
        return parse_number(self.values[label], path=self.path, where=f"{self.where}, {label}")

    def list_of_numbers(self, label: str) -> tuple[float, ...]:
        """RELION's ``[a,b,c]``."""
        inside = self.values.get(label, "").strip().removeprefix("[").removesuffix("]")
        where = f"{self.where}, {label}"
        return tuple(parse_number(text, path=self.path, where=where) for text in inside.split(",") if text)

    def pixel_size(self, default: float | None) -> float:
        if "rlnImagePixelSize" in self.values:
            return self.number("rlnImagePixelSize")
        magnification = self.number("rlnMagnification")
        if magnification > 0 and "rlnDetectorPixelSize" in self.values:
            return self.number("rlnDetectorPixelSize") * 1e4 / magnification
        if default is None:
            what = f"a magnification of {magnification:g} gives no pixel size"
            raise InputError(what, path=self.path, where=self.where)
        return default


def _group(row: _Row, *, ctf: bool, pixel_size: float | None) -> OpticsGroup:
    if row.number("rlnImageDimensionality", 2.0) != 2:
        raise InputError("lists subtomograms, not particle images", path=row.path, where=row.where)
    size = row.number("rlnImageSize")
    if size != int(size):
        raise InputError(f"rlnImageSize is {size:g}, not a whole number", path=row.path, where=row.where)
    voltage, aberration, contrast = (row.number(label) for label in _CTF) if ctf else _NO_CTF
    matrix = [row.number(label, float(label[-2] == label[-1])) for label in _MAGNIFICATION]
    try:
        return OpticsGroup(
            name=row.values.get("rlnOpticsGroupName")
            or f"opticsGroup{row.values.get('rlnOpticsGroup', '1')}",
            voltage_kv=voltage,
            spherical_aberration_mm=aberration,
            amplitude_contrast=contrast,
            pixel_size=row.pixel_size(pixel_size),
            image_size=int(size) if "rlnImageSize" in row.values else None,
            ctf_premultiplied=row.number("rlnCtfDataAreCtfPremultiplied") != 0,
            beam_tilt_mrad=(row.number("rlnBeamTiltX"), row.number("rlnBeamTiltY")),
            odd_zernike=row.list_of_numbers("rlnOddZernike"),
            even_zernike=row.list_of_numbers("rlnEvenZernike"),
            magnification=((matrix[0], matrix[1]), (matrix[2], matrix[3])),
            extra=tuple((label, text) for label, text in row.values.items() if label not in _KNOWN),
        )
    except InputError as error:
        raise InputError(error.what, path=row.path, where=error.where or row.where, fix=error.fix) from error


_KNOWN = {
    *OPTICS_LABELS,
    *_MAGNIFICATION,
    "rlnOpticsGroup",
    "rlnOpticsGroupName",
    "rlnCtfDataAreCtfPremultiplied",
    "rlnOddZernike",
    "rlnEvenZernike",
}


def optics_columns(groups: tuple[OpticsGroup, ...]) -> dict[str, list[str]]:
    """The columns of ``data_optics`` for groups numbered from 1; aberrations only where a group has some."""
    columns = {
        "rlnOpticsGroup": [str(number) for number in range(1, len(groups) + 1)],
        "rlnOpticsGroupName": [group.name for group in groups],
        "rlnVoltage": _numbers(group.voltage_kv for group in groups),
        "rlnSphericalAberration": _numbers(group.spherical_aberration_mm for group in groups),
        "rlnAmplitudeContrast": _numbers(group.amplitude_contrast for group in groups),
        "rlnImagePixelSize": _numbers(group.pixel_size for group in groups),
    }
    if all(group.image_size is not None for group in groups):
        columns["rlnImageSize"] = [str(group.image_size) for group in groups]
    columns["rlnImageDimensionality"] = ["2"] * len(groups)
    if any(group.ctf_premultiplied for group in groups):
        columns["rlnCtfDataAreCtfPremultiplied"] = [str(int(group.ctf_premultiplied)) for group in groups]
    if any(any(group.beam_tilt_mrad) for group in groups):
        for label, axis in (("rlnBeamTiltX", 0), ("rlnBeamTiltY", 1)):
            columns[label] = _numbers(group.beam_tilt_mrad[axis] for group in groups)
    if any(group.odd_zernike for group in groups):
        columns["rlnOddZernike"] = [_list_text(group.odd_zernike) for group in groups]
    if any(group.even_zernike for group in groups):
        columns["rlnEvenZernike"] = [_list_text(group.even_zernike) for group in groups]
    if any(group.magnification != IDENTITY for group in groups):
        for number, label in enumerate(_MAGNIFICATION):
            columns[label] = _numbers(group.magnification[number // 2][number % 2] for group in groups)
    for label in dict.fromkeys(label for group in groups for label, _ in group.extra):
        columns.setdefault(label, [dict(group.extra).get(label, "None") for group in groups])
    return columns


def _numbers(values: Iterable[float]) -> list[str]:
    return [f"{value:.6f}" for value in values]


def _list_text(values: tuple[float, ...]) -> str:
    return "[" + ",".join(f"{value:.12g}" for value in values) + "]"
