"""Whether images lie in the stack as their angles say, or sorted by angle: the images themselves tell.

Neighbours in angle look alike. If sections that follow each other in the stack are more alike than sections
that follow each other by the angles given, the stack is sorted and the angles are in another order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manyviews.io.mrc import MrcStack
from manyviews.tilt.series.binning import block_average

Float64 = NDArray[np.float64]
_SIDE = 64  # pixels to which images are reduced
_LOW_PASS = 0.1  # cycles a pixel of these
_LARGEST_SHIFT = 1 / 8  # of the side, between images that are not aligned
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
    """Low-pass filtered spectra ``(section, y, x)`` of the reduced images, mean 0 and norm 1."""
    factor = max(1, min(stack.shape[1:]) // _SIDE)
    rows, columns = (side // factor for side in stack.shape[1:])
    squared = np.fft.fftfreq(rows)[:, None] ** 2 + np.fft.fftfreq(columns)[None] ** 2
    low_pass = np.exp(-squared / (2 * _LOW_PASS**2))
    spectra = np.empty((stack.shape[0], rows, columns), dtype=np.complex128)
    for section in range(stack.shape[0]):
        small = block_average(stack.read(section)[0], factor)
        spectrum = np.fft.fft2(small.astype(np.float64)) * low_pass
        spectrum[0, 0] = 0.0
        norm = float(np.linalg.norm(spectrum)) / np.sqrt(spectrum.size)
        spectra[section] = spectrum / norm if norm > 0 else spectrum
    return spectra


def _likeness(spectra: NDArray[np.complex128], order: NDArray[np.int64]) -> Float64:
    """Largest cross-correlation of each image with the next in ``order``: images need not be aligned."""
    products = spectra[order[:-1]] * spectra[order[1:]].conj()
    correlations = np.fft.fftshift(np.fft.ifft2(products).real, axes=(1, 2))
    rows, columns = (max(1, int(_LARGEST_SHIFT * side)) for side in spectra.shape[1:])
    y, x = (side // 2 for side in spectra.shape[1:])
    near = correlations[:, y - rows : y + rows + 1, x - columns : x + columns + 1]
    peaks: Float64 = near.max(axis=(1, 2))
    return peaks
