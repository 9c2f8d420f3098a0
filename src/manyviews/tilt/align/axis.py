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
from manyviews.tilt.align.frames import LevelImages
from manyviews.tilt.align.level import Freedom, Level

Float64 = NDArray[np.float64]

_STEP_DEGREES = 4.0
_STEPS = 3  # of a fit with each direction
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

    ``images`` are those that shifts are measured in, ``level`` those that directions are compared in; the
    geometry is in pixels of ``images``.

    Raises
    ------
    InputError
        If neighbours do not overlap, or no direction is better than the others.
    """
    if reach_degrees < _STEP_DEGREES / 2:
        return coarse_alignment(images, geometry, stack)
    count = math.ceil(reach_degrees / _STEP_DEGREES)
    turns = np.arange(-count, count + 1) * (reach_degrees / count)
    if 2 * reach_degrees >= 180.0:
        turns = turns[:-1]  # the last is the first, upside down
    found = []
    left = np.empty(len(turns))
    for number, turn in enumerate(turns):
        coarse = coarse_alignment(images, images_turned(geometry, float(turn)), stack)
        left[number] = _left(images, level, coarse)
        found.append(coarse)
    best = int(np.argmin(left))
    tell(
        f"stack {stack + 1}: of directions {turns[0]:+.3g} to {turns[-1]:+.3g} degrees from the given one, "
        f"{turns[best]:+.3g} leaves least, {left[best]:.3g} of {left.max():.3g}"
    )
    if left.max() - left.min() < _LEAST_CONTRAST * left.max():
        raise InputError(
            f"stack {stack + 1}: the direction of the tilt axis cannot be found: all directions explain the "
            "views equally well",
            where="--axis-search",
            fix="give its direction with --axis-angle, and --keep-axis",
        )
    if 2 * reach_degrees < 180.0 and best in (0, len(turns) - 1):
        raise InputError(
            f"stack {stack + 1}: the direction of the tilt axis cannot be found within {reach_degrees:g} "
            "degrees of the given one: the best lies at the end of that range",
            where="--axis-search",
            fix="correct --axis-angle, or give a larger --axis-search",
        )
    return found[best]


def _left(images: LevelImages, level: Level, coarse: Coarse) -> float:
    """What a short fit leaves of the images."""
    geometry = level.images.geometry(images.full_geometry(coarse.geometry))
    fitted = level.start(geometry, coarse.placed.astype(np.float64))
    for _ in range(_STEPS + 1):
        fitted = level.step(fitted, Freedom())
    return fitted.misfit
