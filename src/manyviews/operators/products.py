"""Inner products of volumes and the distance between them, added up slice by slice in float64.

The number of threads changes no bit. On the CPU all slices are one task of a few threads: an operation of
torch for each of them would wait for its threads each time, milliseconds where other work has the processors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.kernels.products_cpu import slice_distances, slice_products
from manyviews.operators.slice_threads import each_block

Real = NDArray[np.floating[Any]]
_TOGETHER = 1 << 18  # pixels of a block of slices


def inner_product(a: torch.Tensor, b: torch.Tensor) -> float:
    """``<a, b>`` of real volumes of one shape."""
    if _has_kernel(a) and _has_kernel(b):
        return _over_slices(slice_products, a, b)
    slices = [torch.dot(x.reshape(-1), y.reshape(-1)) for x, y in zip(a, b, strict=True)]
    return float(torch.stack(slices).double().sum()) if slices else 0.0


def squared_distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """``|a - b|^2`` of real volumes of one shape."""
    if _has_kernel(a) and _has_kernel(b):
        return _over_slices(slice_distances, a, b)
    return sum(float(torch.linalg.vector_norm(x - y)) ** 2 for x, y in zip(a, b, strict=True))


def _has_kernel(a: torch.Tensor) -> bool:
    return not a.is_cuda and a.ndim == 3 and a.is_contiguous() and a.is_floating_point()


def _over_slices(kernel: Callable[[Real, Real, Real], None], a: torch.Tensor, b: torch.Tensor) -> float:
    if a.shape != b.shape:
        raise ValueError(f"volumes of shapes {tuple(a.shape)} and {tuple(b.shape)}")
    first, second = a.detach().numpy(), b.detach().numpy()
    sums = np.zeros(len(first))

    def some(_: None, z: slice) -> None:
        kernel(first[z], second[z], sums[z])

    together = max(1, _TOGETHER // max(1, first[:1].size))
    each_block(len(first), together, 0, lambda: None, some)
    return float(sums.sum())
