"""Slopes of volumes used at once, slice by slice: what needs `differences`, without room for three volumes.

``slabs`` are ranks that share a volume; sums are of this rank's slices, in float64, slice by slice: the
number of threads changes no bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.kernels.slopes_cpu import pull_slopes, shorten_slopes, slope_products
from manyviews.operators.differences import differences, divergence, neighbour_slices
from manyviews.operators.slice_threads import each_block
from manyviews.parallel.world import World

Vector = tuple[torch.Tensor, ...]
Allocate = Callable[[], torch.Tensor]


def products_of_slopes(u: torch.Tensor, v: torch.Tensor, slabs: World | None = None) -> NDArray[np.float64]:
    """``<grad u, grad u>, <grad u, grad v>, <grad v, grad v>`` of volumes ``(z, y, x)``: ``(3,)``."""
    (_, behind_u), (_, behind_v) = neighbour_slices(u, slabs), neighbour_slices(v, slabs)
    first, second = u.detach().numpy(), v.detach().numpy()
    found = np.zeros((len(first), 3))

    def add(_: None, z: slice) -> None:
        slope_products(first, behind_u, second, behind_v, z.start, found[z.start])

    each_block(len(first), 1, 0, lambda: None, add)
    return np.asarray(found.sum(axis=0), dtype=np.float64)


def shorten(
    u: torch.Tensor, duals: Vector, reach: float, allocate: Allocate, slabs: World | None = None
) -> tuple[Vector, float]:
    """Slopes of u and ``duals`` (volumes along z, y, x) together, no longer than ``reach``, as new volumes.

    Also returns the sum of the lengths of u's slopes, its total variation.
    """
    if u.is_cuda:
        return shorten_by_torch(u, duals, reach, slabs)
    _, behind = neighbour_slices(u, slabs)
    volume, old = u.detach().numpy(), tuple(part.detach().numpy() for part in duals)
    found = tuple(allocate() for _ in duals)
    new = tuple(part.detach().numpy() for part in found)
    lengths, limit = np.zeros(len(volume)), volume.dtype.type(reach)

    def some(_: None, z: slice) -> None:
        lengths[z.start] = shorten_slopes(volume, behind, limit, z.start, old, new)

    each_block(len(volume), 1, 0, lambda: None, some)
    return found, float(lengths.sum())


def pull(new: Vector, old: Vector, allocate: Allocate, slabs: World | None = None) -> torch.Tensor:
    """The transpose of the slopes of ``2 new - old``, zero where they lead out of the whole volume."""
    if new[0].is_cuda:
        return pull_by_torch(new, old, slabs)
    out = allocate()
    last = 2.0 * new[0][-1] - old[0][-1]
    before = None if slabs is None else slabs.shift(last.contiguous(), 1)
    front = (last[None][:0] if before is None else before[None]).numpy()
    written = out.detach().numpy()
    first, second = (tuple(part.detach().numpy() for part in volumes) for volumes in (new, old))

    def some(line: NDArray[np.floating[Any]], z: slice) -> None:
        pull_slopes(first, second, front, z.start, line, written)

    each_block(len(written), 1, 0, lambda: np.empty(written.shape[2], written.dtype), some)
    return out


def shorten_by_torch(
    u: torch.Tensor, duals: Vector, reach: float, slabs: World | None = None
) -> tuple[Vector, float]:
    """`shorten` on any device, with room for a few volumes more."""
    slopes = differences(u, slabs)
    variation = float(torch.linalg.vector_norm(slopes, dim=0).sum(dtype=torch.float64))
    for part, dual in zip(slopes, duals, strict=True):
        part.add_(dual)
    slopes *= reach / torch.linalg.vector_norm(slopes, dim=0).clamp_(min=reach)
    return tuple(part.contiguous() for part in slopes), variation


def pull_by_torch(new: Vector, old: Vector, slabs: World | None = None) -> torch.Tensor:
    """`pull` on any device; slopes that lead out of the whole volume must be zero."""
    ahead = torch.stack([2.0 * one - other for one, other in zip(new, old, strict=True)])
    return divergence(ahead, slabs).neg_()
