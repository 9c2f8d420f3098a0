"""The processes that work on one job together, and the few things they say to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

from manyviews.errors import ManyviewsError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


@dataclass
class Traffic:
    """What one rank has sent so far, as collective algorithms of least volume send it.

    Attributes
    ----------
    sent_bytes
        Bytes to other ranks: for N ranks and B bytes ``2 B (N - 1) / N`` a sum, ``B (N - 1) / N`` a
        sum_scatter or all_gather of B bytes in all, what goes to others in an all_to_all (Thakur et al.
        2005).
    messages
        Messages of those algorithms: ``2 (N - 1)`` a sum, ``N - 1`` the others, 1 a shift.
    seconds
        Wall time inside these calls, waiting for others included.
    """

    sent_bytes: int = 0
    messages: int = 0
    seconds: float = 0.0


class World(Protocol):
    """All processes of a job, or some of them, e.g. those that hold the slabs of one volume.

    Every call but `abort` is made by all ranks, in the same order. Tensors are contiguous; results are on the
    device of the argument.
    """

    traffic: Traffic

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

    def gather(self, value: T) -> list[T]:
        """Numbers, texts, or lists and tables of them: those of all ranks, in their order, known to all."""

    def broadcast(self, value: T, root: int = 0) -> T:
        """What ``root`` holds (of the kinds of `gather`), known to all ranks."""

    def barrier(self) -> None:
        """Wait until every rank has come here."""

    def split(self, colour: int) -> World:
        """The world of all ranks with the same ``colour``, in their order."""

    def abort(self, message: str, exit_code: int = 1) -> NoReturn:
        """End the whole job, ``message`` last."""


class SingleWorld:
    """One process alone: sums and gathered tensors are the tensor itself (not a copy)."""

    rank = 0
    size = 1

    def __init__(self) -> None:
        self.traffic = Traffic()

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """``tensor`` itself."""
        return tensor

    def sum_scatter(self, tensor: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
        """``tensor`` itself."""
        return tensor

    def all_gather(self, tensor: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
        """``tensor`` itself."""
        return tensor

    def all_to_all(
        self, parts: Sequence[torch.Tensor], shapes: Sequence[tuple[int, ...]]
    ) -> list[torch.Tensor]:
        """The one part."""
        return list(parts)

    def shift(self, tensor: torch.Tensor, by: int) -> torch.Tensor | None:
        """Nobody is beside this rank."""
        return tensor if by == 0 else None

    def gather(self, value: Any) -> list[Any]:
        """``value`` alone."""
        return [value]

    def broadcast(self, value: T, root: int = 0) -> T:
        """``value`` itself; `ValueError` if ``root`` is not 0: there is no other process."""
        if root != 0:
            raise ValueError(f"there is no rank {root} in a world of one process")
        return value

    def barrier(self) -> None:
        """Nothing to wait for."""

    def split(self, colour: int) -> SingleWorld:
        """Itself."""
        return self

    def abort(self, message: str, exit_code: int = 1) -> NoReturn:
        """End the job: always a `ManyviewsError` with ``message``."""
        raise ManyviewsError(message)


def shares(count: int, parts: int) -> list[slice]:
    """``count`` things divided among ``parts`` as evenly as can be, the first ones getting one more."""
    short, more = divmod(count, parts)
    ends = [number * short + min(number, more) for number in range(parts + 1)]
    return [slice(first, last) for first, last in pairwise(ends)]


def shares_in_twos(count: int, parts: int) -> list[slice]:
    """`shares` that begin at even numbers, as far as there are two for each.

    What is worked on two at a time then meets the same partner whatever the number of parts.
    """
    if count < 2 * parts:
        return shares(count, parts)
    pairs = shares(-(-count // 2), parts)
    return [slice(2 * part.start, min(2 * part.stop, count)) for part in pairs]
