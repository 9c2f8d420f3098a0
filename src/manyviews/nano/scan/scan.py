"""A scan, open for reading: which views, their angles, flats and darks, and how the images lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.frames import Frames, Int64, ScanFile, Selection
from manyviews.io.scan_formats import read_field, read_scan_file
from manyviews.nano.scan.angles import choose_angles, returning_views
from manyviews.nano.scan.axis import choose_axis
from manyviews.nano.scan.options import ScanOptions
from manyviews.nano.scan.views import listed, parse_views

Float64 = NDArray[np.float64]

FEWEST_VIEWS = 3


@dataclass(frozen=True)
class Turned:
    """Images turned by a quarter, so that a horizontal rotation axis is vertical: rows are along it.

    The last column as stored is the first row; the hand of the specimen stays.
    """

    frames: Frames

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(frame, row, column)`` as turned."""
        count, rows, columns = self.frames.shape
        return count, columns, rows

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the numbers."""
        return self.frames.dtype

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold them."""
        return self.frames.files

    def read(self, frames: Int64, rows: slice) -> NDArray[Any]:
        """Rows of the given frames ``(k, row, column)``; `InputError` where they cannot be read."""
        stored = self.frames.read(frames, slice(0, self.frames.shape[1]))
        return stored[:, :, ::-1].transpose(0, 2, 1)[:, rows]


@dataclass(frozen=True)
class Scan:
    """What is read of a scan, and what is known of it.

    Attributes
    ----------
    path, kind
        What was given, and its format in words.
    projections
        Images ``(view, row, column)`` as stored, the axis along their columns, without the excluded views.
    theta_degrees
        ``(view,)`` in the order of acquisition.
    views
        ``(view,)`` the places, from 0, of the views among all projections of the scan.
    is_return
        ``(view,)`` whether a view repeats an earlier one at the end, to show what had moved.
    flats, darks
        Images of the same size, or None.
    pixel_size_nm
        As stored, or None.
    axis
        ``vertical`` or ``horizontal``, as stored.
    notes, warnings
        What was taken from where; what the user should look at.
    """

    path: Path
    kind: str
    projections: Frames
    theta_degrees: Float64
    views: Int64
    is_return: NDArray[np.bool_]
    flats: Frames | None
    darks: Frames | None
    pixel_size_nm: float | None
    axis: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(view, row, column)``."""
        return self.projections.shape

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that hold images of it."""
        parts = (self.projections, self.flats, self.darks)
        return tuple(dict.fromkeys(path for part in parts if part is not None for path in part.files))


def open_scan(path: Path, options: ScanOptions) -> Scan:
    """Open a scan of any format with what the options say of it; hardly any image is read.

    Raises
    ------
    InputError
        If it cannot be read, its parts do not fit together, or angles are missing.
    """
    file = read_scan_file(Path(path))
    angles = choose_angles(file, options)
    flats = _field(options.flats, file.flats, file, "--flats")
    darks = _field(options.darks, file.darks, file, "--darks")
    axis, told = choose_axis(file, options.axis)
    excluded = parse_views(options.exclude, file.projections.shape[0], "--exclude")
    kept = np.setdiff1d(np.arange(file.projections.shape[0]), excluded)
    if len(kept) < FEWEST_VIEWS:
        raise InputError(
            f"{len(kept)} views are too few",
            path=file.path,
            fix=f"give a scan of {FEWEST_VIEWS} views or more",
        )
    is_return = file.is_return if file.is_return is not None else returning_views(angles.theta_degrees)
    pixel_size, source = file.pixel_size_nm, file.pixel_size_source
    if options.pixel_size_nm is not None:
        pixel_size, source = options.pixel_size_nm, "--pixel-size-nm"
    notes = [*file.notes, *angles.notes, told]
    if pixel_size is not None:
        notes.append(f"pixel size: {pixel_size:.6g} nm, from {source}")
    if len(excluded):
        notes.append(f"left out: views {listed(excluded)}")
    return Scan(
        path=file.path,
        kind=file.kind,
        projections=_upright(file.projections.without(excluded), axis),
        theta_degrees=angles.theta_degrees[kept],
        views=kept,
        is_return=is_return[kept],
        flats=None if flats is None else _upright(flats, axis),
        darks=None if darks is None else _upright(darks, axis),
        pixel_size_nm=pixel_size,
        axis=axis,
        notes=tuple(note for note in notes if note),
        warnings=(*file.warnings, *angles.warnings, *_angle_warnings(angles.theta_degrees[kept])),
    )


def _upright(images: Selection, axis: str) -> Frames:
    return Turned(images) if axis == "horizontal" else images


def _field(given: tuple[Path, ...], own: Selection | None, file: ScanFile, where: str) -> Selection | None:
    """Flats or darks: those that were given, else those of the scan; of the size of its images."""
    found = read_field(given) if given else own
    if found is not None and found.shape[1:] != file.projections.shape[1:]:
        (rows, columns), (right_rows, right_columns) = found.shape[1:], file.projections.shape[1:]
        raise InputError(
            f"the {where.strip('-')} are {columns} x {rows} pixels, the projections {right_columns} x"
            f" {right_rows}",
            path=found.files[0],
            fix=f"give those of this scan with {where}",
        )
    return found


def _angle_warnings(theta: Float64) -> list[str]:
    low, high = float(theta.min()), float(theta.max())
    if low == high:
        raise InputError(
            f"all angles are {low:g}", where="angles", fix="give one angle a view with --angles FILE"
        )
    directions = np.unique(np.round(np.mod(theta, 180.0), 3))
    if len(directions) < FEWEST_VIEWS:
        return [f"the views show only {len(directions)} directions"]
    return []
