"""Power of images by frequency: what is signal in it, and what is noise.

Frequencies are told apart by the eigenvalue of minus the Laplacian there, from 0 to 8 in an image: at low
frequencies that is the square of ``2 pi k`` with k in cycles a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from manyviews.operators.roughness import bend

Float64 = NDArray[np.float64]

SHELLS = 24
_EDGES = np.concatenate([[0.0], np.geomspace(0.02, 8.0 * (1.0 + 1e-9), SHELLS)])
_LEAST_SIDE = 8


@dataclass(frozen=True)
class Power:
    """Mean power of a pixel, by shell of frequencies that hold any.

    Attributes
    ----------
    roughness
        Eigenvalue of minus the Laplacian, the mean of a shell, rising: ``(shell,)``.
    frequencies
        How many there are in a shell of one image.
    power
        Mean over all views; white noise of variance s^2 has s^2 in every shell, and less in the first few,
        from which the level is taken.
    noise
        Variance of white noise in a pixel.
    """

    roughness: Float64
    frequencies: Float64
    power: Float64
    noise: float

    @classmethod
    def of(cls, shape: tuple[int, int], measured: Float64, noise: float) -> Power | None:
        """From `power_by_shell` of images of a ``shape``, their mean ``(shell,)``; None where too small."""
        if min(shape) < _LEAST_SIDE:
            return None
        shells, factors, roughness = _shells(shape)
        count = _sums(shells, factors)
        some = count > 0.0
        mean = _sums(shells, factors * roughness)[some] / count[some]
        return cls(mean, count[some], measured[some], noise)


def power_by_shell(image: NDArray[np.float32]) -> Float64:
    """Mean power of the frequencies in every shell of an image ``(y, x)``, tapered to its edges.

    ``(shell,)``; 0 where a shell has none, and for images of fewer than 8 rows or columns.
    """
    if min(image.shape) < _LEAST_SIDE:
        return np.zeros(SHELLS)
    shells, factors, _ = _shells(image.shape)
    rows, columns = (np.hanning(side + 2)[1:-1] for side in image.shape)
    window = np.outer(rows, columns)
    level = float((window * image).sum() / window.sum())
    spectrum = scipy.fft.rfft2(((image - level) * window).astype(np.float32))
    power = (spectrum.real**2 + spectrum.imag**2) / float((window**2).sum())
    count = _sums(shells, factors)
    return np.asarray(_sums(shells, factors * power) / np.maximum(count, 1.0))


def _shells(shape: tuple[int, ...]) -> tuple[NDArray[np.int64], Float64, Float64]:
    """Shell, multiplicity and roughness of every frequency of half a spectrum, ``(y, x // 2 + 1)``."""
    along_y, along_x = bend(scipy.fft.fftfreq(shape[0])), bend(scipy.fft.rfftfreq(shape[1]))
    roughness = along_y[:, None] + along_x[None]
    factors = np.full(roughness.shape, 2.0)
    factors[:, 0] = 1.0
    if shape[1] % 2 == 0:
        factors[:, -1] = 1.0
    factors[0, 0] = 0.0  # the level is no signal
    return np.digitize(roughness, _EDGES) - 1, factors, roughness


def _sums(shells: NDArray[np.int64], values: Float64) -> Float64:
    found = np.bincount(shells.ravel(), weights=values.ravel(), minlength=SHELLS)
    return np.asarray(found[:SHELLS], dtype=np.float64)
