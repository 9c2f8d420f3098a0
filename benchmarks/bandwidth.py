"""What this machine can do at most: ``python benchmarks/bandwidth.py [--threads 2]``.

Copy bandwidth of arrays far larger than the caches (read and written bytes counted, not the line fetched
before a write), and float32 multiply-adds as a large matrix product does them. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np

COPY_BYTES = 256 * 2**20
MATRIX_SIZE = 2048
REPEATS = 7


@dataclass(frozen=True)
class Limits:
    """Best of several runs, on ``threads`` threads."""

    threads: int
    numpy_copy_bytes_per_second: float
    torch_copy_bytes_per_second: float
    matmul_flop_per_second: float

    @property
    def copy_bytes_per_second(self) -> float:
        """The better of the two copies."""
        return max(self.numpy_copy_bytes_per_second, self.torch_copy_bytes_per_second)


def measure(threads: int) -> Limits:
    import torch

    torch.set_num_threads(threads)
    return Limits(threads, _numpy_copy(threads), _torch_copy(), _torch_matmul())


def _best_seconds(action: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def _numpy_copy(threads: int) -> float:
    source = np.ones(COPY_BYTES // 4, np.float32)
    target = np.zeros_like(source)
    bounds = np.linspace(0, len(source), threads + 1).astype(int)
    pieces = [slice(first, last) for first, last in itertools.pairwise(bounds)]
    with ThreadPoolExecutor(threads) as pool:
        seconds = _best_seconds(
            lambda: list(pool.map(lambda piece: np.copyto(target[piece], source[piece]), pieces))
        )
    return 2 * COPY_BYTES / seconds


def _torch_copy() -> float:
    import torch

    source = torch.ones(COPY_BYTES // 4)
    target = torch.zeros_like(source)
    return 2 * COPY_BYTES / _best_seconds(lambda: target.copy_(source))


def _torch_matmul() -> float:
    import torch

    a, b = torch.rand(MATRIX_SIZE, MATRIX_SIZE), torch.rand(MATRIX_SIZE, MATRIX_SIZE)
    out = torch.empty_like(a)
    return 2 * MATRIX_SIZE**3 / _best_seconds(lambda: torch.mm(a, b, out=out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    print(json.dumps(asdict(measure(parser.parse_args().threads))))


if __name__ == "__main__":
    main()
