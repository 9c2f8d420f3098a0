"""From options to views: which stacks, how each image looks at the specimen, where every number came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.geometry.euler import half_pixel_offset, move_image_origin, rotation_zyx
from manyviews.geometry.views import TiltGeometry, rotation_z
from manyviews.io.imod import parse_section_list, read_angles, read_xf, xf_to_raw_to_aligned
from manyviews.io.mdoc import Mdoc, read_mdoc
from manyviews.io.mrc import MrcStack
from manyviews.io.text import read_shifts
from manyviews.options import check_options
from manyviews.tilt.options import SeriesOptions
from manyviews.tilt.series.view_files import Views, angles_only, matching_lines, read_views

Float64 = NDArray[np.float64]
_ANGLE_TOLERANCE = 0.05  # degrees; nominal angles are written with one or two decimals
_MISCOUNT_TOLERANCE = 0.9  # degrees; below the step of common tilt schemes
_PIXEL_TOLERANCE = 0.001  # relative


@dataclass(frozen=True)
class Choice:
    """One value that was settled, and what it was settled against.

    ``field`` is ``tilt angles``, ``axis angle`` (degrees), ``pixel size`` (angstrom), ...; stacks count from
    0; ``overruled`` are other sources that said something else, with what they said.
    """

    field: str
    stack: int
    value: str
    source: str
    overruled: tuple[str, ...] = ()


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
    choices: tuple[Choice, ...]
    excluded: tuple[tuple[int, ...], ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Inputs:
    """One stack with what the options give for it; ``index`` is its place among the stacks."""

    stack: MrcStack
    index: int
    tilt_file: Path | None
    axis_angle: float | None
    transform: Path | None
    shifts: Path | None
    x_tilt: Path | None
    tilt_offset: float
    mdoc_path: Path | None
    mdoc: Mdoc | None

    @property
    def sections(self) -> int:
        return self.stack.shape[0]

    @property
    def image_shape(self) -> tuple[int, int]:
        return self.stack.shape[1], self.stack.shape[2]


@dataclass
class _Notes:
    """Choices and warnings collected on the way."""

    choices: list[Choice] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def resolve_series(options: SeriesOptions) -> ResolvedSeries:
    """Open the stacks and settle the geometry of every view.

    The order of trust: an option; for pixel sizes then the header, then the .mdoc; for tilt angles then an
    .mdoc beside the stack, a .rawtlt beside it, its extended header; for the axis angle then the title of the
    .mdoc (raw images only), else 0. What was overruled is in ``choices``.

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
    notes = _Notes()
    inputs = _inputs(options)
    for item in inputs:
        notes.warnings += [f"{item.stack.path}: {text}" for text in item.stack.header.warnings]
    pixel_size = _common_pixel_size(inputs, options.pixel_size, notes)
    shape = _common_image_shape(inputs)
    excluded = _exclusions(options.exclude, len(inputs))
    parts, left_out = [], []
    for item, sections in zip(inputs, excluded, strict=True):
        views = _views_of(item, pixel_size, notes)
        geometry = _geometry_of(item, views, pixel_size, notes)
        geometry, gone = _leave_out(geometry, item.stack, sections | {s - 1 for s in views.exclude})
        parts.append(geometry)
        left_out.append(gone)
    if not options.axis_angle:
        _warn_about_parallel_axes(parts, notes)
    return ResolvedSeries(
        stacks=tuple(item.stack for item in inputs),
        geometry=TiltGeometry.concatenate(parts),
        pixel_size=pixel_size,
        image_shape=shape,
        choices=tuple(notes.choices),
        excluded=tuple(left_out),
        warnings=tuple(notes.warnings),
    )


