"""Where the big arrays of a job live: in memory, or in files where memory is too small.

Files have no name, and the disk has their room again when nothing refers to an array any more. Whoever makes
an array of the size of all views, or of a volume, takes it from the room, and fills it block by block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.io.scratch import ScratchFolder

Float32 = NDArray[np.float32]
Allocate = Callable[[tuple[int, ...]], Float32]

_BLOCK_BYTES = 1 << 25


@dataclass(frozen=True)
class Room:
    """Memory, or files in ``scratch``."""

    scratch: ScratchFolder | None = None

    @property
    def in_files(self) -> bool:
        """Whether arrays lie in files."""
        return self.scratch is not None

    def allocate(self, shape: tuple[int, ...]) -> Float32:
        """A new float32 array with any content; `InputError` if the disk is full."""
        if self.scratch is None:
            return in_memory(shape)
        found: Float32 = self.scratch.allocate(shape, np.float32)
        return found


MEMORY = Room()


def in_memory(shape: tuple[int, ...]) -> Float32:
    """By NumPy, which asks for large pages: they are a fifth of the time of filling an array once."""
    return np.empty(shape, np.float32)


def blocks(count: int, numbers: int) -> list[slice]:
    """Of ``count`` views or slices of so many float32 each, as many at once as make some 32 MiB."""
    together = max(1, _BLOCK_BYTES // max(1, 4 * numbers))
    return [slice(first, min(first + together, count)) for first in range(0, count, together)]


def give_up(*tensors: torch.Tensor) -> None:
    """Take their content from tensors that nobody reads any more, whoever still holds them.

    Views of them by NumPy must be gone; those by torch stay good.
    """
    for tensor in tensors:
        tensor.set_(torch.empty(0, dtype=tensor.dtype).untyped_storage(), 0, (0,), (1,))
