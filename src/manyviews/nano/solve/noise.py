"""How much noise projections have, read from their finest detail."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_NORMAL = 0.6744897501960817  # median of the absolute value of a standard normal number


def noise_of(projections: NDArray[np.float32]) -> float:
    """Standard deviation of a pixel's noise, if neighbours are independent: ``(view, z, x)``.

    From second differences along both axes (Immerkaer 1996, Comput. Vis. Image Underst. 64:300), which see
    no slopes, by the median of their size; the median over views of each view's own. What is as fine as
    pixels counts as noise.
    """
    own = [_of_view(image) for image in projections]
    return float(np.median(own))


def _of_view(image: NDArray[np.float32]) -> float:
    details, gain = image, 1.0
    for axis in range(2):
        if image.shape[axis] > 2:
            details = np.diff(details, n=2, axis=axis)
            gain *= 6.0
    return float(np.median(np.abs(details)) / (_NORMAL * np.sqrt(gain)))
