"""Whether a map has the symmetry that is claimed for it, and a mask that has it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.maps.bands import apply, grid_places, linear
from manyviews.metrics.correlation import ncc

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_MOST_PLACES = 96  # along a side: turned maps and masks are coarse


def symmetry_correlation(volume: Float32, mask: Float32, group: str) -> float:
    """The least correlation of a low-passed map ``(D, D, D)`` with its turned copies inside a mask.

    The axes of the point group go through the middle of the box, as RELION's. 1 for C1. `InputError` if there
    is no such group.
    """
    coarse, within = _coarse(volume), _coarse(mask)
    centre = _centre(len(volume), len(coarse))
    turned = (_turned(coarse, rotation, centre) for rotation in _others(group))
    return min((ncc(one, coarse, within) for one in turned), default=1.0)


def symmetric_mask(mask: Float32, group: str) -> Float32:
    """A mask that covers what it covers in every copy that the point group makes equal."""
    coarse = _coarse(mask)
    centre = _centre(len(mask), len(coarse))
    whole = coarse
    for rotation in _others(group):
        whole = np.maximum(whole, _turned(coarse, rotation, centre))
    box, count = len(mask), len(coarse)
    if count == box:
        return np.clip(whole, 0, 1)
    reader = linear(np.arange(box, dtype=np.float64), count, box / count)
    return np.maximum(mask, np.clip(apply(reader, whole), 0, 1))


def _others(group: str) -> Float64:
    rotations = symmetry_rotations(group)
    return np.asarray(rotations[np.abs(rotations - np.eye(3)).max(axis=(1, 2)) > 1e-6])


def _coarse(volume: Float32) -> Float32:
    box = len(volume)
    if box <= _MOST_PLACES:
        return volume
    return apply(linear(grid_places(_MOST_PLACES, box), box, 1.0), volume)


def _centre(box: int, count: int) -> float:
    return (box // 2) * count / box


def _turned(volume: Float32, rotation: Float64, centre: float) -> Float32:
    matrix = rotation.T[::-1, ::-1]  # of (z, y, x)
    middle = np.full(3, centre)
    turned = ndimage.affine_transform(volume, matrix, offset=middle - matrix @ middle, order=1)
    return np.asarray(turned, dtype=np.float32)
