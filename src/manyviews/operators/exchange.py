"""What an operator that is spread over several processes asks of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import torch


class Exchange(Protocol):
    """Processes that hold one slab of slices each; `manyviews.parallel.world.World` is one.

    Every call is made by all of them, in the same order. Operators take None for a process that is alone.
    """

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""

    @property
    def size(self) -> int:
        """How many there are."""

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum of the tensors of all ranks, of the same shape, known to all of them."""

    def sum_scatter(self, tensor: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
        """Sum of all ranks' tensors, of which rank r gets ``counts[r]`` entries along the first axis."""

    def all_gather(self, tensor: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
        """The tensors of all ranks one after another along the first axis, ``counts[r]`` of rank r."""

    def all_to_all(
        self, parts: Sequence[torch.Tensor], shapes: Sequence[tuple[int, ...]]
    ) -> list[torch.Tensor]:
        """Send ``parts[r]`` to rank r; from rank r comes a tensor of ``shapes[r]`` and the same dtype."""

    def shift(self, tensor: torch.Tensor, by: int) -> torch.Tensor | None:
        """The tensor of rank ``rank - by``, of the same shape; None where there is no such rank."""

    def gather(self, value: float) -> list[float]:
        """The numbers of all ranks, in their order, known to all of them."""


def shares(count: int, parts: int) -> list[slice]:
    """``count`` things divided among ``parts`` as evenly as can be, the first ones getting one more."""
    short, more = divmod(count, parts)
    ends = [number * short + min(number, more) for number in range(parts + 1)]
    return [slice(first, last) for first, last in pairwise(ends)]
