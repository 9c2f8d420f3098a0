"""Ranks that are threads: what they tell each other must be JSON, and every rank's end is looked at."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

from manyviews.parallel.layout import Layout, Place, take_place
from thread_world import ThreadWorld, _Shared

GRACE_SECONDS = 1.0


class FakeWorld(ThreadWorld):
    """A rank that is a thread; of what it sends, sums are counted."""

    def sum(self, tensor):
        self.traffic.messages += 1
        self.traffic.sent_bytes += tensor.numel() * tensor.element_size()
        self.traffic.seconds += 0.25
        return super().sum(tensor)

    def gather(self, value):
        return [json.loads(text) for text in super().gather(json.dumps(value))]

    def broadcast(self, value, root=0):
        return json.loads(super().broadcast(json.dumps(value), root))

    def split(self, colour):
        part = super().split(colour)
        part = FakeWorld(part.rank, part._shared)
        part.traffic = self.traffic
        return part


def outcomes(size: int, work: Callable[[FakeWorld], Any]) -> list[Any]:
    """What ``work`` gives on each rank, or the exception that it raised there."""
    shared = _Shared(size)
    found: list[Any] = [None] * size

    def rank_of(rank: int) -> None:
        try:
            found[rank] = work(FakeWorld(rank, shared))
        except BaseException as error:
            found[rank] = error

    threads = [threading.Thread(target=rank_of, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.001)
        if any(isinstance(one, BaseException) for one in found):
            # those that fail together are all about to end; the rest wait in vain
            for thread in threads:
                thread.join(GRACE_SECONDS)
            shared.barrier.abort()
    return found


def results(size: int, work: Callable[[FakeWorld], Any]) -> list[Any]:
    """What ``work`` gives on each rank; no rank may raise."""
    found = outcomes(size, work)
    broken = [one for one in found if isinstance(one, BaseException)]
    for error in sorted(broken, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
        raise error
    return found


def in_layout(layout: Layout, work: Callable[[Place], Any]) -> list[Any]:
    """What ``work`` gives at each place of a layout."""
    return results(layout.ranks, lambda world: work(take_place(world, layout)))
