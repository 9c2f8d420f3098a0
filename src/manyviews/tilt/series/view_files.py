"""What one angle or alignment file says about the views of a stack."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.geometry.views import rotation_z
from manyviews.io.aretomo import aln_to_xf, read_aln
from manyviews.io.imod import read_angles, read_tilt_com, xf_to_raw_to_aligned
from manyviews.io.mrc import MrcStack
from manyviews.io.relion_tomo import read_tilt_series_star

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Views:
    """What an angle or alignment file says about the views of one stack.

    ``to_aligned`` maps raw to aligned images with a vertical tilt axis, ``(view, 3, 3)`` in angstrom from the
    image's pixel ``n // 2``; None where the file holds angles only.
    """

    source: str
    tilts: Float64
    sections: NDArray[np.int64]
    x_tilts: Float64
    to_aligned: Float64 | None = None
    axis_in_raw: float | None = None
    exclude: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()
    is_complete: bool = False

    @property
    def is_from_com(self) -> bool:
        """A tilt.com speaks of aligned images and leaves room for an .xf."""
        return self.to_aligned is not None and not self.is_complete


def angles_only(source: str, tilts: Float64) -> Views:
    """Views in the order of the sections, of which only the tilts are known."""
    return Views(source, tilts, np.arange(len(tilts), dtype=np.int64), np.zeros(len(tilts)))


def read_views(path: Path, stack: MrcStack, pixel_size: float) -> Views:
    """Read an angle or alignment file by its suffix: .aln, .star, .com, else angles one a line.

    Raises
    ------
    InputError
        If the file is damaged or was made for another stack. ``pixel_size`` is that of the stack, angstrom.
    """
    readers = {".aln": _read_aln_views, ".star": _read_star_views, ".com": _read_com_views}
    reader = readers.get(path.suffix.lower())
    return angles_only(str(path), read_angles(path)) if reader is None else reader(path, stack, pixel_size)


def _read_aln_views(path: Path, stack: MrcStack, pixel_size: float) -> Views:
    alignment = read_aln(path)
    if alignment.raw_shape is not None and alignment.raw_shape != stack.shape:
        sections, rows, columns = alignment.raw_shape
        raise InputError(
            f"was made for {sections} images of {columns} x {rows} but {stack.path} has"
            f" {stack.shape[0]} of {stack.shape[2]} x {stack.shape[1]}",
            path=path,
            fix="give the raw stack that AreTomo aligned",
        )
    warning = f"{path}: the local alignment is not used"
    return Views(
        source=str(path),
        tilts=alignment.tilt_degrees,
        sections=alignment.sections,
        x_tilts=np.zeros(len(alignment.sections)),
        to_aligned=xf_to_raw_to_aligned(aln_to_xf(alignment), pixel_size, stack.shape[1:]),
        axis_in_raw=float(np.median(alignment.rotation_degrees)),
        warnings=(warning,) if alignment.has_local_alignment else (),
        is_complete=True,
    )


def _read_star_views(path: Path, stack: MrcStack, pixel_size: float) -> Views:
    series = read_tilt_series_star(path)
    to_raw = np.tile(np.eye(3), (len(series.y_tilt), 1, 1))
    for matrix, degrees, shift in zip(to_raw, series.z_rotation, series.shifts, strict=True):
        matrix[:2, :2] = rotation_z(float(degrees))[:2, :2]
        matrix[:2, 2] = shift
    to_aligned = np.asarray(np.linalg.inv(to_raw), dtype=np.float64)
    return Views(
        source=str(path),
        tilts=series.y_tilt,
        sections=series.sections,
        x_tilts=series.x_tilt,
        to_aligned=to_aligned,
        axis_in_raw=float(np.median(series.z_rotation)),
        is_complete=True,
    )


def _read_com_views(path: Path, stack: MrcStack, pixel_size: float) -> Views:
    com = read_tilt_com(path)
    if com.tilt_file is None:
        raise InputError("names no TILTFILE", path=path, fix="give the angle file itself")
    tilts = read_angles(com.tilt_file) + com.tilt_offset
    x_tilts = np.full(len(tilts), com.x_axis_tilt)
    if com.x_tilt_file is not None:
        x_tilts += matching_lines(read_angles(com.x_tilt_file), com.x_tilt_file, len(tilts))
    ignored = [*com.unsupported]
    ignored += ["SHIFT"] if com.shift != (0.0, 0.0) else []
    ignored += ["axis displacement in OFFSET"] if com.axis_offset else []
    identity = np.tile([1.0, 0, 0, 1, 0, 0], (len(tilts), 1))
    return Views(
        source=str(path),
        tilts=tilts,
        sections=np.arange(len(tilts), dtype=np.int64),
        x_tilts=x_tilts,
        to_aligned=xf_to_raw_to_aligned(identity, pixel_size, stack.shape[1:]),
        exclude=com.exclude,
        warnings=tuple(f"{path}: {name} is not followed" for name in ignored),
    )


def matching_lines(rows: Float64, path: Path, count: int) -> Float64:
    """``rows`` if there is one for each of ``count`` sections; else an `InputError`."""
    if len(rows) != count:
        fix = "give one line for each section, or pick lines of a shift file with FILE:FIRST-LAST"
        raise InputError(f"holds {len(rows)} lines but there are {count} sections", path=path, fix=fix)
    return rows