def _inputs(options: SeriesOptions) -> list[_Inputs]:
    """Sort the options by stack."""
    count = len(options.stacks)
    tilt_files = _one_each(options.tilt_angles, count, "tilt_angles")
    transforms = _one_each(options.transform, count, "transform")
    shifts = _one_each(options.shifts, count, "shifts")
    x_tilts = _one_each(options.x_tilt, count, "x_tilt")
    axes = options.axis_angle * count if len(options.axis_angle) == 1 else options.axis_angle
    if axes and len(axes) != count:
        raise InputError(
            f"{len(axes)} angles were given for {count} stacks",
            where="option axis_angle",
            fix="give one angle for each stack, or one for all",
        )
    inputs = []
    for i, path in enumerate(options.stacks):
        if path in options.stacks[:i]:
            raise InputError("is given twice", path=path, fix="name each stack once")
        tilt_file = tilt_files[i]
        is_mdoc = tilt_file is not None and tilt_file.suffix.lower() == ".mdoc"
        mdoc_path = tilt_file if is_mdoc else _beside(path, ".mdoc")
        inputs.append(
            _Inputs(
                stack=MrcStack(path),
                index=i,
                tilt_file=tilt_file,
                axis_angle=axes[i] if axes else None,
                transform=transforms[i],
                shifts=shifts[i],
                x_tilt=x_tilts[i],
                tilt_offset=options.tilt_offset,
                mdoc_path=mdoc_path,
                mdoc=None if mdoc_path is None else read_mdoc(mdoc_path),
            )
        )
    return inputs


def _one_each(values: Sequence[Path], count: int, name: str) -> Sequence[Path | None]:
    """The files an option gives: none at all, or one for each stack."""
    if not values:
        return [None] * count
    if len(values) != count:
        raise InputError(
            f"{len(values)} files were given for {count} stacks",
            where=f"option {name}",
            fix="give one file for each stack, in the same order",
        )
    return values


def _beside(path: Path, suffix: str) -> Path | None:
    """``stack.mrc.mdoc`` or ``stack.mdoc`` beside ``stack.mrc``."""
    for candidate in (path.with_name(path.name + suffix), path.with_suffix(suffix)):
        if candidate.is_file():
            return candidate
    return None


# --- pixel and image size ---


def _common_pixel_size(inputs: Sequence[_Inputs], given: float | None, notes: _Notes) -> float:
    sizes = [_pixel_size(item, given, notes) for item in inputs]
    for item, size in zip(inputs, sizes, strict=True):
        if abs(size - sizes[0]) > _PIXEL_TOLERANCE * sizes[0]:
            raise InputError(
                f"the pixel size is {size:g} A but that of {inputs[0].stack.path} is {sizes[0]:g} A",
                path=item.stack.path,
                fix="bin or resample the stacks to one pixel size, or correct it with --pixel-size",
            )
    return sizes[0]


def _pixel_size(item: _Inputs, given: float | None, notes: _Notes) -> float:
    candidates: list[tuple[str, float]] = [] if given is None else [("option", given)]
    if item.stack.pixel_size is not None:
        x, y, _ = item.stack.pixel_size
        if abs(x - y) > _PIXEL_TOLERANCE * x and given is None:
            raise InputError(
                f"pixels are {x:g} A wide but {y:g} A high", path=item.stack.path, fix="give --pixel-size"
            )
        candidates.append(("header", x))
    if item.mdoc is not None and item.mdoc.pixel_size is not None:
        candidates.append((str(item.mdoc_path), item.mdoc.pixel_size))
    if not candidates:
        raise InputError(
            "no pixel size in header or .mdoc", path=item.stack.path, fix="give --pixel-size in angstrom"
        )
    source, value = candidates[0]
    others = [(s, v) for s, v in candidates[1:] if abs(v - value) > _PIXEL_TOLERANCE * value]
    overruled = tuple(f"{s}: {v:g}" for s, v in others)
    notes.choices.append(Choice("pixel size", item.index, f"{value:g}", source, overruled))
    return value


def _common_image_shape(inputs: Sequence[_Inputs]) -> tuple[int, int]:
    rows, columns = inputs[0].image_shape
    for item in inputs[1:]:
        if item.image_shape != (rows, columns):
            raise InputError(
                f"images are {item.image_shape[1]} x {item.image_shape[0]} but those of"
                f" {inputs[0].stack.path} are {columns} x {rows}",
                path=item.stack.path,
                fix="crop or pad the stacks to one size",
            )
    return rows, columns


# --- tilt angles ---


