"""Planes through the middle of several maps in one stack of images, so that a page shows how each looked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.mrc import MrcStack, write_mrc

Float32 = NDArray[np.float32]

PLANES = 3


def central_planes(volume: NDArray[Any]) -> Float32:
    """The planes xy, xz and yz through the middle of a map ``(n, n, n)``, as ``(3, n, n)``."""
    middle = len(volume) // 2
    return np.stack([volume[middle], volume[:, middle], volume[:, :, middle]]).astype(np.float32)


def write_planes(path: Path, planes: Sequence[Float32], pixel_size: float) -> None:
    """Write the planes of maps, each ``(3, n, n)``, one map after the other; an older file is replaced."""
    write_mrc(path, np.concatenate(list(planes)), pixel_size, overwrite=True, is_volume=False)


def read_planes(path: Path, most: int = 6) -> tuple[tuple[int, Float32], ...]:
    """Maps by number, from 1, and their planes ``(3, n, n)``; ``most`` of them, evenly chosen.

    The first and the last are among them; those whose planes are all zero left none. Nothing if there is no
    file. `InputError` if it cannot be read.
    """
    if not path.exists():
        return ()
    stack = MrcStack(path)
    count, rest = divmod(stack.shape[0], PLANES)
    if rest:
        raise InputError(f"has {stack.shape[0]} planes, not three a map", path=path)
    found = [(one + 1, stack.read(np.arange(PLANES * one, PLANES * (one + 1)))) for one in range(count)]
    there = [one for one in found if one[1].any()]
    chosen = np.unique(np.linspace(0, len(there) - 1, min(most, len(there))).round().astype(int))
    return tuple(there[place] for place in chosen)
