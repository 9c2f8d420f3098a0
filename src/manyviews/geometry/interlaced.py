"""Angles of scans that come back to the same directions again and again, in the order of acquisition.

A specimen that changes slowly is seen from nearly everywhere in each rotation, and angles between those of
earlier rotations are added by later ones. Angles are in degrees and go on beyond a turn: their order is time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError

Float64 = NDArray[np.float64]


def radical_inverse(number: int, base: int) -> float:
    """The digits of a number behind the point, in reverse: 0, 1/3, 2/3, 1/9, 4/9, ... for base 3.

    Van der Corput's sequence, which fills the interval from 0 to 1 evenly, however far it goes.
    """
    value, weight = 0.0, 1.0 / base
    while number > 0:
        number, digit = divmod(number, base)
        value += digit * weight
        weight /= base
    return value


def interlaced_angles(views: int, rotations: int, arc: float = 360.0) -> Float64:
    """``(views,)``: rotation i begins ``radical_inverse(i, 3)`` of a step late (Nikitin et al. 2021).

    Every rotation goes through ``arc`` degrees in equal steps and follows the one before it. `InputError` if
    the rotations do not share the views evenly.
    """
    each = _shared(views, rotations)
    step = arc / each
    late = np.array([radical_inverse(number, 3) for number in range(rotations)])
    begin = arc * np.arange(rotations) + step * late
    return np.asarray((begin[:, None] + step * np.arange(each)).reshape(-1))


def repeated_angles(views: int, rotations: int, arc: float = 360.0) -> Float64:
    """``(views,)``: every rotation through ``arc`` degrees takes the same angles; `InputError` as above."""
    each = _shared(views, rotations)
    begin = arc * np.arange(rotations)
    return np.asarray((begin[:, None] + arc / each * np.arange(each)).reshape(-1))


def bit_reversed_angles(views: int, frames: int, arc: float = 180.0) -> Float64:
    """``(views,)``: TIMBIR, ``frames`` passes through ``arc`` degrees, begun in the order of reversed bits.

    Mohan et al., IEEE Trans. Comput. Imaging 1 (2015) 96, eq. 1: all angles together are evenly spaced.
    `InputError` if the frames do not share the views evenly, or are no power of two.
    """
    each = _shared(views, frames)
    if frames & (frames - 1):
        raise InputError(
            f"{frames} rotations are no power of two", where="--rotations", fix="give 1, 2, 4, 8 and so on"
        )
    number = np.arange(views)
    late = np.array([radical_inverse(frame, 2) * frames for frame in range(frames)])
    return np.asarray((number * frames + late[number // each]) * arc / views)


def _shared(views: int, rotations: int) -> int:
    if rotations < 1 or views < rotations or views % rotations:
        raise InputError(
            f"{views} views cannot be shared evenly by {rotations} rotations",
            where="--views",
            fix="give a multiple of the rotations",
        )
    return views // rotations
