"""Motive lists of TOM, AV3 and cryoCAT: an EM file of 20 numbers for each particle.

Source: Forster et al., PNAS 102 (2005) 4729 (AV3), ``av3_*.m``; cryoCAT. The rows, from 1: 1 score, 4 number
of the particle, 5 of its tomogram, 6 of its object, 8-10 position, 11-13 shift, 17-19 phi, psi, theta, 20
class. A particle sits at position + shift in voxels, of which the first is 1; angles are those of
`manyviews.geometry.zxz_angles`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from manyviews.errors import InputError
from manyviews.geometry.zxz_angles import from_motive_list, to_motive_list
from manyviews.io.dynamo_table import FIRST_VOXEL, voxel_positions
from manyviews.io.em_volume import read_em_header, write_em
from manyviews.io.numbered_files import find_numbered_volumes
from manyviews.io.numbered_tomograms import NumberedTomograms, number_tomograms
from manyviews.io.subtomogram_table import Float64, Int64, SubtomogramTable
from manyviews.io.text import LARGEST_NUMBER

ROWS = 20
LARGEST_WHOLE = 1 << 24
"""Beyond it float32 does not hold every whole number."""

_LABEL = "motl"
_OTHERS = (2, 3, 7, 14, 15, 16)


def read_motive_list(
    path: Path,
    *,
    pixel_size: float | None = None,
    data_root: Path | None = None,
    with_volumes: bool = True,
) -> SubtomogramTable:
    """Read a motive list; the pixel size in angstrom must be given.

    With volumes, those in ``data_root`` (left out: beside the list) whose names end in the numbers of row 4.

    Raises
    ------
    InputError
        If it is not an EM file of 20 numbers a particle, one of them is not finite, the pixel size is not
        given, or a volume is missing.
    """
    path = Path(path)
    rows = _Rows(path)
    if pixel_size is None:
        raise InputError(
            "a motive list does not tell the pixel size",
            path=path,
            fix="give it with --pixel-size, in angstrom",
        )
    tomograms = NumberedTomograms.of(rows.whole(5))
    number = rows.whole(4)
    volumes: tuple[Path, ...] = ()
    if with_volumes:
        volumes = find_numbered_volumes(data_root or path.parent, number.tolist(), path)
    return SubtomogramTable(
        pixel_size=pixel_size,
        shifts=-rows.numbers(11, 12, 13) * pixel_size,
        angles=from_motive_list(rows.numbers(17, 18, 19)),
        volumes=volumes,
        tomograms=tomograms.names,
        tomogram_index=tomograms.index,
        coordinates=(rows.numbers(8, 9, 10) - FIRST_VOXEL) * pixel_size,
        score=rows.numbers(1)[:, 0],
        number=number,
        parent=rows.whole(6),
        class_number=rows.whole(20),
        extra={f"{_LABEL}{n}": [f"{v:.9g}" for v in rows.values[:, n - 1].tolist()] for n in _OTHERS},
    )


class _Rows:
    """The numbers of a list, ``values`` ``(N, 20)``; its rows are counted from 1."""

    def __init__(self, path: Path) -> None:
        header = read_em_header(path)
        if header.shape[2] != ROWS or header.shape[0] != 1:
            z, y, x = header.shape
            raise InputError(
                f"holds {x} x {y} x {z} numbers, but a motive list has 20 for each particle",
                path=path,
                fix="give the motive list, not a volume",
            )
        self.path = path
        with np.errstate(invalid="ignore"):  # damaged numbers
            self.values = np.array(header.map_voxels()[0], dtype=np.float64)

    def numbers(self, *rows: int) -> Float64:
        """``(N, rows)`` finite numbers of ordinary size."""
        found = self.values[:, [row - 1 for row in rows]]
        bad = ~(np.abs(found) <= LARGEST_NUMBER)
        if bad.any():
            particle, at = np.argwhere(bad)[0].tolist()
            raise InputError(
                f"{found[particle, at]:g} is not a finite number of ordinary size",
                path=self.path,
                where=f"row {rows[at]}, particle {particle + 1}",
                fix="correct the list",
            )
        return found

    def whole(self, row: int) -> Int64:
        """``(N,)`` whole numbers."""
        found = self.numbers(row)[:, 0]
        bad = found != np.rint(found)
        if bad.any():
            particle = int(np.flatnonzero(bad)[0])
            raise InputError(
                f"{found[particle]:g} is not a whole number",
                path=self.path,
                where=f"row {row}, particle {particle + 1}",
                fix="correct the list",
            )
        return found.astype(np.int64)


def write_motive_list(path: Path, table: SubtomogramTable, *, overwrite: bool = False) -> tuple[str, ...]:
    """Write a list in float32; what could not be said in it is returned. `InputError` as of other writers."""
    flat = table.in_tomogram()
    count, size = len(flat), flat.pixel_size
    values = np.zeros((count, ROWS))
    for label, texts in flat.extra.items():
        if is_own_label(label):
            values[:, int(label[len(_LABEL) :]) - 1] = [float(text) for text in texts]
    numbered = number_tomograms(flat)
    number = np.arange(1, count + 1) if flat.number is None else flat.number
    _require_small(Path(path), number)
    values[:, 3], values[:, 4] = number, numbered.numbers
    for column, one in ((0, flat.score), (5, flat.parent), (19, flat.class_number)):
        if one is not None:
            values[:, column] = one
    values[:, 7:10] = voxel_positions(flat, Path(path))
    values[:, 10:13] = -flat.shifts / size
    values[:, 16:19] = to_motive_list(np.zeros((count, 3)) if flat.angles is None else flat.angles)
    write_em(Path(path), values[np.newaxis], overwrite=overwrite)
    return numbered.warnings


def _require_small(path: Path, number: Int64) -> None:
    if np.abs(number).max() > LARGEST_WHOLE:
        raise InputError(
            f"number {int(np.abs(number).max())} of a particle is too large for a motive list, in float32",
            path=path,
            fix="write another format",
        )


def is_own_label(label: str) -> bool:
    """Whether a row was kept from a motive list."""
    number = label.removeprefix(_LABEL)
    return label.startswith(_LABEL) and number.isdecimal() and int(number) in _OTHERS
