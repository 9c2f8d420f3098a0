"""Weights of the pixels of a series as stored: faults that were found, and stacks of a user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry
from manyviews.io.mrc import MrcStack
from manyviews.io.tilt_stack import open_stack
from manyviews.tilt.pixels.faults import Faults

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class StoredWeights:
    """What every pixel counts, from 0 to 1.

    ``faults`` are those of the views that have some; ``stacks`` hold a user's weights, a section for each of
    the series' stacks; empty: none.
    """

    geometry: TiltGeometry
    faults: Mapping[int, Faults]
    stacks: tuple[MrcStack, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.stacks) or any(self.faults.values())

    def of(self, view: int, image: Float32) -> Float32 | None:
        """Weights of the pixels of a view's image ``(y, x)``; None: all count fully.

        Raises
        ------
        InputError
            If a weight of the user's is not from 0 to 1.
        """
        faults = self.faults.get(view)
        own = faults.weights(image) if faults else None
        if not self.stacks:
            return own
        section = int(self.geometry.sections[view])
        stack = self.stacks[self.geometry.series[view]]
        given: Float32 = stack.read(section)[0]
        low, high = float(given.min()), float(given.max())
        if low < 0.0 or high > 1.0:
            raise InputError(
                f"weights go from {low:g} to {high:g}",
                path=stack.path,
                where=f"section {section + 1}",
                fix="give weights from 0 (does not count) to 1",
            )
        return given if own is None else own * given


def open_weights(paths: Sequence[Path], stacks: Sequence[MrcStack]) -> tuple[MrcStack, ...]:
    """Stacks of weights, one for each stack of images.

    Raises
    ------
    InputError
        If they do not fit the images.
    """
    if not paths:
        return ()
    if len(paths) != len(stacks):
        raise InputError(
            f"{len(paths)} stacks of weights were given for {len(stacks)} stacks of images",
            where="--weights",
            fix="give one for each, in the same order",
        )
    opened = tuple(open_stack(path) for path in paths)
    for weights, images in zip(opened, stacks, strict=True):
        if weights.shape != images.shape:
            raise InputError(
                f"holds {_size(weights.shape)} and the images of {images.path} are {_size(images.shape)}",
                path=weights.path,
                where="--weights",
                fix="give a weight for every pixel of the stack as it is stored",
            )
    return opened


def _size(shape: Sequence[int]) -> str:
    sections, rows, columns = shape
    return f"{sections} sections of {columns} x {rows} pixels"
