"""The range of grey levels that OpenCV's engines see, since some of their constants are for 0 to 255."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

_BINS = 1000
_LEAST_SHARE = 0.005


def grey_range(image: Float32) -> tuple[float, float]:
    """The lowest and highest level that is not rare: of 1000 bins, those above 0.5 % of the fullest.

    As the published program does. Both are the same for an image without contrast or with NaN only.
    """
    finite = image[np.isfinite(image)]
    if finite.size == 0 or finite.min() == finite.max():
        return 0.0, 0.0
    counts, edges = np.histogram(finite, _BINS)
    often = np.flatnonzero(counts > _LEAST_SHARE * counts.max())
    return float(edges[often[0]]), float(edges[often[-1] + 1])


def to_grey(image: Float32, lowest: float, highest: float) -> Float32:
    """Levels of a range as 0 to 255, cut off beyond; not rounded."""
    grey = (image - np.float32(lowest)) * np.float32(255 / (highest - lowest))
    return np.asarray(np.clip(grey, 0, 255), dtype=np.float32)
