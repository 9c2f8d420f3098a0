"""The processes that work on one job together, and the few things they say to each other."""

from __future__ import annotations

from typing import NoReturn, Protocol, TypeVar

import torch

from manyviews.errors import ManyviewsError

T = TypeVar("T")


class World(Protocol):
    """All processes of a job. Every call but `abort` is made by all ranks, in the same order."""

    @property
    def rank(self) -> int:
        """Number of this process, counted from 0; rank 0 speaks and writes."""

    @property
    def size(self) -> int:
        """How many processes there are."""

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum of the tensors of all ranks, of the same shape, known to all of them."""

    def mean(self, tensor: torch.Tensor) -> torch.Tensor:
        """Mean of the tensors of all ranks, of the same shape, known to all of them."""

    def broadcast(self, value: T, root: int = 0) -> T:
        """What ``root`` holds, known to all ranks."""

    def barrier(self) -> None:
        """Wait until every rank has come here."""

    def abort(self, message: str) -> NoReturn:
        """End the whole job, ``message`` last."""


class SingleWorld:
    """One process alone: sums and means of one tensor are the tensor itself (not a copy)."""

    rank = 0
    size = 1

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """``tensor`` itself."""
        return tensor

    def mean(self, tensor: torch.Tensor) -> torch.Tensor:
        """``tensor`` itself."""
        return tensor

    def broadcast(self, value: T, root: int = 0) -> T:
        """``value`` itself.

        Raises
        ------
        ValueError
            If ``root`` is not 0: there is no other process.
        """
        if root != 0:
            raise ValueError(f"there is no rank {root} in a world of one process")
        return value

    def barrier(self) -> None:
        """Nothing to wait for."""

    def abort(self, message: str) -> NoReturn:
        """End the job.

        Raises
        ------
        ManyviewsError
            Always, with ``message``.
        """
        raise ManyviewsError(message)
