"""Volumes as vectors: where new ones come from, and sums that go over all slabs of a volume.

A process may hold one slab ``(z, y, x)`` of the slices only, and its volumes may lie in files because memory
is too small. Solvers need not know: they take new vectors from the space and hand inner products to it.
Methods that give a new vector never allocate another of its size on the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.operators.products import inner_product, squared_distance
from manyviews.parallel.world import World

Allocate = Callable[[], torch.Tensor]
Make = Callable[[tuple[int, ...]], NDArray[np.float32]]


@dataclass(frozen=True)
class Space:
    """The vector space of a job's volumes: ``allocate`` gives a new slab ``(z, y, x)`` with any content.

    ``ranks`` hold other slabs; None: nobody does. ``make`` gives arrays of another shape, for what a state
    has beside volumes, where these do not lie in memory.
    """

    allocate: Allocate
    ranks: World | None = None
    make: Make | None = None

    @classmethod
    def like(cls, volume: torch.Tensor) -> Space:
        """Whole volumes in memory, of the shape, dtype and device of ``volume``."""
        return cls(lambda: torch.empty_like(volume, memory_format=torch.contiguous_format))

    def zeros(self) -> torch.Tensor:
        """A new zero vector."""
        return self.allocate().zero_()

    def copy(self, a: torch.Tensor) -> torch.Tensor:
        """A new vector equal to ``a``."""
        return self.allocate().copy_(a)

    def add(self, a: torch.Tensor, b: torch.Tensor, alpha: float = 1.0) -> torch.Tensor:
        """New vector ``a + alpha b``."""
        return torch.add(a, b, alpha=alpha, out=self.allocate())

    def positive_part(self, a: torch.Tensor) -> torch.Tensor:
        """New vector ``max(a, 0)``, entry by entry."""
        return torch.clamp(a, min=0.0, out=self.allocate())

    def lerp(self, a: torch.Tensor, b: torch.Tensor, weight: float) -> torch.Tensor:
        """New vector ``a + weight (b - a)``."""
        return torch.lerp(a, b, weight, out=self.allocate())

    def inner(self, a: torch.Tensor, b: torch.Tensor) -> float:
        """``<a, b>``, slice by slice in float64, so that it does not depend on the number of threads."""
        return self.total(inner_product(a, b))

    def norm(self, a: torch.Tensor) -> float:
        """``sqrt <a, a>``."""
        return math.sqrt(self.inner(a, a))

    def distance(self, a: torch.Tensor, b: torch.Tensor) -> float:
        """``|a - b|``."""
        return math.sqrt(self.total(squared_distance(a, b)))

    def total(self, value: float) -> float:
        """Sum of a number over all slabs."""
        if self.ranks is None:
            return value
        return float(self.ranks.sum(torch.tensor([value], dtype=torch.float64))[0])

    def extremes(self, a: torch.Tensor) -> tuple[float, float]:
        """Smallest and largest entry; NaN where there is one, and so for infinity."""
        low, high = (
            (float(value) for value in torch.aminmax(a.detach())) if a.numel() else (math.inf, -math.inf)
        )
        if self.ranks is None:
            return low, high
        lows, highs = self.ranks.gather(low), self.ranks.gather(high)
        if any(math.isnan(value) for value in (*lows, *highs)):
            return math.nan, math.nan
        return min(lows), max(highs)