def _views_of(item: _Inputs, pixel_size: float, notes: _Notes) -> Views:
    """The views of one stack from the most trusted source; disagreement with the others is noted."""
    candidates: list[Views] = []
    if item.tilt_file is not None and item.tilt_file != item.mdoc_path:
        candidates.append(read_views(item.tilt_file, item.stack, pixel_size))
    if item.mdoc is not None:
        candidates.append(angles_only(str(item.mdoc_path), item.mdoc.tilt_degrees))
    rawtlt = _beside(item.stack.path, ".rawtlt")
    if rawtlt is not None and rawtlt != item.tilt_file:
        candidates.append(angles_only(str(rawtlt), read_angles(rawtlt)))
    if (angles := item.stack.header.tilt_angles()) is not None:
        candidates.append(angles_only("extended header", angles))
    if not candidates:
        raise InputError("no tilt angles", path=item.stack.path, fix="give --tilt-angles FILE")
    views = candidates[0]
    _check_views(views, item.stack)
    overruled = tuple(text for other in candidates[1:] if (text := _difference(views, other)))
    low, high = views.tilts.min(), views.tilts.max()
    text = f"{len(views.tilts)} angles from {low:g} to {high:g}"
    notes.choices.append(Choice("tilt angles", item.index, text, views.source, overruled))
    notes.warnings.extend(views.warnings)
    if views.is_complete:
        notes.warnings.extend(_numbering_warnings(views, candidates[1:]))
    return views


def _numbering_warnings(views: Views, others: Sequence[Views]) -> list[str]:
    """Aligned angles may differ from nominal ones by a constant; more means that sections are miscounted."""
    warnings = []
    for other in others:
        if len(other.tilts) > views.sections.max():
            difference = views.tilts - other.tilts[views.sections]
            if np.abs(difference - np.median(difference)).max() > _MISCOUNT_TOLERANCE:
                warnings.append(f"{views.source}: tilt angles do not follow those of {other.source}")
    return warnings


def _check_views(views: Views, stack: MrcStack) -> None:
    sections = stack.shape[0]
    if not views.is_complete and len(views.tilts) != sections:
        raise InputError(
            f"the stack has {sections} sections but {views.source} gives {len(views.tilts)} tilt angles",
            path=stack.path,
            fix="give the angle file of this stack",
        )
    if len(views.tilts) > sections or views.sections.max() >= sections:
        raise InputError(
            f"{views.source} speaks of section {views.sections.max() + 1} but the stack has {sections}",
            path=stack.path,
            fix="give the alignment of this stack",
        )


def _difference(used: Views, other: Views) -> str:
    """What another source says, if it differs; empty if it agrees."""
    if len(other.tilts) <= used.sections.max():
        return f"{other.source}: {len(other.tilts)} angles"
    difference = np.abs(other.tilts[used.sections] - used.tilts)
    if difference.max() <= _ANGLE_TOLERANCE:
        return ""
    return f"{other.source}: differs by up to {difference.max():.2f} degrees"


# --- geometry ---


def _geometry_of(item: _Inputs, views: Views, pixel_size: float, notes: _Notes) -> TiltGeometry:
    """Views of one stack: ``P = T^-1 Rz(A) Ry(tilt) Rx(x tilt) Rz(-A)``, T from raw to aligned images."""
    axis = _axis_angle(item, views, notes)
    tilts = views.tilts + item.tilt_offset
    _check_tilts(tilts, views.source)
    x_tilts = views.x_tilts + _x_tilts(item, views, notes)
    geometry = TiltGeometry.from_tilt_axis(tilts, axis, series=item.index)
    for matrix, tilt, x_tilt in zip(geometry.matrices, tilts, x_tilts, strict=True):
        matrix[:3, :3] = rotation_zyx(float(x_tilt), float(tilt), axis) @ rotation_z(-axis)
    geometry = replace(geometry, sections=views.sections)
    return geometry.with_image_transform(_image_transform(item, views, pixel_size, axis, notes))


def _check_tilts(tilts: Float64, source: str) -> None:
    if not np.isfinite(tilts).all():
        raise InputError(
            "a tilt angle is not a finite number", path=source, fix="correct the angle or the offset"
        )
    if np.abs(tilts).max() > 90:
        bad = tilts[int(np.argmax(np.abs(tilts)))]
        raise InputError(
            f"a tilt angle of {bad:g} degrees is beyond +-90",
            path=source,
            fix="give tilt angles in degrees, one a line",
        )


