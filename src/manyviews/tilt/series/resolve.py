"""From options to views: which stacks, how each image looks at the specimen, where every number came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.geometry.euler import half_pixel_offset, in_plane_turn, move_image_origin, rotation_zyx
from manyviews.geometry.views import TiltGeometry, rotation_z
from manyviews.io.imod import read_angles, read_xf, xf_to_raw_to_aligned
from manyviews.io.mrc import MrcStack
from manyviews.io.text import read_shifts
from manyviews.options import check_options
from manyviews.tilt.options import SeriesOptions
from manyviews.tilt.series.angles import check_tilts, settle_views
from manyviews.tilt.series.axis import settle_axis_angle
from manyviews.tilt.series.choices import Choice, Notes
from manyviews.tilt.series.field import settle_field
from manyviews.tilt.series.inputs import StackInputs, collect_inputs
from manyviews.tilt.series.sizes import common_image_shape, common_pixel_size
from manyviews.tilt.series.view_files import Views, matching_lines

Float64 = NDArray[np.float64]
_SAME_DEGREES = 0.05
_UPRIGHT_DEGREES = 10.0


@dataclass(frozen=True)
class ResolvedSeries:
    """Stacks, open for reading, and the geometry of every view that is used.

    Attributes
    ----------
    geometry
        All views, stack after stack, in the order of their sections or alignment lines; raw-image
        transforms and shifts are in the matrices, excluded views are left out.
    pixel_size, image_shape
        Angstrom, and ``(rows, columns)`` of every image, as stored.
    field_shape
        ``(rows, columns)`` of the field of view over the specimen, in pixels of the images.
    thickness
        What the alignment of the first stack was made for, in pixels of the images; None if it does not say.
    choices
        Every value settled, with its source.
    excluded
        For each stack the sections left out, from 0.
    warnings
        Sentences for the user.
    """

    stacks: tuple[MrcStack, ...]
    geometry: TiltGeometry
    pixel_size: float
    image_shape: tuple[int, int]
    field_shape: tuple[int, int]
    thickness: int | None
    choices: tuple[Choice, ...]
    excluded: tuple[tuple[int, ...], ...]
    warnings: tuple[str, ...]

    def sources(self, field: str) -> dict[int, str]:
        """Where the value of a field is from, by stack."""
        return {choice.stack: choice.source for choice in self.choices if choice.field == field}


def resolve_series(options: SeriesOptions) -> ResolvedSeries:
    """Open the stacks and settle the geometry of every view.

    Who is believed stands in `manyviews.tilt.series.angles`, ``axis`` and ``sizes``; an option always comes
    first, and what was overruled is in ``choices``.

    An .aln, .star or tilt.com given as angle file speaks of aligned images with a vertical axis;
    ``axis_angle`` then says where that axis lies in the common specimen, which several such series need.
    With ``transform`` it is the direction of the axis in the transformed images.

    Raises
    ------
    InputError
        If files are missing, damaged, do not fit each other, or leave something undetermined.
    """
    check_options(options)
    if not options.stacks:
        raise InputError("no stack was given", fix="name one MRC file for each tilt axis")
    notes = Notes()
    inputs = collect_inputs(options, notes)
    pixel_size = common_pixel_size(inputs, options.pixel_size, notes)
    shape = common_image_shape(inputs)
    parts, left_out, thicknesses = [], [], []
    for item in inputs:
        views = settle_views(item, pixel_size, notes)
        geometry = _geometry_of(item, views, pixel_size, notes)
        excluded = item.excluded | {section - 1 for section in views.exclude}
        geometry, gone = _leave_out(geometry, item.stack, excluded)
        parts.append(geometry)
        left_out.append(gone)
        thicknesses.append(views.thickness)
        _warn_about_alignment_beside(item, views, notes)
    if not options.axis_angle:
        _warn_about_parallel_axes(parts, notes)
    geometry = TiltGeometry.concatenate(parts)
    return ResolvedSeries(
        stacks=tuple(item.stack for item in inputs),
        geometry=geometry,
        pixel_size=pixel_size,
        image_shape=shape,
        field_shape=settle_field(geometry, shape, pixel_size, notes),
        thickness=thicknesses[0],
        choices=tuple(notes.choices),
        excluded=tuple(left_out),
        warnings=tuple(notes.warnings),
    )


def _geometry_of(item: StackInputs, views: Views, pixel_size: float, notes: Notes) -> TiltGeometry:
    """Views of one stack: ``P = T^-1 Rz(A) Ry(tilt) Rx(x tilt) Rz(-A) S(-c)``.

    T takes raw to aligned images, A is the axis angle, c where the origin of the axis lies in the volume.
    """
    axis = settle_axis_angle(item, views, notes)
    tilts = views.tilts + item.tilt_offset
    x_tilts = views.x_tilts + _x_tilts(item, views, notes)
    geometry = TiltGeometry.from_tilt_axis(tilts, axis, series=item.index)
    centre = rotation_z(axis) @ np.array(views.specimen_shift)
    for matrix, tilt, x_tilt in zip(geometry.matrices, tilts, x_tilts, strict=True):
        matrix[:3, :3] = rotation_zyx(float(x_tilt), float(tilt), axis) @ rotation_z(-axis)
        matrix[:3, 3] = -matrix[:3, :3] @ centre
    geometry = replace(geometry, sections=views.sections)
    return geometry.with_image_transform(_image_transform(item, views, pixel_size, axis, notes))


def _x_tilts(item: StackInputs, views: Views, notes: Notes) -> Float64:
    path = item.x_tilt
    if path is None:
        return np.zeros(len(views.tilts))
    if np.any(views.x_tilts):
        raise InputError(f"{views.source} has x tilts already", path=path, fix="leave one of the two out")
    angles: Float64 = _lines(read_angles(path), path, item, views)
    check_tilts(angles, str(path))
    notes.choices.append(Choice("x tilt", item.index, f"{angles.min():g} to {angles.max():g}", str(path)))
    return angles


def _turn_degrees(rows: Float64) -> float:
    """In-plane turn of .xf lines ``(view, 6)``, counter-clockwise."""
    return float(np.median(in_plane_turn(rows[:, :4].reshape(-1, 2, 2))))


def _lays_upright(rows: Float64, axis: float) -> bool:
    """Whether .xf lines turn images by just what an axis at that angle lacks to be vertical."""
    turn = _turn_degrees(rows)
    return abs(turn) > _UPRIGHT_DEGREES > abs((turn + axis + 90.0) % 180.0 - 90.0)


def _lines(rows: Float64, path: Path, item: StackInputs, views: Views) -> Float64:
    """The rows of a file that belong to the views."""
    return matching_lines(rows, path, item.sections, item.left)[views.sections]


def _image_transform(
    item: StackInputs, views: Views, pixel_size: float, axis: float, notes: Notes
) -> Float64:
    """Raw to aligned, ``(view, 3, 3)`` in angstrom: first the shifts, then the .xf, then the alignment."""
    to_aligned: Float64 = np.tile(np.eye(3), (len(views.tilts), 1, 1))
    if views.to_aligned is not None:
        to_aligned[:, :2, :2] = rotation_z(axis)[:2, :2]
        to_aligned = to_aligned @ views.to_aligned
    if item.transform is not None:
        if views.is_complete:
            raise InputError(
                f"{views.source} has transforms already", path=item.transform, fix="leave one of the two out"
            )
        rows = _lines(read_xf(item.transform), item.transform, item, views)
        if not views.is_from_com and _lays_upright(rows, axis):
            to_aligned[:, :2, :2] = rotation_z(axis)[:2, :2]
            notes.warn(
                f"{item.transform} turns the images by {_turn_degrees(rows):.1f} degrees, so that an axis at"
                f" {axis:g} in the raw images stands upright: --axis-angle {axis:g} is taken to say where it"
                " lies in the volume"
            )
        if views.is_from_com:  # the half pixel to IMOD's centre comes with the .xf
            offset = -half_pixel_offset(item.image_shape) * pixel_size
            to_aligned = move_image_origin(to_aligned, offset)
        to_aligned = to_aligned @ xf_to_raw_to_aligned(rows, pixel_size, item.image_shape)
        notes.choices.append(Choice("transform", item.index, f"{len(rows)} transforms", str(item.transform)))
    if item.shifts is not None:
        shifts = _lines(read_shifts(item.shifts), item.shifts, item, views)
        to_aligned[:, :2, 2] += np.einsum("vij,vj->vi", to_aligned[:, :2, :2], shifts * pixel_size)
        largest = np.abs(shifts).max()
        notes.choices.append(Choice("shifts", item.index, f"up to {largest:g} pixels", str(item.shifts)))
    return to_aligned


def _leave_out(
    geometry: TiltGeometry, stack: MrcStack, excluded: frozenset[int]
) -> tuple[TiltGeometry, tuple[int, ...]]:
    if excluded and max(excluded) >= stack.shape[0]:
        raise InputError(
            f"section {max(excluded) + 1} is to be left out but there are {stack.shape[0]}",
            path=stack.path,
            fix="count sections from 1",
        )
    kept = geometry.select(~np.isin(geometry.sections, sorted(excluded)))
    if len(kept) == 0:
        raise InputError("every view is left out", path=stack.path, fix="exclude fewer views")
    gone = set(range(stack.shape[0])) - set(kept.sections.tolist())
    return kept, tuple(sorted(gone))


def _warn_about_alignment_beside(item: StackInputs, views: Views, notes: Notes) -> None:
    """Raw images that are taken as they are, although a file beside them would align them."""
    settled = item.transform is not None or item.shifts is not None or views.is_complete
    if settled or item.is_named_aligned:
        return
    for suffix, option in ((".xf", "--transform"), (".aln", "--tilt-angles")):
        path = item.beside(suffix)
        if path is not None and not (suffix == ".xf" and _moves_nothing(path)):
            notes.warn(
                f"{item.stack.path}: {path.name} beside it aligns raw images and is not used: if these are"
                f" raw, give {option} {path}"
            )


def _moves_nothing(path: Path) -> bool:
    try:
        return np.allclose(read_xf(path), np.array([1.0, 0.0, 0.0, 1.0, 0.0, 0.0]))
    except InputError:
        return False


def _warn_about_parallel_axes(parts: Sequence[TiltGeometry], notes: Notes) -> None:
    axes = [float(part.axis_degrees[0]) for part in parts]
    if len(parts) > 1 and np.ptp(axes) < _SAME_DEGREES:
        notes.warnings.append(
            f"all {len(parts)} stacks are taken to be tilted about the same axis ({axes[0]:g} degrees);"
            " give --axis-angle for each if they are not"
        )
