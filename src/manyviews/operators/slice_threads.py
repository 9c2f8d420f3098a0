"""Blocks of slices in threads: no sum goes over blocks, so results do not depend on the number of threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

W = TypeVar("W")
Array = NDArray[Any]

# What a thread works on at a time stays in the second-level cache.
CACHE_BYTES = 2**20


def each_block(
    count: int, together: int, threads: int, make_work: Callable[[], W], task: Callable[[W, slice], None]
) -> None:
    """Call ``task`` for every ``together`` of ``count`` slices, with a work space that no other thread has.

    ``threads`` of 0: as many as torch uses.
    """
    blocks = [slice(start, min(start + together, count)) for start in range(0, count, together)]
    threads = max(1, min(threads or torch.get_num_threads(), len(blocks)))
    free: SimpleQueue[W] = SimpleQueue()
    for _ in range(threads):
        free.put(make_work())

    def run(block: slice) -> None:
        work = free.get()
        try:
            task(work, block)
        finally:
            free.put(work)

    if threads == 1:
        for block in blocks:
            run(block)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, blocks))


def each_one(count: int, like: torch.Tensor, task: Callable[[int], None]) -> None:
    """Call ``task`` for every number below ``count``, in threads where ``like`` is not on a GPU."""
    each_block(count, 1, 1 if like.is_cuda else 0, lambda: None, lambda _, part: task(part.start))


def in_place(transform: Callable[..., Array], values: Array, axis: int, workers: int = 1) -> None:
    """Transform complex values in place; ``overwrite_x`` of SciPy only allows it and does not promise it."""
    if not values.size:
        return
    found = transform(values, axis=axis, overwrite_x=True, workers=workers)
    if not np.may_share_memory(found, values):
        values[...] = found
