"""Which source of tilt angles is believed, and which section of the stack each angle belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.tilt.series.choices import Choice, Notes
from manyviews.tilt.series.image_order import sorted_sections_are_likelier
from manyviews.tilt.series.inputs import StackInputs, read_if_possible
from manyviews.tilt.series.view_files import Views, angles_only, read_angle_views, read_views

Float64 = NDArray[np.float64]
_SAME_DEGREES = 0.05  # nominal angles are written with one or two decimals
_REPORTED_DEGREES = 1.0
_MISCOUNT_DEGREES = 0.9  # below the step of common tilt schemes
_FULL_TURN = 180.0
# So many angles or more over such a range, none of them beyond that, are radians.
_FEWEST_RADIANS, _RANGE_OF_RADIANS, _LARGEST_RADIAN = 10, 1.0, 1.6


def settle_views(item: StackInputs, pixel_size: float, notes: Notes) -> Views:
    """The views of one stack from the most trusted source that fits; the others are compared with it.

    An option comes first. Else, for a stack that is not aligned: the .mdoc, a .rawtlt, a .tlt beside it, its
    extended header; for an aligned one .tlt and .rawtlt before the .mdoc. Angles that neither rise nor fall
    give way to others that fit. Files beside the stack that cannot be read cost a warning.

    Raises
    ------
    InputError
        If nothing gives an angle for every section.
    """
    given = _given(item, pixel_size)
    others, errors = _beside(item)
    if given is None:
        views = _most_trusted(item, others, errors)
        others = [other for other in others if other is not views]
        views = _in_order_of_images(item, views, others, notes)
    else:
        views = _in_best_numbering(item, given, others, notes)
    for error in errors:
        notes.warn(f"{error.problem}; its angles are not used")
    _check_sections(views, item)
    _check_angles(views, item)
    _compare(item, views, others, notes)
    notes.warnings.extend(views.warnings)
    return views


def _given(item: StackInputs, pixel_size: float) -> Views | None:
    """What the option names, if it names a file."""
    if item.tilt_file is None:
        return None
    if item.tilt_file == item.mdoc_path:
        assert item.mdoc is not None  # an .mdoc that was asked for and cannot be read is an error before
        return _mdoc_views(item)
    return _spread(read_views(item.tilt_file, item.stack, pixel_size), item)


def _mdoc_views(item: StackInputs) -> Views:
    """Angles of the .mdoc; its numbering is forgiven where there are as many entries as sections."""
    assert item.mdoc is not None
    path, mdoc = item.mdoc_path, item.mdoc
    views = _spread(angles_only(str(path), mdoc.tilt_degrees), item)
    if not mdoc.fault:
        return views
    if len(views.tilts) != item.sections:
        raise InputError(
            mdoc.fault, path=path, fix="number the sections from 0 without gaps, or give --tilt-angles"
        )
    text = f"{path}: {mdoc.fault}; its {len(views.tilts)} entries are taken to be the sections in that order"
    return replace(views, warnings=(text,))


def _beside(item: StackInputs) -> tuple[list[Views], list[InputError]]:
    """Other sources that fit the stack, the most trusted first, and what is wrong with those that do not."""
    found: list[Views] = []
    errors: list[InputError] = [] if item.mdoc_error is None else [item.mdoc_error]
    lists, mdoc = _lists(item, errors), _mdoc_beside(item, errors)
    ordered = [*lists, *mdoc] if item.is_named_aligned else [*mdoc, *lists]
    if (angles := item.stack.header.tilt_angles()) is not None:
        ordered.append(angles_only("extended header", angles))
    for views in ordered:
        if views.names_sections or len(views.tilts) == item.sections:
            found.append(views)
        else:
            errors.append(_wrong_number(views, item))
    if item.tilt_file is not None and item.tilt_file.suffix.lower() == ".com":
        # the .tlt that a tilt.com names is the same list once more
        found = [views for views in found if not views.source.endswith(".tlt")]
    return found, errors


def _mdoc_beside(item: StackInputs, errors: list[InputError]) -> list[Views]:
    if item.mdoc is None or item.tilt_file == item.mdoc_path:
        return []
    try:
        return [_mdoc_views(item)]
    except InputError as error:
        errors.append(error)
        return []


def _lists(item: StackInputs, errors: list[InputError]) -> list[Views]:
    """Lists of angles named after the stack; IMOD's .tlt holds the refined ones, .rawtlt the nominal."""
    found = []
    suffixes = (".tlt", ".rawtlt") if item.is_named_aligned else (".rawtlt", ".tlt")
    for path in map(item.beside, suffixes):
        if path is None or path == item.tilt_file:
            continue
        views, error = read_if_possible(read_angle_views, path)
        if views is not None:
            found.append(_spread(views, item))
        elif error is not None:
            errors.append(error)
    return found


