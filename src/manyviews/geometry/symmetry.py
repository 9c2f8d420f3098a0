"""Point groups of rotations, with their axes where RELION has them.

| group | axes |
| --- | --- |
| Cn | n along z |
| Dn | n along z, 2 along x |
| T | 3 along z, 2 in the yz plane |
| O | 4 along x, y, z |
| I, I2 | 2 along x, y, z; a 5 in the xz plane |
| I1 | I2 turned by 90 degrees about z |
| I3, I4 | 5 along z; a 2 in the xz plane towards -x (I3) or +x (I4) |
"""

from __future__ import annotations

import math
import re

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyviews.errors import InputError, quoted
from manyviews.geometry.poses import rotations_from_vectors

Float64 = NDArray[np.float64]

_LARGEST_ORDER = 360
_GOLDEN = (1 + math.sqrt(5)) / 2


def symmetry_rotations(name: str) -> Float64:
    """All rotations ``(n, 3, 3)`` of a point group, the identity first.

    A volume with this symmetry looks the same at X and at ``S X``, so a pose A is as good as ``A S``. Groups
    are C1, C2 ..., D1, D2 ..., T, O, I (the same as I2), I1, I2, I3, I4, in upper or lower case.

    Raises
    ------
    InputError
        If there is no such group.
    """
    text = name.strip().upper()
    found = re.fullmatch(r"([CD])([0-9]{1,3})", text)
    if found and 1 <= int(found[2]) <= _LARGEST_ORDER:
        fold = int(found[2])
        spin = _turns([0, 0, 1], fold)
        return spin if found[1] == "C" else np.concatenate([spin, _turns([1, 0, 0], 2)[1] @ spin])
    if text not in _GENERATORS:
        raise InputError(
            f"there is no point group {quoted(name)}",
            where="option symmetry",
            fix="give C1, C2, ..., D2, D3, ..., T, O, I, I1, I2, I3 or I4",
        )
    return _closure([_turns(axis, fold)[1] for fold, axis in _GENERATORS[text]])


def _turns(axis: ArrayLike, fold: int) -> Float64:
    """``(fold, 3, 3)`` multiples of ``360 / fold`` degrees about an axis of any length."""
    direction = np.asarray(axis, dtype=np.float64)
    direction = direction / np.linalg.norm(direction)
    return rotations_from_vectors(np.arange(fold)[:, None] * (2 * np.pi / fold) * direction)


def _closure(generators: list[Float64]) -> Float64:
    """Every product of the generators, the identity first."""
    group = [np.eye(3)]
    for element in group:  # grows while it is walked
        for generator in generators:
            product = generator @ element
            if all(np.abs(product - known).max() > 1e-6 for known in group):
                group.append(product)
    return np.array(group)


_FIVE = [1, 0, _GOLDEN]  # a 5-fold axis of I2, 31.7 degrees from z
_TO_THREE = [0, 1 / _GOLDEN, _GOLDEN]  # a 3-fold axis of I2 in the yz plane
_GENERATORS: dict[str, list[tuple[int, list[float]]]] = {
    "T": [(3, [0, 0, 1]), (2, [0, math.sqrt(2 / 3), math.sqrt(1 / 3)])],
    "O": [(3, [1, 1, 1]), (4, [0, 0, 1])],
    "I": [(2, [0, 0, 1]), (5, _FIVE), (3, _TO_THREE)],
    "I1": [(2, [0, 0, 1]), (5, [0, 1, _GOLDEN]), (3, [-1 / _GOLDEN, 0, _GOLDEN])],
    "I3": [(5, [0, 0, 1]), (2, [-1, 0, _GOLDEN])],
    "I4": [(5, [0, 0, 1]), (2, [1, 0, _GOLDEN])],
}
_GENERATORS["I2"] = _GENERATORS["I"]
