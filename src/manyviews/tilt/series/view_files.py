"""What one angle or alignment file says about the views of a stack."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.geometry.euler import half_pixel_offset, move_image_origin
from manyviews.geometry.views import rotation_z
from manyviews.io.aretomo import aln_to_xf, read_aln
from manyviews.io.imod import read_angle_table, read_angles, xf_to_raw_to_aligned
from manyviews.io.imod_com import TiltCom, read_tilt_com
from manyviews.io.mrc import MrcStack
from manyviews.io.relion_tomo import read_tilt_series_star
from manyviews.tilt.series.alignment_table import read_alignment

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Views:
    """What an angle or alignment file says about the views of one stack.

    Attributes
    ----------
    source
        The file, or other words for where this comes from.
    tilts, sections, x_tilts
        ``(view,)`` degrees, section in the stack from 0, degrees.
    to_aligned
        Raw to aligned images with a vertical tilt axis, ``(view, 3, 3)`` in angstrom from the image's pixel
        ``n // 2``; None where the file holds angles only.
    axis_in_raw
        Direction of the tilt axis in the raw images, degrees, or None.
    names_sections
        Whether the file says which section each view is, so that some may be absent.
    is_complete
        Whether it holds the whole alignment: there is no room for an .xf.
    specimen_shift
        Where the origin of the tilt axis lies in the volume, ``(x, y, z)`` in angstrom from its middle.
    exclude
        Sections that the file leaves out, counted from 1.
    thickness
        Thickness that it was made for, in pixels of the stack, or None.
    numbering, other_sections
        How the sections were read, in words, and other readings that would be possible.
    acquisition_order, dose
        ``(view,)`` each, or None.
    warnings
        Sentences for the user.
    """

    source: str
    tilts: Float64
    sections: NDArray[np.int64]
    x_tilts: Float64
    to_aligned: Float64 | None = None
    axis_in_raw: float | None = None
    names_sections: bool = False
    is_complete: bool = False
    specimen_shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    exclude: tuple[int, ...] = ()
    thickness: int | None = None
    numbering: str = ""
    other_sections: tuple[tuple[str, NDArray[np.int64]], ...] = ()
    acquisition_order: NDArray[np.int64] | None = None
    dose: Float64 | None = None
    warnings: tuple[str, ...] = ()

    @property
    def is_from_com(self) -> bool:
        """A tilt.com speaks of aligned images and leaves room for an .xf."""
        return self.to_aligned is not None and not self.is_complete


def angles_only(source: str, tilts: Float64) -> Views:
    """Views in the order of the sections, of which only the tilts are known."""
    return Views(source, tilts, np.arange(len(tilts), dtype=np.int64), np.zeros(len(tilts)))


def read_views(path: Path, stack: MrcStack, pixel_size: float) -> Views:
    """Read an angle or alignment file by its suffix: .aln, .star, .com, else a list of angles.

    Raises
    ------
    InputError
        If the file is damaged or was made for another stack. ``pixel_size`` is that of the stack, angstrom.
    """
    readers = {
        ".aln": _read_aln_views,
        ".csv": _read_alignment_views,
        ".star": _read_star_views,
        ".com": _read_com_views,
    }
    reader = readers.get(path.suffix.lower())
    return read_angle_views(path) if reader is None else reader(path, stack, pixel_size)


def read_angle_views(path: Path) -> Views:
    """Read a list of angles, with order of acquisition and dose where it has them."""
    table = read_angle_table(path)
    views = angles_only(str(path), table.tilt_degrees)
    return replace(views, acquisition_order=table.acquisition_order, dose=table.dose)


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
        names_sections=True,
        is_complete=True,
        numbering=alignment.numbering,
        other_sections=alignment.other_sections,
        warnings=(warning,) if alignment.has_local_alignment else (),
    )


def _read_star_views(path: Path, stack: MrcStack, pixel_size: float) -> Views:
    series = read_tilt_series_star(path)
    return Views(
        source=str(path),
        tilts=series.y_tilt,
        sections=series.sections,
        x_tilts=series.x_tilt,
        to_aligned=_to_aligned(series.z_rotation, series.shifts),
        axis_in_raw=float(np.median(series.z_rotation)),
        names_sections=series.names_sections,
        is_complete=True,
    )


def _to_aligned(rotations: Float64, shifts: Float64) -> Float64:
    """``(view, 3, 3)`` from the rotations and shifts ``(view, 2)`` that make raw images of aligned ones."""
    to_raw = np.tile(np.eye(3), (len(rotations), 1, 1))
    for matrix, degrees, shift in zip(to_raw, rotations, shifts, strict=True):
        matrix[:2, :2] = rotation_z(float(degrees))[:2, :2]
        matrix[:2, 2] = shift
    return np.asarray(np.linalg.inv(to_raw), dtype=np.float64)


def _read_alignment_views(path: Path, stack: MrcStack, pixel_size: float) -> Views:
    found = read_alignment(path, stack.path)
    return Views(
        source=str(path),
        tilts=found.tilts,
        sections=found.sections,
        x_tilts=found.x_tilts,
        to_aligned=_to_aligned(found.rotations, found.shifts),
        axis_in_raw=float(np.median(found.rotations)),
        names_sections=True,
        is_complete=True,
        exclude=tuple(int(section) + 1 for section in found.sections[~found.used]),
    )


def _read_com_views(path: Path, stack: MrcStack, pixel_size: float) -> Views:
    com = read_tilt_com(path)
    shape = stack.shape[1], stack.shape[2]
    _check_full_image(com, shape, path)
    if com.tilt_file is not None and com.tilt_degrees:
        raise InputError("has TILTFILE and ANGLES", path=path, fix="leave one of the two out, as for IMOD")
    if com.tilt_file is None and not com.tilt_degrees:
        raise InputError("names no TILTFILE", path=path, fix="give the angle file itself")
    tilts = np.array(com.tilt_degrees) if com.tilt_file is None else read_angles(com.tilt_file)
    tilts = tilts + com.tilt_offset
    x_tilts = np.full(len(tilts), -com.x_axis_tilt)  # IMOD turns the specimen back by XAXISTILT
    if com.x_tilt_file is not None:
        x_tilts += matching_lines(read_angles(com.x_tilt_file), com.x_tilt_file, len(tilts))
    only = set(com.include)
    exclude = tuple(n for n in range(1, len(tilts) + 1) if n not in only) if only else com.exclude
    if only and max(only) > len(tilts):
        raise InputError(f"INCLUDE names section {max(only)} of {len(tilts)}", path=path, fix="correct it")
    to_aligned = np.tile(np.eye(3), (len(tilts), 1, 1))
    to_aligned[:, :2, 2] = -np.array(com.axis_shift(shape)) * pixel_size
    x, y, z = com.specimen_shift(shape)
    return Views(
        source=str(path),
        tilts=tilts,
        sections=np.arange(len(tilts), dtype=np.int64),
        x_tilts=x_tilts,
        to_aligned=move_image_origin(to_aligned, half_pixel_offset(shape) * pixel_size),
        specimen_shift=(x * pixel_size, y * pixel_size, z * pixel_size),
        exclude=exclude,
        thickness=None if com.thickness is None else max(1, com.thickness // com.image_binned),
        warnings=tuple(f"{path}: {name} is not followed" for name in com.not_followed),
    )


def _check_full_image(com: TiltCom, image_shape: tuple[int, int], path: Path) -> None:
    """Images that are FULLIMAGE scaled were binned by another factor than IMAGEBINNED says."""
    full_x, full_y = com.full_size(image_shape)
    rows, columns = image_shape
    ratio_x, ratio_y = full_x / columns, full_y / rows
    scaled = abs(ratio_x / ratio_y - 1) < 0.02 and not 0.67 < ratio_x < 1.5
    if scaled and com.subset_start == (0, 0):
        raise InputError(
            f"was made for images of {full_x} x {full_y} but these are {columns} x {rows},"
            f" {'smaller' if ratio_x > 1 else 'larger'} by a factor of {max(ratio_x, 1 / ratio_x):.3g}",
            path=path,
            fix="correct IMAGEBINNED, or SUBSETSTART if the images are a part",
        )


def matching_lines(rows: Float64, path: Path, count: int, left: NDArray[np.int64] | None = None) -> Float64:
    """``rows`` if there is one for each of ``count`` sections; else an `InputError`.

    A row for each of the sections ``left``, where some are left out, will do as well: the others are filled
    up with rows that are not used.
    """
    if left is not None and len(rows) == len(left) < count:
        places = np.searchsorted(left, np.arange(count)).clip(max=len(left) - 1)
        filled: Float64 = rows[places]
        return filled
    if len(rows) != count:
        fix = "give one line for each section, or pick lines of a shift file with FILE:FIRST-LAST"
        raise InputError(f"holds {len(rows)} lines but there are {count} sections", path=path, fix=fix)
    return rows