def _spread(views: Views, item: StackInputs) -> Views:
    """Angles for the sections alone that are not excluded, dealt to these sections."""
    left = item.left
    if views.names_sections or not len(views.tilts) == len(left) < item.sections:
        return views
    text = f"{views.source}: its {len(left)} views are taken to be the sections that --exclude leaves"
    return replace(views, sections=left, names_sections=True, warnings=(*views.warnings, text))


def _most_trusted(item: StackInputs, found: Sequence[Views], errors: list[InputError]) -> Views:
    if not found:
        if errors:
            raise errors.pop(0)
        raise InputError(
            "no tilt angles: no .mdoc, .rawtlt or .tlt of that name, none in the extended header",
            path=item.stack.path,
            fix="give --tilt-angles FILE",
        )
    first = found[0]
    if _is_monotonic(first.tilts):
        return first
    return next((views for views in found[1:] if _is_monotonic(views.tilts)), first)


def _is_monotonic(tilts: Float64) -> bool:
    steps = np.diff(tilts)
    return bool((steps >= 0).all() or (steps <= 0).all())


def _in_order_of_images(item: StackInputs, views: Views, others: Sequence[Views], notes: Notes) -> Views:
    """Angles of an .mdoc in the order of acquisition, for a stack that was sorted afterwards."""
    agreed = any(_largest_difference(views, other) <= _REPORTED_DEGREES for other in others)
    if agreed or _is_monotonic(views.tilts) or len(views.tilts) != item.sections:
        return views
    if not sorted_sections_are_likelier(item.stack, views.tilts):
        return views
    notes.warn(
        f"{views.source}: its angles are in the order of acquisition, but the images look sorted by angle:"
        " the angles are taken in rising order; give --tilt-angles if they fall, or if this is wrong"
    )
    return replace(views, source=f"{views.source}, sorted", tilts=np.sort(views.tilts))


def _in_best_numbering(item: StackInputs, views: Views, others: Sequence[Views], notes: Notes) -> Views:
    """The reading of an alignment's section numbers that other angles do not contradict."""
    for words, sections in views.other_sections:
        other = replace(views, sections=sections, numbering=words)
        for judge in others:
            mine, its = (_misfit(reading, judge) for reading in (views, other))
            if mine > _MISCOUNT_DEGREES >= its:
                notes.warn(f"{views.source}: {words}, not {views.numbering[4:]}: {judge.source} proves it")
                return other
    return views


def _misfit(views: Views, other: Views) -> float:
    """Largest difference in degrees from nominal angles, but for a constant that an alignment may add."""
    difference = _difference(views, other)
    if not np.isfinite(difference).all():
        return np.inf
    return float(np.abs(difference - np.median(difference)).max())


def _largest_difference(views: Views, other: Views) -> float:
    return float(np.abs(_difference(views, other)).max())


def _difference(views: Views, other: Views) -> Float64:
    """Degrees ``(view,)`` between two sources for the same sections; infinite where one lacks them."""
    places = {int(section): place for place, section in enumerate(other.sections)}
    found = [places.get(int(section)) for section in views.sections]
    return np.array(
        [np.inf if at is None else t - other.tilts[at] for t, at in zip(views.tilts, found, strict=True)]
    )


