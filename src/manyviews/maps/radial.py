"""Filters that depend on the length of the frequency alone, and spectra by shells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from manyviews.metrics.fsc import shell_planes, transform

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
RealArray = NDArray[np.floating[Any]]


def plane_frequencies(box: int, pixel_size: float, plane: int) -> Float64:
    """Lengths ``(box, box // 2 + 1)``, 1/angstrom, of the frequencies in a z plane of a half-spectrum."""
    along = fft.fftfreq(box, pixel_size)
    ky, kx = along[:, None], fft.rfftfreq(box, pixel_size)
    return np.asarray(np.sqrt(along[plane] ** 2 + ky**2 + kx**2))


def radial_filter(
    volume: RealArray, pixel_size: float, weight: Callable[[Float64], Float64], *, threads: int = 0
) -> Float32:
    """A cube ``(D, D, D)`` whose frequencies are multiplied by a weight of their length in 1/angstrom."""
    return filtered_transform(transform(volume, threads=threads), pixel_size, weight, threads=threads)


def filtered_transform(
    spectrum: NDArray[Any], pixel_size: float, weight: Callable[[Float64], Float64], *, threads: int = 0
) -> Float32:
    """`radial_filter` of a half-spectrum ``(D, D, D // 2 + 1)``, which is left as it is."""
    box = len(spectrum)
    made = np.empty_like(spectrum)
    for plane in range(box):
        made[plane] = spectrum[plane] * weight(plane_frequencies(box, pixel_size, plane))
    found = fft.irfftn(made, (box,) * 3, overwrite_x=True, workers=threads or -1)
    return np.asarray(found, dtype=np.float32)


def low_pass_edge(frequency: Float64, limit: float, width: float) -> Float64:
    """1 below ``limit``, 0 from ``limit + width`` on, half a cosine between; 1/angstrom."""
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * np.clip((frequency - limit) / width, 0.0, 1.0)))


def gaussian_low_pass(frequency: Float64, half_at: float) -> Float64:
    """A Gaussian that is one half at this frequency; it does not ring."""
    return np.asarray(np.exp(-np.log(2.0) * (frequency / half_at) ** 2))


def shell_amplitudes(spectrum: NDArray[Any]) -> Float64:
    """Mean amplitude of each shell of a half-spectrum ``(D, D, D // 2 + 1)``: ``(D // 2 + 1,)``."""
    box = len(spectrum)
    shell_count = box // 2 + 1
    total, count = np.zeros((2, shell_count))
    for plane, shells in enumerate(shell_planes((box,) * 3)):
        inside = shells < shell_count
        total += np.bincount(shells[inside], np.abs(spectrum[plane]).ravel()[inside], shell_count)
        count += np.bincount(shells[inside], minlength=shell_count)
    return np.asarray(total / np.maximum(count, 1))
