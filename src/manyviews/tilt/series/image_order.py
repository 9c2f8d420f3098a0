"""Whether images lie in the stack as their angles say, or sorted by angle: the images themselves tell.

Neighbours in angle look alike. If sections that follow each other in the stack are more alike than sections
that follow each other by the angles given, the stack is sorted and the angles are in another order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manyviews.io.mrc import MrcStack

Float64 = NDArray[np.float64]
_SIDE = 64  # pixels to which images are reduced: what is left is low-pass filtered, too
_LEAST_SIGMA = 3.0
_FEWEST = 6


def sorted_sections_are_likelier(stack: MrcStack, tilts: Float64) -> bool | None:
    """Whether a stack looks sorted by angle although ``tilts (section,)`` in degrees are not.

    Compares the correlation of images next to each other by the one reading and by the other, pair by pair;
    None where the difference is less than three times its standard error.
    """
    if len(tilts) < _FEWEST:
        return None
    spectra = _spectra(stack)
    by_angle = np.argsort(tilts, kind="stable")
    as_given = _likeness(spectra, by_angle)
    as_sorted = _likeness(spectra, np.arange(len(tilts)))
    difference = as_sorted.mean() - as_given.mean()
    error = np.sqrt((as_sorted.var() + as_given.var()) / len(as_given))
    if abs(difference) < _LEAST_SIGMA * max(error, 1e-6):
        return None
    return bool(difference > 0)


def _spectra(stack: MrcStack) -> NDArray[np.complex128]:
    """Spectra ``(section, y, x)`` of the reduced images with mean 0 and norm 1, one image in memory."""
    factor = max(1, min(stack.shape[1:]) // _SIDE)
    rows, columns = (side // factor for side in stack.shape[1:])
    spectra = np.empty((stack.shape[0], rows, columns), dtype=np.complex128)
    for section in range(stack.shape[0]):
        image = stack.read(section)[0][: rows * factor, : columns * factor].astype(np.float64)
        small = image.reshape(rows, factor, columns, factor).mean(axis=(1, 3))
        small -= small.mean()
        norm = float(np.linalg.norm(small))
        spectra[section] = np.fft.fft2(small / norm if norm > 0 else small)
    return spectra


def _likeness(spectra: NDArray[np.complex128], order: NDArray[np.int64]) -> Float64:
    """Largest cross-correlation of each image with the next in ``order``: images need not be aligned."""
    size = spectra.shape[1] * spectra.shape[2]
    products = spectra[order[:-1]] * spectra[order[1:]].conj()
    peaks: Float64 = np.fft.ifft2(products).real.reshape(len(order) - 1, size).max(axis=1)
    return peaks
