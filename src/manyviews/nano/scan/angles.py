"""Which angles a scan was taken at: degrees in the order of acquisition, never sorted, beyond 360 too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.frames import ScanFile
from manyviews.io.text import read_number_rows
from manyviews.nano.scan.options import ScanOptions

Float64 = NDArray[np.float64]

_STILL_DEGREES = 0.01  # the stage stands while flats and darks are taken
_FEWEST_RADIANS = 10
_MOST_TURNS = 20
_FINE_STEP = 0.1
_FULL_TURN = 2 * np.pi
_MOST_RETURNS = 12


@dataclass(frozen=True)
class Angles:
    """``theta_degrees (view,)``, where they are from, and sentences about them."""

    theta_degrees: Float64
    source: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def choose_angles(file: ScanFile, options: ScanOptions) -> Angles:
    """The angles that were asked for, else those of the scan.

    `InputError` if there are none, one is not finite, there are fewer than views, more and not clear why,
    or they look like radians.
    """
    count = file.projections.shape[0]
    if options.angle_range:
        return _even(options, count)
    notes: tuple[str, ...] = ()
    if options.angles is not None:
        theta, source = read_angle_file(options.angles), str(options.angles)
        if file.theta_degrees is not None:
            notes = (f"angles: {source}, not {file.theta_source}",)
    elif file.theta_degrees is not None:
        theta, source = file.theta_degrees, file.theta_source
    else:
        raise InputError(
            f"no angles: {file.theta_source}",
            path=file.path,
            fix="give --angles FILE, or --angle-range FIRST LAST",
        )
    if options.angle_units == "radians":
        theta = np.rad2deg(theta)
        notes += (f"angles: {source}, turned from radians into degrees",)
    elif options.angle_units is None and looks_like_radians(theta):
        raise InputError(
            f"{len(theta)} angles from {theta.min():.4g} to {theta.max():.4g} look like radians",
            path=source,
            fix="give --angle-units radians, or degrees if they are",
        )
    theta, told = fitted(theta, count, source)
    return Angles(theta, source, notes, (told,) if told else ())


def _even(options: ScanOptions, count: int) -> Angles:
    if options.angles is not None or len(options.angle_range) != 2:
        raise InputError(
            "takes two angles, and no --angles beside it",
            where="--angle-range",
            fix="give the first and the last angle",
        )
    first, last = options.angle_range
    if options.angle_units == "radians":
        first, last = np.rad2deg([first, last]).tolist()
    if first == last and count > 1:
        raise InputError("both angles are the same", where="--angle-range", fix="give the first and the last")
    return Angles(np.linspace(first, last, count), "--angle-range")


def read_angle_file(path: Path) -> Float64:
    """One angle on every line, or all of them on one; `InputError` if it holds anything else."""
    rows = read_number_rows(path, meaning="an angle")
    widest = max(len(row.values) for row in rows)
    if len(rows) > 1 and widest > 1:
        wrong = next(row for row in rows if len(row.values) > 1)
        raise InputError(
            f"the line holds {len(wrong.values)} numbers where an angle was expected",
            path=path,
            where=wrong.where,
            fix="give a file with one angle on every line",
        )
    return np.array([value for row in rows for value in row.values], np.float64)


def looks_like_radians(theta: Float64) -> bool:
    """Whether so many angles over so small a range cannot be degrees: up to a turn, or whole half turns."""
    if len(theta) < _FEWEST_RADIANS:
        return False
    span = float(np.ptp(theta))
    steps = np.diff(np.sort(theta))
    step = float(np.median(steps))
    if 1.0 < span <= _FULL_TURN + step + 1e-3:
        return True
    half_turns = (span + step) / np.pi
    is_whole = abs(half_turns - round(half_turns)) * np.pi <= 1.5 * step + 1e-6
    return bool(_FULL_TURN < span <= _MOST_TURNS * _FULL_TURN and step < _FINE_STEP and is_whole)


def fitted(theta: Float64, count: int, source: str) -> tuple[Float64, str]:
    """The angles of ``count`` views from a list that may be longer, and what was left out.

    The list may go on while flats and darks are taken: the stage stands at the first angle before, or at
    the last one after. `InputError` if that does not explain all that is too many.
    """
    if len(theta) == count:
        return theta, ""
    extra = len(theta) - count
    before, after = _still(theta), _still(theta[::-1])
    if extra > 0:
        if extra == before + after:
            drop = before
        elif extra == before or (extra < before and not after):
            drop = extra
        elif extra == after or (extra < after and not before):
            drop = 0
        else:
            drop = -1
        if drop >= 0:
            told = (
                f"angles: {source} has {len(theta)} for {count} views; {drop} at the beginning and"
                f" {extra - drop} at"
                " the end, where the stage stood still, are taken to be of flats and darks"
            )
            return theta[drop : drop + count], told
    many = "more" if extra > 0 else "fewer"
    raise InputError(
        f"{len(theta)} angles are {many} than the {count} views",
        path=source,
        fix="give one angle a view with --angles, without those of flats and darks",
    )


def _still(theta: Float64) -> int:
    """How many angles at the beginning repeat the first."""
    moved = np.abs(theta - theta[0]) > _STILL_DEGREES
    return int(np.argmax(moved)) - 1 if moved.any() else 0


def returning_views(theta: Float64) -> NDArray[np.bool_]:
    """``(view,)`` whether the last views repeat angles of a scan that went one way until then."""
    is_return = np.zeros(len(theta), bool)
    for count in range(min(_MOST_RETURNS, len(theta) // 4), 0, -1):
        scan, last = theta[:-count], theta[-count:]
        steps = np.diff(scan)
        one_way = bool((steps > 0).all() or (steps < 0).all())
        near = np.abs(last[:, None] - scan).min(1) < 1e-3 + 0.01 * float(np.abs(np.median(steps)))
        if one_way and near.all():
            is_return[-count:] = True
            return is_return
    return is_return
