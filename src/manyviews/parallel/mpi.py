"""A `World` of MPI processes.

Sums are taken in the order of the ranks. So all ranks hold the same bits, and these depend neither on the MPI
library and its choice of algorithm, nor on which ranks share a machine; MPI itself promises none of this.

MPI libraries wait by spinning, which takes the processor from the ranks that are waited for where there are
more threads than cores. Here ranks first meet, asleep most of the time, and only then start to exchange.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
from mpi4py import MPI

from manyviews.parallel.world import Traffic, shares

T = TypeVar("T")
_SMALL_BYTES = 1 << 16  # sums of no more than this, all ranks together, take one message instead of two
_SCRATCH_BYTES = 1 << 23  # what others send for a sum arrives in pieces that fill this at most
_MESSAGE_BYTES = 1 << 30  # MPI counts entries of one message with 31 bits
_SPIN_SECONDS = 1e-4
_NAP_SECONDS = (2e-5, 1e-3)  # shortest and longest; in between a twentieth of the time waited so far
_FLUSH_SECONDS = 0.05
_ABORT_SECONDS = 2.0


class MpiWorld:
    """The ranks of an MPI communicator of their own; ``seconds`` of its traffic count the waiting."""

    def __init__(self, communicator: MPI.Comm, traffic: Traffic | None = None) -> None:
        self._communicator = communicator
        self.traffic = Traffic() if traffic is None else traffic
        self.rank = communicator.Get_rank()
        self.size = communicator.Get_size()

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """A new tensor with the sum of all ranks' tensors, the same bits on all of them."""
        if self.size == 1:
            return tensor
        flat = _flat(tensor)
        sent = 2 * flat.nbytes * (self.size - 1) // self.size
        with self._counted(sent, 2 * (self.size - 1)):
            small = flat.nbytes * self.size <= _SMALL_BYTES
            total = self._sum_gathered(flat) if small else self._sum_shared(flat)
        return total.reshape(tensor.shape).to(tensor.device)

    def sum_scatter(self, tensor: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
        """Sum of all ranks' tensors, of which rank r gets ``counts[r]`` entries along the first axis.

        `ValueError` if ``counts`` are not one per rank that add up to the first axis.
        """
        self._require_counts(counts, len(tensor))
        if self.size == 1:
            return tensor
        source = tensor.detach().cpu()
        parts = [_flat(part) for part in _divided(source, counts)]
        total = torch.empty_like(parts[self.rank])
        with self._counted(source.nbytes * (self.size - 1) // self.size, self.size - 1):
            self._meet()
            self._add_up(parts, total)
        return total.reshape(counts[self.rank], *tensor.shape[1:]).to(tensor.device)

    def all_gather(self, tensor: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
        """The tensors of all ranks, ``counts[r]`` entries of rank r, one after another along the first axis.

        `ValueError` if ``counts`` are not one per rank, or this rank's is not what it brings.
        """
        self._require_counts(counts)
        if len(tensor) != counts[self.rank]:
            raise ValueError(f"rank {self.rank} brings {len(tensor)} entries, not {counts[self.rank]}")
        if self.size == 1:
            return tensor
        whole = torch.empty((sum(counts), *tensor.shape[1:]), dtype=tensor.dtype)
        parts = [part.reshape(-1) for part in _divided(whole, counts)]
        parts[self.rank].copy_(_flat(tensor))
        with self._counted(whole.nbytes * (self.size - 1) // self.size, self.size - 1):
            self._meet()
            self._exchange([parts[self.rank]] * self.size, parts)
        return whole.to(tensor.device)

    def all_to_all(
        self, parts: Sequence[torch.Tensor], shapes: Sequence[tuple[int, ...]]
    ) -> list[torch.Tensor]:
        """Send ``parts[r]`` to rank r; from rank r comes a tensor of ``shapes[r]``. No copy of the own part.

        `ValueError` if there is not one part and one shape per rank, or the own part has another shape.
        """
        if not len(parts) == len(shapes) == self.size:
            raise ValueError(f"{len(parts)} parts and {len(shapes)} shapes for {self.size} ranks")
        own = parts[self.rank]
        if tuple(own.shape) != tuple(shapes[self.rank]):
            raise ValueError(f"the own part is {tuple(own.shape)}, expected {tuple(shapes[self.rank])}")
        sends = [_flat(part) for part in parts]
        receives = [torch.empty(tuple(shape), dtype=own.dtype) for shape in shapes]
        others = sum(send.nbytes for rank, send in enumerate(sends) if rank != self.rank)
        with self._counted(others, self.size - 1):
            self._meet()
            self._exchange(sends, [receive.reshape(-1) for receive in receives])
        return [own if rank == self.rank else new.to(own.device) for rank, new in enumerate(receives)]

    def shift(self, tensor: torch.Tensor, by: int) -> torch.Tensor | None:
        """The tensor of rank ``rank - by``, of the same shape; None where there is no such rank."""
        if by == 0:
            return tensor
        target, source = self.rank + by, self.rank - by
        sends: list[torch.Tensor | None] = [None] * self.size
        receives: list[torch.Tensor | None] = [None] * self.size
        flat = _flat(tensor)
        sending = 0 <= target < self.size
        if sending:
            sends[target] = flat
        if 0 <= source < self.size:
            receives[source] = torch.empty_like(flat)
        with self._counted(flat.nbytes * sending, int(sending)):
            self._meet()
            self._exchange(sends, receives)
        found = receives[source] if 0 <= source < self.size else None
        return None if found is None else found.reshape(tensor.shape).to(tensor.device)

    def gather(self, value: T) -> list[T]:
        """All ranks' numbers, texts, or lists and tables of them; tuples come as lists, keys as texts."""
        own = _encode(value)
        lengths = np.zeros(self.size, dtype=np.int64)
        with self._counted(own.nbytes * (self.size - 1), self.size - 1):
            _wait(self._communicator.Iallgather(np.array([own.nbytes], dtype=np.int64), lengths))
            whole = np.empty(int(lengths.sum()), dtype=np.uint8)
            self._communicator.Allgatherv(own, [whole, lengths.tolist()])
        return [json.loads(part.tobytes()) for part in np.split(whole, np.cumsum(lengths)[:-1])]

    def broadcast(self, value: T, root: int = 0) -> T:
        """What ``root`` holds (of the kinds of `gather`), known to all ranks; `ValueError` if it is none."""
        if not 0 <= root < self.size:
            raise ValueError(f"there is no rank {root} in a world of {self.size}")
        speaks = self.rank == root
        own = _encode(value) if speaks else np.empty(0, dtype=np.uint8)
        length = np.array([own.nbytes], dtype=np.int64)
        with self._counted(own.nbytes * (self.size - 1), (self.size - 1) * speaks):
            _wait(self._communicator.Ibcast(length, root))
            whole = own if speaks else np.empty(int(length[0]), dtype=np.uint8)
            self._communicator.Bcast(whole, root)
        found: T = json.loads(whole.tobytes())
        return found

    def barrier(self) -> None:
        """Wait until every rank has come here."""
        with self._counted(0, 0):
            self._meet()

    def meet(self, seconds: float) -> bool:
        """Whether every rank comes here before ``seconds`` are over; no other call may follow where not."""
        return _wait(self._communicator.Ibarrier(), seconds)

    def split(self, colour: int) -> MpiWorld:
        """The world of all ranks with the same ``colour``, in their order; its traffic counts here too."""
        return MpiWorld(self._communicator.Split(colour, self.rank), self.traffic)

    def abort(self, message: str, exit_code: int = 1) -> NoReturn:
        """End the processes of the whole job, not of this world only, ``message`` last."""
        with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads
            sys.stdout.flush()
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(message and f"{message}\n")
            sys.stderr.flush()
            time.sleep(_FLUSH_SECONDS)  # launchers drop what they have not read yet
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # MPI libraries have words of their own for this
        # If MPI should hang now, the kernel ends this process, and the launcher the others.
        with contextlib.suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, _ABORT_SECONDS)
        MPI.COMM_WORLD.Abort(exit_code)
        os._exit(exit_code)

    def _meet(self) -> None:
        _wait(self._communicator.Ibarrier())

    def _sum_gathered(self, flat: torch.Tensor) -> torch.Tensor:
        """Everybody gets everything and adds it up: one step, for a few numbers."""
        everyone = torch.empty((self.size, flat.numel()), dtype=flat.dtype)
        _wait(self._communicator.Iallgather(_bytes(flat), _bytes(everyone.reshape(-1))))
        return _add(list(everyone), torch.empty_like(flat))

    def _sum_shared(self, flat: torch.Tensor) -> torch.Tensor:
        """Everybody adds up a share and tells the others: the least that can be sent."""
        own_shares = shares(flat.numel(), self.size)
        total = torch.empty_like(flat)
        parts = [total[share] for share in own_shares]
        self._meet()
        self._add_up([flat[share] for share in own_shares], parts[self.rank])
        self._exchange([parts[self.rank]] * self.size, parts)
        return total

    def _add_up(self, parts: Sequence[torch.Tensor], total: torch.Tensor) -> None:
        """Send ``parts[r]`` to rank r and add up what comes for this one, piece by piece."""
        piece = max(1, _SCRATCH_BYTES // (total.itemsize * self.size))
        scratch = torch.empty((self.size, min(piece, total.numel())), dtype=total.dtype)
        for first in range(0, max(part.numel() for part in parts), piece):
            sends = [part[first : first + piece] for part in parts]
            own = sends[self.rank]
            terms = [own if rank == self.rank else row[: own.numel()] for rank, row in enumerate(scratch)]
            self._exchange(sends, terms)
            _add(terms, total[first : first + piece])

    def _exchange(
        self, sends: Sequence[torch.Tensor | None], receives: Sequence[torch.Tensor | None]
    ) -> None:
        """Flat tensors to and from every other rank; nearest ranks first, so that nobody is stormed."""
        steps = range(1, self.size)
        incoming = [
            self._communicator.Irecv(message, source)
            for source in ((self.rank - step) % self.size for step in steps)
            for message in _messages(receives[source])
        ]
        outgoing = [
            self._communicator.Isend(message, target)
            for target in ((self.rank + step) % self.size for step in steps)
            for message in _messages(sends[target])
        ]
        MPI.Request.Waitall(incoming + outgoing)

    def _require_counts(self, counts: Sequence[int], total: int | None = None) -> None:
        if len(counts) != self.size or (total is not None and sum(counts) != total):
            raise ValueError(f"counts {list(counts)} do not divide {total} entries among {self.size} ranks")

    @contextlib.contextmanager
    def _counted(self, sent_bytes: int, messages: int) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.traffic.seconds += time.perf_counter() - began
        self.traffic.sent_bytes += sent_bytes
        self.traffic.messages += messages


def _wait(request: MPI.Request, seconds: float | None = None) -> bool:
    """Whether the request completes in time; mostly asleep, and open to signals."""
    began = time.perf_counter()
    while not request.Test():
        waited = time.perf_counter() - began
        if seconds is not None and waited > seconds:
            return False
        time.sleep(0.0 if waited < _SPIN_SECONDS else min(max(waited / 20, _NAP_SECONDS[0]), _NAP_SECONDS[1]))
    return True


def _divided(tensor: torch.Tensor, counts: Sequence[int]) -> list[torch.Tensor]:
    """Views of ``counts`` entries each along the first axis."""
    ends = [0, *itertools.accumulate(counts)]
    return [tensor[first:last] for first, last in itertools.pairwise(ends)]


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    """All entries in memory that MPI can read, without a copy where they are already."""
    return tensor.detach().cpu().resolve_conj().contiguous().reshape(-1)


def _bytes(flat: torch.Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The memory of a flat tensor."""
    dense = flat.as_strided((flat.numel(),), (1,))  # one entry alone may have any stride
    return dense.view(torch.uint8).numpy()


def _messages(flat: torch.Tensor | None) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """The memory of a flat tensor in pieces that one message can hold."""
    if flat is None:
        return []
    memory = _bytes(flat)
    return [memory[first : first + _MESSAGE_BYTES] for first in range(0, memory.size, _MESSAGE_BYTES)]


def _add(terms: Sequence[torch.Tensor], total: torch.Tensor) -> torch.Tensor:
    """Write the sum of ``terms``, in their order, into ``total``."""
    total.copy_(terms[0])
    for term in terms[1:]:
        total += term
    return total


def _encode(value: object) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(bytearray(json.dumps(value).encode()), dtype=np.uint8)
