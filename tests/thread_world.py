"""Ranks that are threads of one process, for tests of what is spread over ranks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import torch

from manyviews.errors import ManyviewsError
from manyviews.parallel.world import Traffic

T = TypeVar("T")
PATIENCE_SECONDS = 60.0


class _Shared:
    """What the threads of one world share: a place for each rank, and a barrier."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=PATIENCE_SECONDS)
        self.places: list[Any] = [None] * size


class ThreadWorld:
    """One rank of a `manyviews.parallel.world.World` of threads; results are never anybody's argument."""

    def __init__(self, rank: int, shared: _Shared) -> None:
        self.rank = rank
        self.size = len(shared.places)
        self.traffic = Traffic()
        self._shared = shared

    def _swap(self, value: Any, read: Callable[[list[Any]], T]) -> T:
        """Show ``value`` to all ranks and read what they show."""
        self._shared.places[self.rank] = value
        self.barrier()
        found = read(self._shared.places)
        self.barrier()
        return found

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        return self._swap(tensor, lambda shown: sum(shown[1:], shown[0].clone()))

    def sum_scatter(self, tensor: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
        return self.sum(tensor).split(list(counts))[self.rank].clone()

    def all_gather(self, tensor: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
        assert len(tensor) == counts[self.rank]
        return self._swap(tensor, torch.cat)

    def all_to_all(
        self, parts: Sequence[torch.Tensor], shapes: Sequence[tuple[int, ...]]
    ) -> list[torch.Tensor]:
        assert len(parts) == len(shapes) == self.size
        assert all(part.is_contiguous() for part in parts)
        found = self._swap(list(parts), lambda shown: [theirs[self.rank].clone() for theirs in shown])
        assert [tuple(part.shape) for part in found] == [tuple(shape) for shape in shapes]
        self.traffic.sent_bytes += sum(
            part.numel() * part.element_size() for rank, part in enumerate(parts) if rank != self.rank
        )
        return found

    def shift(self, tensor: torch.Tensor, by: int) -> torch.Tensor | None:
        source = self.rank - by
        return self._swap(tensor, lambda shown: shown[source].clone() if 0 <= source < self.size else None)

    def gather(self, value: T) -> list[T]:
        return self._swap(value, list)

    def broadcast(self, value: T, root: int = 0) -> T:
        return self._swap(value, lambda shown: shown[root])

    def barrier(self) -> None:
        self._shared.barrier.wait()

    def split(self, colour: int) -> ThreadWorld:
        colours = self.gather(colour)
        members = [rank for rank, theirs in enumerate(colours) if theirs == colour]
        mine = _Shared(len(members)) if members[0] == self.rank else None
        shared = self._swap(mine, lambda shown: shown[members[0]])
        return ThreadWorld(members.index(self.rank), shared)

    def abort(self, message: str, exit_code: int = 1) -> NoReturn:
        self._shared.barrier.abort()
        raise ManyviewsError(message)


def run_ranks(size: int, work: Callable[[ThreadWorld], T]) -> list[T]:
    """Run ``work`` on ``size`` ranks at once; their results, or the error of the first that failed."""
    shared = _Shared(size)
    results: list[Any] = [None] * size
    errors: list[BaseException] = []

    def rank_of(rank: int) -> None:
        try:
            results[rank] = work(ThreadWorld(rank, shared))
        except BaseException as error:
            errors.append(error)
            shared.barrier.abort()

    threads = [threading.Thread(target=rank_of, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        broken = threading.BrokenBarrierError
        raise next((error for error in errors if not isinstance(error, broken)), errors[0])
    return results
