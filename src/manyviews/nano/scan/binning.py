"""Binning: projections averaged in blocks of pixels, and where the centre is afterwards."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


def binned(projections: Float32, factor: int) -> Float32:
    """Means of ``factor x factor`` pixels of ``(view, row, column)``; rows and columns left over are
    dropped.
    """
    if factor == 1:
        return projections
    views, rows, columns = projections.shape
    rows, columns = rows // factor, columns // factor
    blocks = projections[:, : rows * factor, : columns * factor]
    blocks = blocks.reshape(views, rows, factor, columns, factor)
    return np.asarray(blocks.mean(axis=(2, 4), dtype=np.float32))


def binned_center(center: float, factor: int) -> float:
    """The centre in binned pixels: pixel centres lie at whole numbers before and after."""
    return (center + 0.5) / factor - 0.5


def unbinned_center(center: float, factor: int) -> float:
    """The centre in pixels of the detector; the inverse of `binned_center`."""
    return (center + 0.5) * factor - 0.5
