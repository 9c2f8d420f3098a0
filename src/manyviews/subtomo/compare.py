"""Compare the poses that subtomograms were given with true ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.geometry.poses import euler_to_matrices
from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.io.faults import explain_write_errors
from manyviews.io.subtomogram_formats import read_subtomograms
from manyviews.io.subtomogram_table import SubtomogramTable
from manyviews.io.tables import write_table
from manyviews.metrics.pose_error_3d import ErrorSummary, SpatialErrors, spatial_errors

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

ERRORS_FILE = "pose_errors.csv"
_CLOSE_DEGREES = (2.0, 5.0, 10.0)
Keys = dict[tuple[object, ...], int]
_SAME_PLACE = 1e-2  # angstrom; tables are written with so many digits


@dataclass(frozen=True)
class SpatialComparison:
    """How far poses are from true ones.

    ``names`` are of the particles that are in both tables, in the order of the errors; ``left_out`` are in
    one only. ``one_frame``: no common turn or move was taken out.
    """

    errors: SpatialErrors
    names: tuple[str, ...]
    left_out: int
    one_frame: bool

    def lines(self) -> list[str]:
        """The result in words, for a terminal."""
        angles = self.errors.angles
        within = ", ".join(f"{(angles <= d).mean():.1%} within {d:g}" for d in _CLOSE_DEGREES)
        told = [
            f"particles:          {len(angles)}",
            "                      median     mean  90th percentile",
            f"angle, degrees:     {ErrorSummary.of(angles).text()}",
            f"shift, angstrom:    {ErrorSummary.of(self.errors.shifts).text()}",
            f"angle:              {within} degrees",
            f"hand:               {'other than' if self.errors.mirrored else 'as'} the second table's",
        ]
        if not self.one_frame:
            cosine = (np.trace(self.errors.rotation) - 1) / 2
            turn = math.degrees(math.acos(float(np.clip(cosine, -1, 1))))
            centre = ", ".join(f"{value:.2f}" for value in self.errors.centre)
            told.append(f"taken out of all:   {turn:.1f} degrees; {centre} angstrom in x, y, z of the map")
        if self.left_out:
            told.append(f"in one table only:  {self.left_out} particles, not compared")
        return told

    def write(self, folder: Path, *, overwrite: bool = False) -> Path:
        """Write ``pose_errors.csv``, a row a particle; `InputError` if it is there and must not be."""
        path = folder / ERRORS_FILE
        with explain_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        columns = zip(self.names, self.errors.angles, self.errors.shifts, strict=True)
        rows = ((name, f"{angle:.4f}", f"{shift:.4f}") for name, angle, shift in columns)
        write_table(path, ("particle", "angle_degrees", "shift_angstrom"), rows, overwrite=overwrite)
        return path


def compare_files(
    found: Path,
    truth: Path,
    symmetry: str = "C1",
    *,
    one_frame: bool = False,
    pixel_size: float | None = None,
) -> SpatialComparison:
    """`compare_tables` of files in any format; their volumes need not be there.

    ``pixel_size`` of the subtomograms is in angstrom; left out: what the tables tell.
    """
    tables = [read_subtomograms(path, pixel_size=pixel_size, with_volumes=False) for path in (found, truth)]
    return compare_tables(tables[0], tables[1], symmetry, one_frame=one_frame, names=(found, truth))


def compare_tables(
    found: SubtomogramTable,
    truth: SubtomogramTable,
    symmetry: str = "C1",
    *,
    one_frame: bool = False,
    names: tuple[Path | None, Path | None] = (None, None),
) -> SpatialComparison:
    """Compare the poses of the particles that are in both tables.

    Particles are known by the names of their volumes, else by their places in the tomograms.

    Parameters
    ----------
    found, truth
        Tables with poses.
    symmetry
        Point group of the particle in the frame of the second table.
    one_frame
        The map of the first lies where that of the second does, as after an alignment to the same reference:
        no turn, move or hand of all poses is taken out.
    names
        The files of the tables, for sentences.

    Raises
    ------
    InputError
        If a table holds no poses, or they have no particle in common.
    """
    group = symmetry_rotations(symmetry)
    angles = [_angles(table, name) for table, name in zip((found, truth), names, strict=True)]
    rows = _common_rows(found, truth, names)
    poses = [euler_to_matrices(one[row]) for one, row in zip(angles, rows, strict=True)]
    errors = spatial_errors(
        poses[0],
        poses[1],
        found.shifts[rows[0]],
        truth.shifts[rows[1]],
        symmetry=group,
        one_frame=one_frame,
        hands=not one_frame,
    )
    told = tuple(found.name_of(int(row)) for row in rows[0])
    return SpatialComparison(errors, told, len(found) + len(truth) - 2 * len(rows[0]), one_frame)


def _angles(table: SubtomogramTable, name: Path | None) -> Float64:
    if table.angles is None:
        raise InputError("holds no poses", path=name, fix="give a table with rlnAngleRot, Tilt and Psi")
    return table.angles


def _common_rows(
    found: SubtomogramTable, truth: SubtomogramTable, names: tuple[Path | None, Path | None]
) -> tuple[Int64, Int64]:
    """The rows of the particles that are in both, in one order."""
    keys = _by_name(found, truth) or _by_place(found, truth)
    if keys is None:
        raise InputError(
            f"its particles and those of {names[1] or 'the second table'} cannot be told apart",
            path=names[0],
            fix="give two tables that name each volume, or its place in a tomogram, once",
        )
    first, second = keys
    common = [key for key in first if key in second]
    if not common:
        raise InputError(
            f"has no particle in common with {names[1] or 'the second table'}",
            path=names[0],
            fix="give two tables of the same subtomograms",
        )
    return np.array([first[key] for key in common]), np.array([second[key] for key in common])


def _by_name(found: SubtomogramTable, truth: SubtomogramTable) -> tuple[Keys, Keys] | None:
    """Rows by the ends of the volumes' paths, as much of them as it takes to tell all apart.

    The tables may lie in different folders, so the beginnings of the paths tell nothing.
    """
    if not found.volumes or not truth.volumes:
        return None
    parts = [[PurePath(path).parts for path in table.volumes] for table in (found, truth)]
    for depth in range(1, max(len(path) for paths in parts for path in paths) + 1):
        first: Keys = {path[-depth:]: row for row, path in enumerate(parts[0])}
        second: Keys = {path[-depth:]: row for row, path in enumerate(parts[1])}
        if len(first) == len(found) and len(second) == len(truth):
            return first, second
    return None


def _by_place(found: SubtomogramTable, truth: SubtomogramTable) -> tuple[Keys, Keys] | None:
    """Rows by tomogram and coordinates of the boxes, which an alignment does not change."""
    if found.coordinates is None or truth.coordinates is None or found.origin != truth.origin:
        return None

    def keys(table: SubtomogramTable, coordinates: Float64) -> Keys:
        places = np.round(coordinates / _SAME_PLACE).astype(np.int64).tolist()
        return {(table.tomogram_of(row), *place): row for row, place in enumerate(places)}

    first, second = keys(found, found.coordinates), keys(truth, truth.coordinates)
    return (first, second) if len(first) == len(found) and len(second) == len(truth) else None
