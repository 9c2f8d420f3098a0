"""How much noise projections have, read from their finest detail."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_NORMAL = 0.6744897501960817  # median of the absolute value of a standard normal number


def noise_of(projections: NDArray[np.float32]) -> float:
    """Standard deviation of a pixel's noise, if neighbours are independent: ``(view, z, x)``.

    From diagonal details of Haar wavelets (Donoho & Johnstone 1994, Biometrika 81:425), the median over
    views of each view's own.
    """
    views, rows, columns = projections.shape
    if rows < 2:
        details = np.diff(projections[:, 0, : columns // 2 * 2].reshape(views, -1, 2), axis=2) / np.sqrt(2)
        return float(np.median(np.median(np.abs(details[..., 0]), axis=1)) / _NORMAL)
    cut = projections[:, : rows // 2 * 2, : columns // 2 * 2]
    squares = cut.reshape(views, rows // 2, 2, columns // 2, 2)
    details = 0.5 * (squares[:, :, 0, :, 0] - squares[:, :, 0, :, 1] - squares[:, :, 1, :, 0]
                     + squares[:, :, 1, :, 1])  # fmt: skip
    each = np.median(np.abs(details).reshape(views, -1), axis=1) / _NORMAL
    return float(np.median(each))
