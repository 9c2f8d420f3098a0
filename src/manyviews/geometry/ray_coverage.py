"""How much of each ray's way through a slab lies in the volume, and how much beside it.

A slab of specimen goes on beyond the field of view. At a tilt, rays near the edges of an image leave the
volume through its sides, and see matter there that no voxel stands for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

_LEAST_SLOPE = 1e-6


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
    depth, height, width = volume_shape
    rows, columns = image_shape
    u = (np.arange(columns) - columns // 2) * pixel_size - matrix[0, 3]
    v = (np.arange(rows) - rows // 2) * pixel_size - matrix[1, 3]
    # points (x, y) of the ray of (u, v) at height z: plane^-1 ((u, v) - rise z)
    plane, rise = matrix[:2, :2], matrix[:2, 2]
    if abs(np.linalg.det(plane)) < _LEAST_SLOPE:
        return np.ones(image_shape, np.float32)
    inverse = np.linalg.inv(plane)
    slopes = -inverse @ rise
    low, high = _ends(depth, pixel_size)
    first, last = np.full(image_shape, low), np.full(image_shape, high)
    for row, slope, size in zip(inverse, slopes, (width, height), strict=True):
        start = row[0] * u[None, :] + row[1] * v[:, None]
        left, right = _ends(size, pixel_size)
        if abs(slope) < _LEAST_SLOPE:
            inside = (start >= left) & (start <= right)
            last = np.where(inside, last, first)
            continue
        ends = np.sort(np.stack([(left - start) / slope, (right - start) / slope]), axis=0)
        first, last = np.maximum(first, ends[0]), np.minimum(last, ends[1])
    return np.asarray(np.clip((last - first) / (high - low), 0.0, 1.0), dtype=np.float32)


def _ends(size: int, pixel_size: float) -> tuple[float, float]:
    """Faces of an axis of so many voxels, whose voxel ``n // 2`` is at 0, in angstrom."""
    return (-(size // 2) - 0.5) * pixel_size, (size - size // 2 - 0.5) * pixel_size
