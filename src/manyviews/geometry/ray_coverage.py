"""How much of each ray's way through a slab lies in the volume, and how much beside it.

A slab of specimen goes on beyond the field of view. At a tilt, rays near the edges of an image leave the
volume through its sides, and see matter there that no voxel stands for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Real = NDArray[np.floating[Any]]

_LEAST_SLOPE = 1e-6
_TOGETHER = 16  # rows


def ray_coverage(
    matrix: Float64, volume_shape: tuple[int, int, int], image_shape: tuple[int, int], pixel_size: float
) -> NDArray[np.float32]:
    """Part of each ray's way between the upper and the lower face that lies inside the sides, ``(y, x)``.

    Parameters
    ----------
    matrix
        ``(4, 4)`` of the view, see `manyviews.geometry.views`.
    volume_shape, image_shape
        ``(z, y, x)`` and ``(y, x)``.
    pixel_size
        Angstrom, of voxels and pixels.

    Returns
    -------
    From 0 to 1. Where a view looks along the faces, so that rays never leave between them, all is 1.
    """
    rows, columns = image_shape
    u = (np.arange(columns) - columns // 2) * pixel_size - matrix[0, 3]
    v = (np.arange(rows) - rows // 2) * pixel_size - matrix[1, 3]
    # points (x, y) of the ray of (u, v) at height z: plane^-1 ((u, v) - rise z)
    plane, rise = matrix[:2, :2], matrix[:2, 2]
    if abs(np.linalg.det(plane)) < _LEAST_SLOPE:
        return np.ones(image_shape, np.float32)
    inverse = np.linalg.inv(plane)
    slopes = -inverse @ rise
    found = np.empty(image_shape, np.float32)
    for begin in range(0, rows, _TOGETHER):
        some = slice(begin, begin + _TOGETHER)
        found[some] = _of_rows(inverse, slopes, u, v[some], volume_shape, pixel_size)
    return found


def _of_rows(
    inverse: Real, slopes: Real, u: Float64, v: Float64, shape: tuple[int, int, int], pixel_size: float
) -> Float64:
    """The same for the rays of some rows, whose work space stays in the caches."""
    depth, height, width = shape
    low, high = _ends(depth, pixel_size)
    first, last = np.full((len(v), len(u)), low), np.full((len(v), len(u)), high)
    for row, slope, size in zip(inverse, slopes, (width, height), strict=True):
        left, right = _ends(size, pixel_size)
        if abs(slope) < _LEAST_SLOPE:
            start = (row[0] * u)[None, :] + (row[1] * v)[:, None]
            last = np.where((start >= left) & (start <= right), last, first)
            continue
        near, far = (left, right) if slope > 0 else (right, left)
        start = (row[0] / slope * u)[None, :] + (row[1] / slope * v)[:, None]
        np.maximum(first, near / slope - start, out=first)
        np.minimum(last, far / slope - start, out=last)
    last -= first
    last /= high - low
    return np.clip(last, 0.0, 1.0, out=last)


def _ends(size: int, pixel_size: float) -> tuple[float, float]:
    """Faces of an axis of so many voxels, whose voxel ``n // 2`` is at 0, in angstrom."""
    return (-(size // 2) - 0.5) * pixel_size, (size - size // 2 - 0.5) * pixel_size
