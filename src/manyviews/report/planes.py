"""Planes through the middle of several maps in one stack of images, so that a page shows how each looked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from manyviews.errors import InputError
from manyviews.io.mrc import MrcStack, read_mrc, write_mrc

Float32 = NDArray[np.float32]

PLANES = 3


def central_planes(volume: NDArray[Any]) -> Float32:
    """The planes xy, xz and yz through the middle of a map ``(n, n, n)``, as ``(3, n, n)``."""
    middle = len(volume) // 2
    return np.stack([volume[middle], volume[:, middle], volume[:, :, middle]]).astype(np.float32)


def write_planes(path: Path, planes: Sequence[Float32], pixel_size: float) -> None:
    """Write the planes of maps, each ``(3, n, n)``, one map after the other; an older file is replaced."""
    write_mrc(path, np.concatenate(list(planes)), pixel_size, overwrite=True, is_volume=False)


def small_planes(volume: torch.Tensor, side: int) -> Float32:
    """The same of a map ``(n, n, n)``, ``side`` pixels wide whatever the map is, as ``(3, side, side)``."""
    planes = torch.from_numpy(central_planes(volume.cpu().numpy()))
    small = functional.interpolate(planes[None], (side, side), mode="bilinear", antialias=True)
    return np.asarray(small[0].numpy(), np.float32)


def add_planes(path: Path, number: int, planes: Float32, pixel_size: float) -> None:
    """Add the planes ``(3, n, n)`` of a map, ``number`` from 1; those of later ones are removed.

    Planes of maps that left none are zero. A file with planes of another size, or that cannot be read, is
    begun afresh.
    """
    stack = np.zeros((PLANES * number, *planes.shape[1:]), np.float32)
    stack[-PLANES:] = planes
    if number > 1 and path.exists():
        try:
            before, _ = read_mrc(path)
        except InputError:  # damaged: what is shown must not end a run
            before = stack[:0]
        if before.shape[1:] == stack.shape[1:]:
            kept = before[: PLANES * (number - 1)]
            stack[: len(kept)] = kept
    write_mrc(path, stack, pixel_size, overwrite=True, is_volume=False)


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