# --- checks ---


def _wrong_number(views: Views, item: StackInputs) -> InputError:
    return InputError(
        f"the stack has {item.sections} sections but {views.source} gives {len(views.tilts)} tilt angles",
        path=item.stack.path,
        fix="give the angle file of this stack",
    )


def _check_sections(views: Views, item: StackInputs) -> None:
    if not views.names_sections and len(views.tilts) != item.sections:
        if views.is_complete:
            raise InputError(
                f"has {len(views.tilts)} rows, and the stack {item.sections} sections: which is which is not"
                " said",
                path=views.source,
                fix="write 000001@stack into rlnMicrographName, or give a stack of these images alone",
            )
        raise _wrong_number(views, item)
    if len(views.tilts) > item.sections or views.sections.max() >= item.sections:
        raise InputError(
            f"{views.source} speaks of section {views.sections.max() + 1} but the stack has {item.sections}",
            path=item.stack.path,
            fix="give the alignment of this stack",
        )


def _check_angles(views: Views, item: StackInputs) -> None:
    check_tilts(views.tilts + item.tilt_offset, views.source)
    tilts = views.tilts
    is_small = np.ptp(tilts) >= _RANGE_OF_RADIANS and np.abs(tilts).max() <= _LARGEST_RADIAN
    if len(tilts) >= _FEWEST_RADIANS and is_small:
        raise InputError(
            f"angles from {tilts.min():g} to {tilts.max():g} look like radians",
            path=views.source,
            fix="give degrees",
        )


def check_tilts(tilts: Float64, source: str) -> None:
    """`InputError` for degrees ``(view,)`` that are not finite or beyond half a turn."""
    if not np.isfinite(tilts).all():
        raise InputError(
            "a tilt angle is not a finite number", path=source, fix="correct the angle or the offset"
        )
    if np.abs(tilts).max() > _FULL_TURN:
        bad = tilts[int(np.argmax(np.abs(tilts)))]
        raise InputError(
            f"a tilt angle of {bad:g} degrees is beyond +-{_FULL_TURN:g}",
            path=source,
            fix="give tilt angles in degrees, one a line",
        )


def _compare(item: StackInputs, views: Views, others: Sequence[Views], notes: Notes) -> None:
    """Note what won and what it beat; two sources that differ by more than a degree are a warning."""
    overruled = []
    for other in others:
        difference = _largest_difference(views, other)
        if not np.isfinite(difference):
            overruled.append(f"{other.source}: {len(other.tilts)} angles")
            continue
        if difference > _SAME_DEGREES:
            overruled.append(f"{other.source}: differs by up to {difference:.2f} degrees")
        if views.is_complete and _misfit(views, other) > _MISCOUNT_DEGREES:
            notes.warn(f"{views.source}: tilt angles do not follow those of {other.source}")
        elif difference > _REPORTED_DEGREES:
            order = _same_angles(views, other) and ", which holds the same in another order"
            notes.warn(
                f"tilt angles are from {views.source}; they differ by up to {difference:.1f} degrees from"
                f" those of {other.source}{order or ''}"
            )
    low, high = views.tilts.min(), views.tilts.max()
    text = f"{len(views.tilts)} angles from {low:g} to {high:g}"
    notes.choices.append(Choice("tilt angles", item.index, text, views.source, tuple(overruled)))
    if views.numbering:
        notes.choices.append(Choice("sections", item.index, views.numbering, views.source))
    if views.acquisition_order is not None:
        dose = "" if views.dose is None else f", dose {views.dose.min():g} to {views.dose.max():g}"
        text = f"1 to {len(views.tilts)}{dose}"
        notes.choices.append(Choice("acquisition order", item.index, text, views.source))


def _same_angles(views: Views, other: Views) -> bool:
    return len(views.tilts) == len(other.tilts) and bool(
        np.abs(np.sort(views.tilts) - np.sort(other.tilts)).max() <= _SAME_DEGREES
    )
