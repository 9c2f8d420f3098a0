"""How voxels are shared among the bins of a detector, for `manyviews.kernels.streams_cpu`, which says why.

Every voxel ``(z, s)`` of a view has its nearest bin, which gets what the weights of the bins below and above
leave. Back-projection goes from voxel to voxel, and wants these numbers for several views side by side;
projection goes from bin to bin, and wants the voxels nearest to each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray

VIEWS_TOGETHER = 16
# What falls outside the detector is parked two bins beyond its ends, where nobody looks.
PARKED = 2


@njit(inline="always")
def _side_weight(distance, half):  # type: ignore[no-untyped-def]
    """Footprint at ``distance >= half`` bins from its centre, ``half`` of the smoothing width."""
    inside = max(0.0, 1.0 + half - distance)
    curved = min(inside, 2.0 * half)
    return curved * curved * (0.25 / half) + inside - curved


@njit(inline="always")
def _share(t, half, bins):  # type: ignore[no-untyped-def]
    """The nearest bin of a place on a detector of ``bins``, and the weights of the bins below and above."""
    place = min(max(np.floor(t + 0.5), -1.0 * PARKED), bins + PARKED - 1.0)
    difference = min(max(t - place, -0.5), 0.5)
    return np.int32(place), _side_weight(1.0 + difference, half), _side_weight(1.0 - difference, half)


@njit(parallel=True, nogil=True, cache=True)
def _share_places(cosines, sines, offsets, bins, nearest, lower, upper):  # type: ignore[no-untyped-def]
    """Fill the tables of `PlaceShares`."""
    blocks, depth, columns, together = nearest.shape
    for task in prange(blocks * depth):
        block = task // depth
        z = task % depth
        first = block * together
        count = min(together, len(cosines) - first)
        base, step, half = np.empty(count), np.empty(count), np.empty(count)
        for v in range(count):
            cosine, sine = cosines[first + v], sines[first + v]
            step[v] = cosine
            half[v] = 0.5 * max(abs(cosine), abs(sine))
            base[v] = offsets[first + v] + sine * (z - depth // 2) - cosine * (columns // 2)
        for s in range(columns):
            for v in range(count):
                place, low, high = _share(base[v] + step[v] * s, half[v], bins)
                nearest[block, z, s, v], lower[block, z, s, v], upper[block, z, s, v] = place, low, high


@njit(parallel=True, nogil=True, cache=True)
def _list_voxels(cosines, sines, offsets, depth, columns, ends, reach, voxels, lower, upper):  # type: ignore[no-untyped-def]
    """Fill the tables of `BinShares`: a counting sort of the voxels of every view."""
    bins = ends.shape[1] - 2 * PARKED - 1
    for view in prange(len(cosines)):
        cosine, sine = cosines[view], sines[view]
        half = 0.5 * max(abs(cosine), abs(sine))
        places = np.empty((depth, columns), np.int32)
        low, high = np.empty((depth, columns), lower.dtype), np.empty((depth, columns), lower.dtype)
        for z in range(depth):
            base = offsets[view] + sine * (z - depth // 2) - cosine * (columns // 2)
            for s in range(columns):
                places[z, s], low[z, s], high[z, s] = _share(base + cosine * s, half, bins)
        end = ends[view]
        end[:] = 0
        for z in range(depth):
            for s in range(columns):
                end[places[z, s] + PARKED + 1] += 1
        for bin_ in range(1, len(end)):
            end[bin_] += end[bin_ - 1]
        reach[view, :, 0] = columns
        reach[view, :, 1] = 0
        free = end.copy()
        for z in range(depth):
            for s in range(columns):
                bin_ = places[z, s] + PARKED
                at = free[bin_]
                free[bin_] = at + 1
                voxels[view, at] = z * columns + s
                lower[view, at] = low[z, s]
                upper[view, at] = high[z, s]
                reach[view, bin_, 0] = min(reach[view, bin_, 0], s)
                reach[view, bin_, 1] = max(reach[view, bin_, 1], s + 1)


@dataclass(frozen=True)
class PlaceShares:
    """Nearest bins, and weights of the bins below and above: ``(block of views, z, s, view of the block)``.

    In the last block entries of views that there are not have any value.
    """

    nearest: NDArray[np.int32]
    lower: NDArray[Any]
    upper: NDArray[Any]

    @classmethod
    def of(
        cls, arguments: tuple[torch.Tensor, ...], bins: int, frame: tuple[int, int], dtype: np.dtype[Any]
    ) -> PlaceShares:
        """For cosines, sines and offsets ``(view,)``, a detector of so many bins and a frame ``(z, s)``."""
        cosines, sines, offsets = (float64(values) for values in arguments)
        blocks = max(1, -(-len(cosines) // VIEWS_TOGETHER))
        shape = (blocks, *frame, max(1, -(-len(cosines) // blocks)))
        made = cls(np.empty(shape, np.int32), np.empty(shape, dtype), np.empty(shape, dtype))
        _share_places(cosines, sines, offsets, bins, made.nearest, made.lower, made.upper)
        return made


@dataclass(frozen=True)
class BinShares:
    """For every view its voxels, bin by bin from `PARKED` before the first one.

    Attributes
    ----------
    ends
        ``(view, bin + 1)``: the voxels of a bin are those from its entry to the next one.
    reach
        ``(view, bin, 2)``: first and one past last s of these voxels.
    voxels, lower, upper
        ``(view, z s)``: voxels as ``z S + s``, and weights of the bins below and above.
    """

    ends: NDArray[np.int64]
    reach: NDArray[np.int32]
    voxels: NDArray[np.int32]
    lower: NDArray[Any]
    upper: NDArray[Any]

    @classmethod
    def of(
        cls, arguments: tuple[torch.Tensor, ...], bins: int, frame: tuple[int, int], dtype: np.dtype[Any]
    ) -> BinShares:
        """As `PlaceShares.of`."""
        cosines, sines, offsets = (float64(values) for values in arguments)
        views, size = len(cosines), frame[0] * frame[1]
        made = cls(
            np.empty((views, bins + 2 * PARKED + 1), np.int64),
            np.empty((views, bins + 2 * PARKED, 2), np.int32),
            np.empty((views, size), np.int32),
            np.empty((views, size), dtype),
            np.empty((views, size), dtype),
        )
        tables = made.ends, made.reach, made.voxels, made.lower, made.upper
        _list_voxels(cosines, sines, offsets, *frame, *tables)
        return made


def float64(values: torch.Tensor) -> NDArray[np.float64]:
    """A tensor as the kernels take numbers of views."""
    return np.ascontiguousarray(values.detach().cpu().numpy().astype(np.float64))


def footprint_variance(
    cosines: NDArray[np.float64],
    sines: NDArray[np.float64],
    offsets: NDArray[np.float64],
    depth: int,
    columns: int,
) -> NDArray[np.float64]:
    """Mean variance of the weights of every view over the voxels of a frame, in squared bins: ``(view,)``."""
    out = np.empty(len(cosines))
    _variances(cosines, sines, offsets, depth, columns, out)
    return out


@njit(parallel=True, nogil=True, cache=True)
def _variances(cosines, sines, offsets, depth, columns, out):  # type: ignore[no-untyped-def]
    for view in prange(len(cosines)):
        half = 0.5 * max(abs(cosines[view]), abs(sines[view]))
        total = 0.0
        for z in range(depth):
            for s in range(columns):
                t = cosines[view] * (s - columns // 2) + sines[view] * (z - depth // 2) + offsets[view]
                d = t - math.floor(t + 0.5)
                lower = _side_weight(1.0 + d, half)
                upper = _side_weight(1.0 - d, half)
                total += (1.0 - lower - upper) * d * d + lower * (1.0 + d) ** 2 + upper * (1.0 - d) ** 2
        out[view] = total / (depth * columns)
