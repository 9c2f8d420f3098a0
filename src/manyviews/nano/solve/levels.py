"""From coarse pixels to fine ones: which levels there are, and a volume and flows on the next of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.nano.room import Allocate, blocks, in_memory

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

FEWEST_COLUMNS = 48
FEWEST_ROWS = 16
MOST_LEVELS = 4


@dataclass(frozen=True)
class Level:
    """Projections ``shape (view, z, x)`` averaged over ``binning`` pixels a side, the axis at ``center``."""

    number: int
    binning: int
    shape: tuple[int, int, int]
    center: float
    iterations: int

    @property
    def name(self) -> str:
        """Of its stage."""
        return f"level-{self.number}"


def usual_levels(rows: int, columns: int) -> int:
    """How many halvings leave enough pixels to see motion by, and the finest."""
    count = 1
    while count < MOST_LEVELS and columns >> count >= FEWEST_COLUMNS and rows >> count >= FEWEST_ROWS:
        count += 1
    return count


def finer_flow(
    flow: torch.Tensor, rows: int, columns: int, *, allocate: Allocate = in_memory
) -> torch.Tensor:
    """Flows ``(n, 2, z, x)`` on twice as many pixels, of half the size: vectors count twice as many."""
    found = allocate((len(flow), 2, rows, columns))
    for part in blocks(len(flow), 2 * rows * columns):
        np.multiply(_finer(flow[part].numpy(), rows, columns), 2, out=found[part])
    return torch.from_numpy(found)


def finer_images(images: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Images ``(n, z, x)`` on twice as many pixels."""
    return torch.from_numpy(_finer(images.numpy(), rows, columns))


def finer_volume(
    volume: torch.Tensor, rows: int, columns: int, scale: float = 0.5, factor: float = 2.0, *,
    allocate: Allocate = in_memory,
) -> torch.Tensor:  # fmt: skip
    """A volume ``(z, y, x)`` on voxels that are smaller by a factor, times ``scale``.

    Sums along rays stay where that is one over the factor, as each voxel is so much shorter.
    """
    across, heights = _voxels(columns, volume.shape[2], factor), _pixels(rows, factor)
    found = allocate((rows, columns, columns))
    for part in blocks(rows, columns**2):
        fine = along(along(along(volume.numpy(), 0, heights[part]), 1, across), 2, across)
        np.multiply(np.float32(scale), fine, out=found[part])
    return torch.from_numpy(found)


def finer_gauge(gauge: torch.Tensor, rows: int) -> torch.Tensor:
    """Functions ``(4, z)`` of the height: three in pixels, the dilation without unit."""
    fine = along(gauge.numpy(), 1, _pixels(rows))
    fine[:3] *= 2
    return torch.from_numpy(fine)


def along(values: NDArray[Any], axis: int, places: Float64) -> NDArray[Any]:
    """Linear interpolation along an axis; beyond the ends the ends go on."""
    length = values.shape[axis]
    at = np.clip(places, 0, length - 1)
    first = np.minimum(at.astype(np.int64), max(length - 2, 0))
    part = (at - first).astype(values.dtype)
    shape = [1] * values.ndim
    shape[axis] = len(places)
    part = part.reshape(shape)
    low = np.take(values, first, axis=axis)
    high = np.take(values, np.minimum(first + 1, length - 1), axis=axis)
    found: NDArray[Any] = low + part * (high - low)
    return found


def _finer(images: Float32, rows: int, columns: int) -> Float32:
    """Along the last two axes."""
    return along(along(images, images.ndim - 2, _pixels(rows)), images.ndim - 1, _pixels(columns))


def _pixels(count: int, factor: float = 2.0) -> Float64:
    """Where fine pixels lie among those that are means of so many."""
    return np.asarray((np.arange(count) + 0.5) / factor - 0.5, dtype=np.float64)


def _voxels(count: int, coarse: int, factor: float = 2.0) -> Float64:
    """Where fine voxels of a slice lie among coarse ones: both count from the axis, at ``n // 2``."""
    return np.asarray((np.arange(count) - count // 2) / factor + coarse // 2, dtype=np.float64)
