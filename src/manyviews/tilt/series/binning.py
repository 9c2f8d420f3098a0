"""Block averages of images, and where their centre lies then."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from manyviews.geometry.views import TiltGeometry


def block_average(image: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Mean of ``factor`` x ``factor`` blocks of an image ``(y, x)``; the remainder is cropped evenly."""
    if factor == 1:
        return image
    rows, columns = (side // factor for side in image.shape)
    top, left = (_first_pixel(side, factor) for side in image.shape)
    kept = image[top : top + rows * factor, left : left + columns * factor]
    means: NDArray[np.float32] = kept.reshape(rows, factor, columns, factor).mean(
        axis=(1, 3), dtype=np.float32
    )
    return means


def _first_pixel(side: int, factor: int) -> int:
    return (side % factor) // 2


def _centre_offset(side: int, factor: int) -> float:
    """Where the centre of the binned side lies, in unbinned pixels from the centre ``side // 2``."""
    middle_block = (side // factor) // 2
    return _first_pixel(side, factor) + middle_block * factor + (factor - 1) / 2 - side // 2


def bin_geometry(
    geometry: TiltGeometry, image_shape: tuple[int, int], pixel_size: float, factor: int
) -> TiltGeometry:
    """The geometry of block-averaged images.

    Pixel ``n // 2`` of a binned image is not where pixel ``n // 2`` of the full image was; the difference
    (half a pixel for even sides binned by two) goes into the shifts. ``pixel_size`` is the unbinned one,
    angstrom.
    """
    rows, columns = image_shape
    matrices = geometry.matrices.copy()
    matrices[:, 0, 3] -= _centre_offset(columns, factor) * pixel_size
    matrices[:, 1, 3] -= _centre_offset(rows, factor) * pixel_size
    return replace(geometry, matrices=matrices)
