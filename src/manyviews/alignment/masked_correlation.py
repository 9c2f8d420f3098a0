"""Where one image lies in another, by correlation over what both show and nothing else.

The ordinary correlation of two images of a limited field has a peak where their fields coincide, whatever
they show. Divided at every shift by the spread of what overlaps there, it has none (Padfield D, 2012, Masked
object registration in the Fourier domain, IEEE Transactions on Image Processing 21:2706-2718).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_LEAST_VARIANCE = 1e-4  # of an image's own, below which an overlap holds nothing


@dataclass(frozen=True)
class Peak:
    """The best shift, ``(x, y)`` in pixels, by which the second image is moved to lie on the first.

    ``correlation`` is its height from -1 to 1, ``score`` by how many standard deviations of all other shifts
    it stands above their mean.
    """

    shift: tuple[float, float]
    correlation: float
    score: float


def masked_peak(
    first: Float32,
    second: Float32,
    first_mask: Float32,
    second_mask: Float32,
    *,
    least_overlap: float = 0.3,
    reach: float | None = None,
) -> Peak:
    """The shift at which ``second (y, x)`` agrees best with ``first (y, x)``.

    Parameters
    ----------
    first_mask, second_mask
        What of them is known, from 0 to 1, of their shapes.
    least_overlap
        Part of the smaller mask that must overlap.
    reach
        Longest shift in pixels; None: as the overlap allows.
    """
    correlation, allowed = masked_correlation(first, second, first_mask, second_mask, least_overlap)
    rows, columns = correlation.shape
    y = (np.arange(rows) + rows // 2) % rows - rows // 2
    x = (np.arange(columns) + columns // 2) % columns - columns // 2
    if reach is not None:
        allowed &= np.hypot(y[:, None], x) <= reach
    if not allowed.any():
        return Peak((0.0, 0.0), 0.0, 0.0)
    seen = np.where(allowed, correlation, -np.inf)
    at = np.unravel_index(int(np.argmax(seen)), seen.shape)
    row, column = int(at[0]), int(at[1])
    height = float(correlation[row, column])
    others = correlation[allowed]
    spread = float(others.std())
    along_y = _between(correlation[(row + np.arange(-1, 2)) % rows, column])
    along_x = _between(correlation[row, (column + np.arange(-1, 2)) % columns])
    score = (height - float(others.mean())) / spread if spread > 0 else 0.0
    return Peak((float(x[column] + along_x), float(y[row] + along_y)), height, score)


def masked_correlation(
    first: Float32, second: Float32, first_mask: Float32, second_mask: Float32, least_overlap: float = 0.3
) -> tuple[Float64, NDArray[np.bool_]]:
    """Correlation coefficient at every shift ``(y, x)``, no shift first, and where enough overlaps."""
    shape = [
        scipy.fft.next_fast_len(a + b - 1, real=True) for a, b in zip(first.shape, second.shape, strict=True)
    ]

    def spectrum(image: NDArray[np.floating]) -> NDArray[np.complex128]:
        return np.asarray(scipy.fft.rfft2(image.astype(np.float64), shape))

    def correlate(a: NDArray[np.complex128], b: NDArray[np.complex128]) -> Float64:
        return np.asarray(scipy.fft.irfft2(a * b.conj(), shape))

    mask_1, mask_2 = spectrum(first_mask), spectrum(second_mask)
    image_1, image_2 = spectrum(first * first_mask), spectrum(second * second_mask)
    square_1 = spectrum(np.square(first, dtype=np.float64) * first_mask)
    square_2 = spectrum(np.square(second, dtype=np.float64) * second_mask)
    overlap = np.maximum(correlate(mask_1, mask_2), 1e-6)
    sum_1, sum_2 = correlate(image_1, mask_2), correlate(mask_1, image_2)
    spread_1 = np.maximum(correlate(square_1, mask_2) - sum_1**2 / overlap, 0.0)
    spread_2 = np.maximum(correlate(mask_1, square_2) - sum_2**2 / overlap, 0.0)
    allowed = overlap >= least_overlap * min(float(first_mask.sum()), float(second_mask.sum()))
    for spread, image, mask in ((spread_1, first, first_mask), (spread_2, second, second_mask)):
        allowed &= spread > _LEAST_VARIANCE * float((np.square(image, dtype=np.float64) * mask).sum())
    both = np.sqrt(spread_1 * spread_2)
    shared = correlate(image_1, image_2) - sum_1 * sum_2 / overlap
    return np.divide(shared, both, out=np.zeros_like(shared), where=allowed & (both > 0)), allowed


def _between(three: Float64) -> float:
    """Where a parabola through three values is highest, from -1/2 to 1/2."""
    bend = float(three[0] - 2 * three[1] + three[2])
    return float(np.clip(0.5 * (three[0] - three[2]) / bend, -0.5, 0.5)) if bend < 0 else 0.0
