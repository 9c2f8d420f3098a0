"""The same work on many views, in threads: for compiled code that lets other threads run."""

from __future__ import annotations

from collections.abc import Callable


def each_in_threads(work: Callable[[int], object], count: int) -> None:
    """Call ``work(n)`` for every n below ``count``, in as many threads as torch has; the first error is
    raised.

    Each call writes what no other one reads, so that the number of threads changes no bit.
    """
    import torch

    threads = min(count, torch.get_num_threads())
    if threads <= 1:
        for n in range(count):
            work(n)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, range(count)):
            pass
