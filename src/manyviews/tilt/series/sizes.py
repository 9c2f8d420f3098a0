"""The pixel size and the image size that all stacks of a series share."""

from __future__ import annotations

from collections.abc import Sequence

from manyviews.errors import InputError
from manyviews.tilt.series.choices import Choice, Notes
from manyviews.tilt.series.inputs import StackInputs

_TOLERANCE = 0.001  # relative
_NEVER_SET = 1.0  # what programs write into a header that do not know the size


def common_pixel_size(inputs: Sequence[StackInputs], given: float | None, notes: Notes) -> float:
    """Angstrom; by trust an option, the header, the .mdoc. A header of exactly 1 loses against the .mdoc.

    Raises
    ------
    InputError
        If nothing says it, the sides of a pixel differ, or the stacks do.
    """
    sizes = [_pixel_size(item, given, notes) for item in inputs]
    for item, size in zip(inputs, sizes, strict=True):
        if abs(size - sizes[0]) > _TOLERANCE * sizes[0]:
            raise InputError(
                f"the pixel size is {size:g} A but that of {inputs[0].stack.path} is {sizes[0]:g} A",
                path=item.stack.path,
                fix="bin or resample the stacks to one pixel size, or correct it with --pixel-size",
            )
    return sizes[0]


def _pixel_size(item: StackInputs, given: float | None, notes: Notes) -> float:
    candidates: list[tuple[str, float]] = [] if given is None else [("option", given)]
    if item.stack.pixel_size is not None:
        x, y, _ = item.stack.pixel_size
        if abs(x - y) > _TOLERANCE * x and given is None:
            raise InputError(
                f"pixels are {x:g} A wide but {y:g} A high", path=item.stack.path, fix="give --pixel-size"
            )
        candidates.append(("header", x))
    if item.mdoc is not None and item.mdoc.pixel_size is not None:
        never_set = candidates[-1:] == [("header", _NEVER_SET)]
        place = len(candidates) - 1 if never_set else len(candidates)
        candidates.insert(place, (str(item.mdoc_path), item.mdoc.pixel_size))
    if not candidates:
        raise InputError(
            "no pixel size in header or .mdoc", path=item.stack.path, fix="give --pixel-size in angstrom"
        )
    source, value = candidates[0]
    others = [(s, v) for s, v in candidates[1:] if abs(v - value) > _TOLERANCE * value]
    overruled = tuple(f"{s}: {v:g}" for s, v in others)
    notes.choices.append(Choice("pixel size", item.index, f"{value:g}", source, overruled))
    if given is None:
        _warn(item, source, value, others, notes)
    return value


def _warn(
    item: StackInputs, source: str, value: float, others: Sequence[tuple[str, float]], notes: Notes
) -> None:
    path = item.stack.path
    for other, size in others:
        why = ", which is what a header says that nobody set" if size == _NEVER_SET else ""
        notes.warn(
            f"{path}: the pixel size is {value:g} A by {source}, not {size:g} A by {other}{why};"
            " --pixel-size overrules both"
        )
    if source == "header" and value == _NEVER_SET:
        notes.warn(f"{path}: the header says exactly 1 A a pixel, as where nobody set it: check --pixel-size")


def common_image_shape(inputs: Sequence[StackInputs]) -> tuple[int, int]:
    """``(rows, columns)``; `InputError` where the stacks differ."""
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
