"""Where the tilt axis lies in the images, and who says so."""

from __future__ import annotations

import re

import numpy as np

from manyviews.errors import InputError
from manyviews.geometry.euler import within_half_turn
from manyviews.io.mdoc import read_axis_quote
from manyviews.io.tilt_stack import ListedStack
from manyviews.tilt.series.choices import Choice, Notes
from manyviews.tilt.series.inputs import StackInputs
from manyviews.tilt.series.view_files import Views

_SAME_DEGREES = 0.05
_REPORTED_DEGREES = 1.0
# SerialEM repeats the title of its .mdoc in the labels of the stack.
_LABEL = re.compile(r"tilt\s*axis\s*angle\s*=\s*([+-]?\d+(?:[.,]\d+)?)", re.IGNORECASE)


def settle_axis_angle(item: StackInputs, views: Views, notes: Notes) -> float:
    """Direction of the tilt axis in the aligned image, degrees counter-clockwise from +y.

    An option comes first; aligned images have it upright; else the .mdoc, the alignment file and the labels
    of the header are asked. Where none of them names it, 0 is taken, with a warning that quotes what the
    files do hold.
    """
    candidates: list[tuple[str, float]] = []
    if item.axis_angle is not None:
        candidates.append(("option", float(item.axis_angle)))
    aligned_by = _aligned_by(item, views)
    if aligned_by:
        candidates.append((f"vertical in aligned images ({aligned_by})", 0.0))
    raw = _of_raw_images(item, views)
    candidates += raw
    source, value = candidates[0] if candidates else ("default", 0.0)
    if not np.isfinite(value):
        raise InputError(
            "the axis angle is not a finite number", where="option axis_angle", fix="give degrees"
        )
    overruled = tuple(f"{s}: {v:g}" for s, v in candidates[1:] if abs(v - value) > _SAME_DEGREES)
    notes.choices.append(Choice("axis angle", item.index, f"{value:g}", source, overruled))
    if not candidates:
        _warn_of_default(item, notes)
    elif item.axis_angle is None and not aligned_by:
        _warn_of_doubt(item, raw, notes)
    return value


def _of_raw_images(item: StackInputs, views: Views) -> list[tuple[str, float]]:
    """Everything that names the axis in the raw images."""
    found = []
    if item.mdoc is not None:
        found += [(f"{item.mdoc_path}, {words} (raw images)", value) for words, value in item.mdoc.axes]
    if views.axis_in_raw is not None:
        found.append((f"{views.source} (raw images)", views.axis_in_raw))
    if isinstance(item.stack, ListedStack) and item.stack.listed_axis is not None:
        found.append((f"{item.stack.path} (raw images)", item.stack.listed_axis))
    for label in item.stack.header.labels:
        if match := _LABEL.search(label):
            found.append(("label in the header (raw images)", float(match[1].replace(",", "."))))
    return found


def _aligned_by(item: StackInputs, views: Views) -> str:
    """What says that the tilt axis is vertical in the aligned images; empty for raw images."""
    if item.transform is not None:
        return str(item.transform)
    if views.to_aligned is not None:
        return views.source
    # newstack leaves this title in stacks that it transformed; such a stack must not be turned again.
    if item.is_named_aligned:
        return "the stack's name"
    if any("NEWSTACK" in label and "transformed" in label for label in item.stack.header.labels):
        return "title in the header"
    return ""


def _warn_of_default(item: StackInputs, notes: Notes) -> None:
    held = "no file names it"
    if item.mdoc is not None:
        quote = item.mdoc.axis_quote
        held = f"{item.mdoc_path} has {quote}" if quote else f"{item.mdoc_path} does not name it"
    elif item.mdoc_error is not None:
        quote = "" if item.mdoc_path is None else read_axis_quote(item.mdoc_path)
        held = f"{item.mdoc_path} has {quote}" if quote else f"{item.mdoc_path} could not be read"
    notes.warn(
        f"{item.stack.path}: the direction of the tilt axis is not known ({held}); 0 degrees, along y,"
        " is taken: give --axis-angle"
    )


def _warn_of_doubt(item: StackInputs, raw: list[tuple[str, float]], notes: Notes) -> None:
    source, value = raw[0]
    if "RotationAngle" in source:
        notes.warn(
            f"{item.stack.path}: the tilt axis is at {value:g} degrees by {source}; no title says it: check"
            " --axis-angle"
        )
    for other, its in raw[1:]:
        if abs(within_half_turn(its - value)) > _REPORTED_DEGREES:
            notes.warn(
                f"{item.stack.path}: the tilt axis is at {value:g} degrees by {source}, but at {its:g} by"
                f" {other}: check --axis-angle"
            )
