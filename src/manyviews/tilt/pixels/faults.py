"""Bad pixels of images as they are stored, and how they are filled."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from manyviews.tilt.pixels.borders import find_border

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_COUNTS = 0.5  # weight from which a pixel's value is used as it is
_SIGMA, _WIDER = 2.0, 4.0  # pixels around a filled one that it is made of, then ever more


def _no_discs() -> Float64:
    return np.zeros((0, 3))


@dataclass(frozen=True)
class Faults:
    """Bad pixels of one image.

    Attributes
    ----------
    rows, columns
        Bad lines, from 0.
    border
        Whether it has a border without an image, which `find_border` finds again.
    discs
        ``(n, 3)`` row, column and radius in pixels, such as beads have.
    """

    rows: tuple[int, ...] = ()
    columns: tuple[int, ...] = ()
    border: bool = False
    discs: Float64 = field(default_factory=_no_discs)

    def __bool__(self) -> bool:
        return bool(self.rows or self.columns or self.border or len(self.discs))

    def weights(self, image: Float32) -> Float32:
        """0 for bad pixels of the image ``(y, x)``, else 1."""
        found = np.ones(image.shape, np.float32)
        found[list(self.rows)] = 0.0
        found[:, list(self.columns)] = 0.0
        border = find_border(image) if self.border else None
        if border is not None:
            found[border] = 0.0
        for row, column, radius in self.discs:
            _cut_disc(found, float(row), float(column), float(radius))
        return found


def _cut_disc(weights: Float32, row: float, column: float, radius: float) -> None:
    """0 where the disc is, in place."""
    first_row, last_row = (int(np.clip(row + way, 0, weights.shape[0])) for way in (-radius, radius + 1))
    first, last = (int(np.clip(column + way, 0, weights.shape[1])) for way in (-radius, radius + 1))
    y = np.arange(first_row, last_row)[:, None] - row
    x = np.arange(first, last)[None, :] - column
    weights[first_row:last_row, first:last][y**2 + x**2 <= radius**2] = 0.0


def filled(image: Float32, weights: Float32) -> Float32:
    """The image ``(y, x)`` with pixels that hardly count replaced by a mean of those around them."""
    good = weights >= _COUNTS
    if good.all() or not good.any():
        return image
    found = np.where(good, image, np.float32(0.0))
    missing, sigma = ~good, _SIGMA
    while missing.any() and sigma < 4 * max(image.shape):
        share = scipy.ndimage.gaussian_filter(good.astype(np.float32), sigma)
        mean = scipy.ndimage.gaussian_filter(np.where(good, image, np.float32(0.0)), sigma)
        near = missing & (share > 0.05)
        found[near] = mean[near] / share[near]
        missing &= ~near
        sigma *= _WIDER
    found[missing] = image[good].mean(dtype=np.float64)
    return found
