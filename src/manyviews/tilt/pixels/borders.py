"""Borders without an image, as shifting and turning leaves them: one grey level, cut off sharply."""

from __future__ import annotations

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

_LEAST_PART = 0.002  # of the image
_MOST_INSIDE = 0.01  # of what is no border: images of few counts have one level everywhere
_LEAST_JUMP = 0.25  # of the spread of the image within
_GUARD = 2  # pixels next to a border are interpolated with it


def find_border(image: Float32) -> Bool | None:
    """Which pixels of an image ``(y, x)`` are border, with what is next to it; None where there is none.

    Empty parts of an image without noise look like a border too.
    """
    if min(image.shape) < 3 * _GUARD + 3:
        return None
    border = np.zeros(image.shape, bool)
    for level in _edge_levels(image):
        equal = image == level
        own = _touching(scipy.ndimage.binary_opening(equal, np.ones((2, 2), bool)))
        inside = equal & ~own
        if own.mean() < _LEAST_PART or own.all() or inside.sum() > _MOST_INSIDE * (~own).sum():
            continue
        if _is_sharp(image, own, float(level)):
            border |= scipy.ndimage.binary_propagation(own, mask=equal)
    if not border.any() or border.all():
        return None
    wide: Bool = scipy.ndimage.binary_dilation(border, np.ones((3, 3), bool), iterations=_GUARD)
    return wide


def _edge_levels(image: Float32) -> Float32:
    """Grey levels that several pixels of the edges have."""
    edges = np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])
    levels, counts = np.unique(edges, return_counts=True)
    often = np.argsort(-counts)[:2]
    return levels[often[counts[often] >= max(4, 0.01 * len(edges))]]


def _touching(region: Bool) -> Bool:
    """The parts of a region that touch an edge of the image."""
    labels, _ = scipy.ndimage.label(region)
    edges = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    found: Bool = np.isin(labels, np.setdiff1d(edges, 0))
    return found


def _is_sharp(image: Float32, border: Bool, level: float) -> bool:
    """Whether the image begins at once where the border ends."""
    near = scipy.ndimage.binary_dilation(border, np.ones((3, 3), bool), iterations=_GUARD + 1) & ~border
    if not near.any():
        return False
    spread = float(image[~border].std(dtype=np.float64))
    jump = float(np.sqrt(np.mean(np.square(image[near].astype(np.float64) - level))))
    return spread > 0 and jump > _LEAST_JUMP * spread
