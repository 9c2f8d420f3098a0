"""Transforms of a volume that is spread over processes: from slabs of slices to rows of frequencies and back.

A process transforms its own slices in y and x by itself. For the transform along z it needs all slices, but
of some frequencies only: rows of y-frequency are dealt out, a block at a time, so that buffers stay small.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray

from manyviews.parallel.world import World, shares

# A new array of a shape and dtype, in memory or in a file.
MakeArray = Callable[[tuple[int, ...], DTypeLike], NDArray[Any]]

BLOCK_BYTES = 64 * 2**20
_COMPLEX = 8


@dataclass(frozen=True)
class RowShares:
    """Which of ``ranks`` processes holds which rows of y-frequency; each ``block`` is divided among all."""

    rows: int
    block: int
    ranks: int = 1

    @classmethod
    def of(cls, grid: tuple[int, int, int], ranks: int = 1) -> RowShares:
        """Blocks of about `BLOCK_BYTES` complex64 over all ranks, a row for each of them at least."""
        size_z, size_y, size_x = grid
        fitting = BLOCK_BYTES // (_COMPLEX * size_z * (size_x // 2 + 1))
        return cls(size_y, min(size_y, max(1, ranks, fitting)), ranks)

    @cached_property
    def blocks(self) -> list[slice]:
        """Rows of every block."""
        return [slice(first, min(first + self.block, self.rows)) for first in range(0, self.rows, self.block)]

    def shares(self, block: slice) -> list[slice]:
        """Rows of every rank in a block, counted from the first of the grid; a share may be empty."""
        parts = shares(block.stop - block.start, self.ranks)
        return [slice(block.start + part.start, block.start + part.stop) for part in parts]

    def stored(self, rank: int) -> list[slice]:
        """For every block, where a rank keeps its rows among all that it holds."""
        counts = [_length(self.shares(block)[rank]) for block in self.blocks]
        ends = np.cumsum([0, *counts]).tolist()
        return [slice(first, last) for first, last in itertools.pairwise(ends)]

    def count(self, rank: int) -> int:
        """Rows that a rank holds in all; no rank holds more than rank 0."""
        return sum(_length(self.shares(block)[rank]) for block in self.blocks)

    def own(self, rank: int) -> NDArray[np.int64]:
        """The rows of the grid that a rank holds, in the order in which it keeps them."""
        rows = np.arange(self.rows)
        return np.concatenate([rows[self.shares(block)[rank]] for block in self.blocks])


def gather_rows(
    planes: torch.Tensor, block: slice, slabs: Sequence[slice], rows: RowShares, exchange: World | None
) -> torch.Tensor:
    """All slices of this rank's rows of a block, one of ``rows.blocks``: ``(depth, own rows, columns)``.

    ``planes`` are ``(own slices, rows, columns)``, complex; rank r holds the slices ``slabs[r]``. Without
    ``exchange`` this one has all slices, and the result is a view of ``planes``.
    """
    if exchange is None:
        return planes[:, block]
    parts = rows.shares(block)
    columns = planes.shape[2]
    own = _length(parts[exchange.rank])
    found = exchange.all_to_all(
        [_pairs(planes[:, part]) for part in parts], [(_length(slab), own, columns, 2) for slab in slabs]
    )
    return torch.view_as_complex(torch.cat(found))


def scatter_rows(
    values: torch.Tensor,
    planes: torch.Tensor,
    block: slice,
    slabs: Sequence[slice],
    rows: RowShares,
    exchange: World | None,
) -> None:
    """The way back: put the rows of all ranks into ``planes``, whose slices are this rank's.

    ``values`` has the slices of the volume first, and may have more, ``(depth or more, own rows, columns)``.
    """
    if exchange is None:
        planes[:, block] = values[: slabs[-1].stop]
        return
    parts = rows.shares(block)
    shapes = [(planes.shape[0], _length(part), planes.shape[2], 2) for part in parts]
    found = exchange.all_to_all([_pairs(values[slab]) for slab in slabs], shapes)
    for part, received in zip(parts, found, strict=True):
        planes[:, part] = torch.view_as_complex(received)


def _pairs(values: torch.Tensor) -> torch.Tensor:
    """Complex numbers as pairs of real ones along an axis more: every exchange knows those."""
    return torch.view_as_real(values.contiguous())


def _length(part: slice) -> int:
    return int(part.stop - part.start)