def _axis_angle(item: _Inputs, views: Views, notes: _Notes) -> float:
    """Direction of the tilt axis in the aligned image, degrees counter-clockwise from +y."""
    candidates: list[tuple[str, float]] = []
    if item.axis_angle is not None:
        candidates.append(("option", float(item.axis_angle)))
    if aligned_by := _aligned_by(item, views):
        candidates.append((f"vertical in aligned images ({aligned_by})", 0.0))
    if item.mdoc is not None and item.mdoc.axis_degrees is not None:
        candidates.append((f"{item.mdoc_path} (raw images)", item.mdoc.axis_degrees))
    if views.axis_in_raw is not None:
        candidates.append((f"{views.source} (raw images)", views.axis_in_raw))
    source, value = candidates[0] if candidates else ("default", 0.0)
    if not np.isfinite(value):
        raise InputError(
            "the axis angle is not a finite number", where="option axis_angle", fix="give degrees"
        )
    overruled = tuple(f"{s}: {v:g}" for s, v in candidates[1:] if abs(v - value) > _ANGLE_TOLERANCE)
    notes.choices.append(Choice("axis angle", item.index, f"{value:g}", source, overruled))
    return value


def _aligned_by(item: _Inputs, views: Views) -> str:
    """What says that the tilt axis is vertical in the aligned images; empty for raw images."""
    if item.transform is not None:
        return str(item.transform)
    if views.to_aligned is not None:
        return views.source
    # newstack leaves this title in stacks that it transformed; such a stack must not be turned again.
    path = item.stack.path
    if path.suffix.lower() == ".ali" or path.stem.endswith("_ali"):
        return "the stack's name"
    if any("NEWSTACK" in label and "transformed" in label for label in item.stack.header.labels):
        return "title in the header"
    return ""


def _x_tilts(item: _Inputs, views: Views, notes: _Notes) -> Float64:
    path = item.x_tilt
    if path is None:
        return np.zeros(len(views.tilts))
    if np.any(views.x_tilts):
        raise InputError(f"{views.source} has x tilts already", path=path, fix="leave one of the two out")
    angles: Float64 = matching_lines(read_angles(path), path, item.sections)[views.sections]
    _check_tilts(angles, str(path))
    notes.choices.append(Choice("x tilt", item.index, f"{angles.min():g} to {angles.max():g}", str(path)))
    return angles


def _image_transform(item: _Inputs, views: Views, pixel_size: float, axis: float, notes: _Notes) -> Float64:
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
        rows = matching_lines(read_xf(item.transform), item.transform, item.sections)[views.sections]
        if views.is_from_com:  # the half pixel to IMOD's centre comes with the .xf
            offset = -half_pixel_offset(item.image_shape) * pixel_size
            to_aligned = move_image_origin(to_aligned, offset)
        to_aligned = to_aligned @ xf_to_raw_to_aligned(rows, pixel_size, item.image_shape)
        notes.choices.append(Choice("transform", item.index, f"{len(rows)} transforms", str(item.transform)))
    if item.shifts is not None:
        shifts = matching_lines(read_shifts(item.shifts), item.shifts, item.sections)[views.sections]
        to_aligned[:, :2, 2] += np.einsum("vij,vj->vi", to_aligned[:, :2, :2], shifts * pixel_size)
        largest = np.abs(shifts).max()
        notes.choices.append(Choice("shifts", item.index, f"up to {largest:g} pixels", str(item.shifts)))
    return to_aligned


# --- exclusion ---


def _exclusions(texts: Sequence[str], count: int) -> list[set[int]]:
    """Sections to leave out of each stack, from 0."""
    where = "option exclude"
    excluded: list[set[int]] = [set() for _ in range(count)]
    for text in texts:
        prefix, colon, sections = text.rpartition(":")
        if not colon and count > 1:
            raise InputError(
                f"{text!r} does not say which of the {count} stacks is meant",
                where=where,
                fix="write 2:1,4-6",
            )
        number = prefix.strip() if colon else "1"
        if not (number.isascii() and number.isdigit() and 1 <= int(number[:9]) <= count):
            raise InputError(f"{text!r} names stack {number!r} of {count}", where=where, fix="count from 1")
        excluded[int(number) - 1] |= {n - 1 for n in parse_section_list(sections, where=where)}
    return excluded


def _leave_out(
    geometry: TiltGeometry, stack: MrcStack, excluded: set[int]
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


def _warn_about_parallel_axes(parts: Sequence[TiltGeometry], notes: _Notes) -> None:
    axes = [float(part.axis_degrees[0]) for part in parts]
    if len(parts) > 1 and np.ptp(axes) < _ANGLE_TOLERANCE:
        notes.warnings.append(
            f"all {len(parts)} stacks are taken to be tilted about the same axis ({axes[0]:g} degrees);"
            " give --axis-angle for each if they are not"
        )
