"""RELION-5 tilt-series STAR files.

Source: RELION-5 ``tomogram_set.cpp`` and ``reconstruct_tomogram.cpp``: a specimen point is seen at
``S(image centre) S(shift) Rz(rlnTomoZRot) Ry(rlnTomoYTilt) Rx(rlnTomoXTilt) S(-volume centre)``; the image
centre is pixel ``n / 2`` rounded down, rotations are right-handed, shifts are angstrom after the rotation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError, shortened
from manyviews.geometry.euler import split_view, zyx_angles
from manyviews.geometry.views import TiltGeometry
from manyviews.io.atomic import atomic_write
from manyviews.io.text import parse_number, parse_whole_number, read_text

_REQUIRED = ("rlnTomoYTilt", "rlnTomoZRot", "rlnTomoXShiftAngst", "rlnTomoYShiftAngst")
_READ = (
    *(*_REQUIRED, "rlnTomoXTilt", "rlnMicrographName"),
    *("rlnTomoNominalStageTiltAngle", "rlnTomoNominalTiltAxisAngle"),
)
_SECTION_OF_STACK = re.compile(r"^(\d+)@")


@dataclass(frozen=True)
class RelionTiltSeries:
    """The alignment of one tilt series.

    Attributes
    ----------
    name
        Name of the data block.
    x_tilt, y_tilt, z_rotation
        ``(view,)`` degrees.
    shifts
        ``(view, 2)`` x y in angstrom.
    sections
        ``(view,)`` section of each view in its stack, from 0: the number before ``@`` in rlnMicrographName
        where there is one, else the order of the rows.
    names_sections
        Whether those numbers were there.
    nominal_tilt, nominal_axis
        Stage tilt and tilt axis angle in degrees before alignment, or None.
    """

    name: str
    x_tilt: NDArray[np.float64]
    y_tilt: NDArray[np.float64]
    z_rotation: NDArray[np.float64]
    shifts: NDArray[np.float64]
    sections: NDArray[np.int64]
    names_sections: bool = False
    nominal_tilt: NDArray[np.float64] | None = None
    nominal_axis: NDArray[np.float64] | None = None


def read_tilt_series_star(path: Path) -> RelionTiltSeries:
    """Read the STAR file of one tilt series.

    Raises
    ------
    InputError
        If it is not STAR, lacks a column, or holds something that is not a number.
    """
    document = parse_star(path)
    for block in document:
        if block.find_loop("_rlnTomoYTilt") or block.find_loop("_rlnTomoNominalStageTiltAngle"):
            return _from_block(block, path)
    hint = "give one of the files named in its rlnTomoTiltSeriesStarFile column"
    is_list = any(block.find_loop("_rlnTomoTiltSeriesStarFile") for block in document)
    raise InputError(
        "lists tilt series" if is_list else "has no rlnTomoYTilt column",
        path=path,
        fix=hint if is_list else "give the STAR file of an aligned tilt series",
    )


def parse_star(path: Path) -> Any:
    """The blocks of a STAR file; `InputError` if it is none."""
    from gemmi import cif

    text = read_text(path)
    try:
        return cif.read_string(text)
    except (ValueError, RuntimeError) as error:
        reason = shortened(str(error).splitlines()[0]) if str(error) else "unreadable"
        raise InputError(
            f"is not a STAR file ({reason})", path=path, fix="give RELION's tilt-series file"
        ) from error


def _from_block(block: Any, path: Path) -> RelionTiltSeries:
    columns = {name: column_numbers(block, name, path) for name in _REQUIRED}
    for name, values in columns.items():
        if values is None:
            raise InputError(f"column {name} is missing", path=path, fix="align the tilt series first")
    _require_one_loop(block, path)
    y_tilt, z_rotation, x_shift, y_shift = (np.asarray(columns[name], dtype=np.float64) for name in _REQUIRED)
    if not len(y_tilt):
        raise InputError("holds no views", path=path, fix="give the STAR file of an aligned tilt series")
    x_tilt = column_numbers(block, "rlnTomoXTilt", path)
    sections = stack_sections(block, len(y_tilt), path)
    return RelionTiltSeries(
        name=block.name,
        x_tilt=np.zeros_like(y_tilt) if x_tilt is None else x_tilt,
        y_tilt=y_tilt,
        z_rotation=z_rotation,
        shifts=np.stack([x_shift, y_shift], axis=1),
        sections=np.arange(len(y_tilt), dtype=np.int64) if sections is None else sections,
        names_sections=sections is not None,
        nominal_tilt=column_numbers(block, "rlnTomoNominalStageTiltAngle", path),
        nominal_axis=column_numbers(block, "rlnTomoNominalTiltAxisAngle", path),
    )


def _require_one_loop(block: Any, path: Path) -> None:
    """Refuse columns in several loops of a block, which may differ in length."""
    lengths = {len(column) for name in _READ if (column := block.find_loop(f"_{name}"))}
    if len(lengths) > 1:
        raise InputError(
            f"the columns of data_{block.name} have different lengths ({min(lengths)} to {max(lengths)})",
            path=path,
            fix="keep one loop in a data block",
        )


def column_numbers(block: Any, name: str, path: Path) -> NDArray[np.float64] | None:
    """``(row,)`` of a column, None where the block has none; `InputError` for what is no number."""
    column = block.find_loop(f"_{name}")
    if not column:
        return None
    where = f"column {name}, row "
    return np.array([parse_number(v, path=path, where=where + str(i + 1)) for i, v in enumerate(column)])


def stack_sections(block: Any, count: int, path: Path) -> NDArray[np.int64] | None:
    """The numbers before '@', from 0; None where a name has none."""
    names = [str(name) for name in block.find_loop("_rlnMicrographName")]
    found = [_SECTION_OF_STACK.match(name) for name in names]
    if not names or not all(found):
        return None
    where = "column rlnMicrographName"
    numbers = [parse_whole_number(match[1], path=path, where=where) for match in found if match]
    if min(numbers) < 1 or max(numbers) > 100_000 or len(set(numbers)) != count:
        raise InputError("the sections before '@' are not all different and from 1", path=path, where=where)
    return np.array(numbers, dtype=np.int64) - 1


def geometry_to_relion(geometry: TiltGeometry, name: str = "tilt_series") -> RelionTiltSeries:
    """The rows RELION-5 needs to see the views as we do.

    Raises
    ------
    InputError
        If a view is magnified or stretched, which these columns cannot express.
    """
    angles = np.empty((len(geometry), 3))
    shifts = np.empty((len(geometry), 2))
    for i, matrix in enumerate(geometry.matrices):
        parts = split_view(matrix)
        if np.abs(parts.stretch - np.eye(2)).max() > 1e-3:
            raise InputError(
                "RELION's columns cannot hold a view that is magnified or stretched",
                where=f"view {i + 1}",
                fix="write IMOD files or resample the images",
            )
        angles[i], shifts[i] = zyx_angles(parts.rotation), parts.shift
    return RelionTiltSeries(
        name=name,
        x_tilt=angles[:, 0],
        y_tilt=angles[:, 1],
        z_rotation=angles[:, 2],
        shifts=shifts,
        sections=geometry.sections,
        nominal_tilt=geometry.tilt_degrees,
        nominal_axis=angles[:, 2],  # in the raw image, as RELION means it
    )


def write_tilt_series_star(
    path: Path, series: RelionTiltSeries, *, stack: str = "", overwrite: bool = False
) -> None:
    """Write the tilt series; ``stack`` names the image file for rlnMicrographName (``000001@stack``)."""
    columns: dict[str, list[str]] = {}
    if stack:
        columns["rlnMicrographName"] = [f"{section + 1:06d}@{stack}" for section in series.sections]
    if series.nominal_tilt is not None:
        columns["rlnTomoNominalStageTiltAngle"] = [f"{v:.6f}" for v in series.nominal_tilt]
    if series.nominal_axis is not None:
        columns["rlnTomoNominalTiltAxisAngle"] = [f"{v:.6f}" for v in series.nominal_axis]
    values = (series.x_tilt, series.y_tilt, series.z_rotation, series.shifts[:, 0], series.shifts[:, 1])
    for name, numbers in zip(("rlnTomoXTilt", *_REQUIRED), values, strict=True):
        columns[name] = [f"{v:.6f}" for v in numbers]
    lines = ["", "# version 50001", "", f"data_{series.name}", "", "loop_"]
    lines += [f"_{name} #{i}" for i, name in enumerate(columns, start=1)]
    lines += [" ".join(row) for row in zip(*columns.values(), strict=True)]
    atomic_write(path, ("\n".join(lines) + "\n\n").encode("utf-8"), overwrite=overwrite)
