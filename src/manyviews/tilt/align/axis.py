"""The direction of the tilt axis before it is fitted: of several, the one that explains the views best."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry, rotation_z
from manyviews.tilt.align.coarse import Coarse, coarse_alignment
from manyviews.tilt.align.fit import AXIS
from manyviews.tilt.align.frames import LevelImages
from manyviews.tilt.align.level import Freedom, Level, turned

Float64 = NDArray[np.float64]

_STEP_DEGREES = 4.0
_HALF_TURN = 180.0
_STEPS = 3  # of a fit with each direction
_GOOD_VIEWS = 0.8  # of the views, by which directions are compared
_SCAN_DEGREES, _SCAN_STEPS = 2.0, 2
_LEAST_CONTRAST = 0.003  # of what is left, between the best direction and the worst


def images_turned(geometry: TiltGeometry, degrees: float) -> TiltGeometry:
    """Views whose images are turned about their middle, counter-clockwise, so that the axis is."""
    turn = np.eye(4)
    turn[:3, :3] = rotation_z(degrees)
    return replace(geometry, matrices=turn @ geometry.matrices)


def first_alignment(
    images: LevelImages,
    level: Level,
    geometry: TiltGeometry,
    reach_degrees: float,
    stack: int,
    tell: Callable[[str], None],
) -> Coarse:
    """Coarse shifts with the best direction of the axis within ``reach_degrees`` of the given one.

    Coarse images of a specimen without much detail may tell nothing of it. Then the given one holds until
    `scanned_axis`.

    ``images`` are those that shifts are measured in, ``level`` those that directions are compared in; the
    geometry is in pixels of ``images``.

    Raises
    ------
    InputError
        If neighbours do not overlap, or the best direction is the last.
    """
    if reach_degrees < _STEP_DEGREES / 2:
        return coarse_alignment(images, geometry, stack)

    def tried(turn: float) -> float:
        coarse = coarse_alignment(images, images_turned(geometry, turn), stack)
        started = level.images.geometry(images.full_geometry(coarse.geometry))
        return left_over(level, started, coarse.placed.astype(np.float64), _STEPS)

    turns, left = _search(tried, reach_degrees)
    best = int(np.argmin(left))
    tell(
        f"stack {stack + 1}: of directions {turns[0]:+.3g} to {turns[-1]:+.3g} degrees from the given one, "
        f"{turns[best]:+.3g} leaves least, {left[best]:.3g} of {left.max():.3g}"
    )
    all_round = 2 * reach_degrees >= _HALF_TURN
    if not all_round and _is_flat(left):
        tell(
            f"stack {stack + 1}: that is next to nothing: finer images are asked, from the given direction on"
        )
        return coarse_alignment(images, geometry, stack)
    if _is_flat(left) or (not all_round and best in (0, len(turns) - 1)):
        raise _not_found(
            stack,
            "all directions explain the views equally well"
            if all_round
            else f"the best of those within {np.abs(turns).max():.3g} degrees of the given one is the last",
        )
    turn = float(turns[best])
    if 0 < best < len(turns) - 1:
        turn += lowest_between(left[best - 1 : best + 2]) * float(turns[1] - turns[0])
    return coarse_alignment(images, images_turned(geometry, turn), stack)


def _is_flat(left: Float64) -> bool:
    return bool(left.max() - left.min() < _LEAST_CONTRAST * left.max())


def _not_found(stack: int, why: str) -> InputError:
    return InputError(
        f"stack {stack + 1}: the direction of the tilt axis cannot be found: {why}",
        where="--axis-search",
        fix="correct --axis-angle, or give --axis-search 90; --keep-axis takes it as it is",
    )


def _search(tried: Callable[[float], float], reach: float) -> tuple[Float64, Float64]:
    """Directions in steps, and what each leaves; past an end that is best, as far again and no farther."""
    count = math.ceil(reach / _STEP_DEGREES)
    step = reach / count
    numbers = list(range(-count, count + 1))
    if 2 * reach >= _HALF_TURN:
        numbers.pop()  # the last is the first, upside down
        return np.array(numbers) * step, np.array([tried(number * step) for number in numbers])
    left = {number: tried(number * step) for number in numbers}
    while min(left, key=left.__getitem__) in (min(left), max(left)) and len(left) < 4 * count + 1:
        end = min(left, key=left.__getitem__)
        beyond = end + (1 if end > 0 else -1)
        if abs(beyond) > 2 * count:
            break
        left[beyond] = tried(beyond * step)
    numbers = sorted(left)
    return np.array(numbers) * step, np.array([left[number] for number in numbers])


def left_over(level: Level, geometry: TiltGeometry, weights: Float64, steps: int) -> float:
    """What a short fit of shifts leaves of the views, bad ones aside; ``geometry`` in pixels of the level."""
    fitted = level.start(geometry, weights)
    for _ in range(steps + 1):
        fitted = level.step(fitted, Freedom())
    left = np.sort(1.0 - fitted.correlation)
    return float(left[: math.ceil(_GOOD_VIEWS * len(left))].mean())


def scanned_axis(level: Level, geometry: TiltGeometry, weights: Float64, stack: int) -> float:
    """Degrees by which to turn the axis of one series: where a parabola through three trials is lowest.

    Steps of all unknowns together find the axis too, but slowly: a volume that turns with it hides it.

    Raises
    ------
    InputError
        If all three explain the views equally well.
    """
    trials = [axis_turned(geometry, degrees) for degrees in (-_SCAN_DEGREES, 0.0, _SCAN_DEGREES)]
    left = np.array([left_over(level, trial, weights, _SCAN_STEPS) for trial in trials])
    if _is_flat(left):
        raise _not_found(stack, "all directions explain the views equally well")
    return lowest_between(left) * _SCAN_DEGREES


def axis_turned(geometry: TiltGeometry, degrees: float) -> TiltGeometry:
    """Views of one series with another axis, which lies in the volume as before, and untilted views kept.

    The volume turns by as much about the beam.
    """
    return turned(images_turned(turned(geometry, AXIS, degrees), degrees), AXIS, -degrees)


def lowest_between(three: Float64) -> float:
    """Where a parabola through values at -1, 0, 1 is lowest, from -2 to 2; 0 if it bends down."""
    bend = float(three[0] - 2 * three[1] + three[2])
    return float(np.clip(0.5 * (three[0] - three[2]) / bend, -2.0, 2.0)) if bend > 0 else 0.0
