"""Bands of frequencies of two half maps, and means over soft windows around places of the map.

A band about the frequency c weighs others by cos^2 of their distance in log f, down to zero a ``ratio`` away;
bands a ratio apart add up to one. Each band is looked at on a grid as coarse as it allows, so that all of
them together cost a few transforms of the whole map. Local means are over Gaussian windows, as wide as a band
is coarse, applied with the mask as a weight: what lies outside of it does not count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft

from manyviews.metrics.fsc import transform

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
RealArray = NDArray[np.floating[Any]]
Spectrum = NDArray[np.complexfloating[Any, Any]]

WINDOW_WAVELENGTHS = 1.5
"""Standard deviation of a window, in wavelengths of its band."""
WIDTH = 1.25
"""Ratio of the frequency where a band ends to its centre."""
_POINTS = (
    2.3  # of a grid, for each Fourier pixel of the highest frequency: squares must not alias to low ones
)
_NEGLIGIBLE = 1e-7  # of the middle of a window
_SMALL = 48  # voxels along a side: smaller maps are looked at everywhere, larger ones at every other voxel


@dataclass(frozen=True)
class Band:
    """Frequencies about ``centre`` in 1/angstrom; ``lowest``: with all below it."""

    centre: float
    lowest: bool = False

    @property
    def highest_frequency(self) -> float:
        """Where it ends, 1/angstrom."""
        return self.centre * WIDTH

    def weights(self, frequency: NDArray[Any]) -> Float32:
        """From 0 to 1 for each length of a frequency, 1/angstrom."""
        tiny = np.finfo(np.float32).tiny
        away = np.log(np.maximum(frequency, tiny) / self.centre) / math.log(WIDTH)
        if self.lowest:
            away = np.maximum(away, 0.0)
        return np.asarray(np.cos(0.5 * np.pi * np.clip(away, -1, 1)) ** 2, dtype=np.float32)

    @property
    def fourier_volume(self) -> float:
        """In 1/angstrom^3: what is independent of noise in it is so many samples for each cubic angstrom.

        ``(int S)^2 / int S^2`` for the power S, the fourth power of a cosine, of both signs of frequencies.
        """
        shell = 4 * math.pi * self.centre**3 * 1.0286 * math.log(WIDTH)
        return shell if not self.lowest else max(shell, 4 / 3 * math.pi * self.centre**3)


class HalfSpectra:
    """Transforms of two half maps, cubes of one size, and their mask; memory: two and a half volumes.

    ``at`` places along each axis are where local means are told, every other voxel of large maps.
    """

    def __init__(
        self, first: RealArray, second: RealArray, mask: Float32, pixel_size: float, threads: int = 0
    ) -> None:
        self.box = len(first)
        self.pixel_size = pixel_size
        self.threads = threads
        self.spectra = [transform(np.asarray(half, np.float32), threads=threads) for half in (first, second)]
        self.mask = mask
        places = self.box if self.box <= _SMALL else -(-self.box // 2)
        self.places = grid_places(places, self.box)

    @property
    def side(self) -> float:
        """Of the box, angstrom."""
        return self.box * self.pixel_size

    def grid(self, band: Band) -> int:
        """Points along each side on which a band is looked at."""
        least = math.ceil(_POINTS * band.highest_frequency * self.side)
        return min(self.box, int(fft.next_fast_len(max(8, least), real=True)))

    def band_maps(self, band: Band) -> tuple[Float32, Float32]:
        """The band of both halves ``(n, n, n)`` on its grid."""
        points = self.grid(band)
        first, second = (self._band_map(spectrum, band, points) for spectrum in self.spectra)
        return first, second

    def _band_map(self, spectrum: Spectrum, band: Band, points: int) -> Float32:
        part = cropped(spectrum, self.box, points)
        # by the square of the distance from frequency zero, a whole number of Fourier pixels
        squares = 3 * (points // 2) ** 2 + 1
        weights = band.weights(np.sqrt(np.arange(squares)) / self.side) * np.float32((points / self.box) ** 3)
        along = np.rint(fft.fftfreq(points, 1 / points)).astype(np.int32) ** 2
        in_plane = along[:, None] + along[: points // 2 + 1]
        for plane in range(points):
            part[plane] *= weights[in_plane + along[plane]]
        found = fft.irfftn(part, (points,) * 3, overwrite_x=True, workers=self.threads or -1)
        return np.asarray(found, dtype=np.float32)


@dataclass(frozen=True)
class LocalMeans:
    """Sums over the window around each place ``(m, m, m)`` of one band of the halves.

    ``cross``, ``first`` and ``second`` are of their product and squares, ``samples`` is how many independent
    real samples the window holds.
    """

    cross: Float32
    first: Float32
    second: Float32
    samples: Float32

    @property
    def correlation(self) -> Float32:
        """Local Fourier shell correlation, between -1 and 1."""
        norm = np.sqrt(self.first) * np.sqrt(self.second)
        found: Float32 = np.divide(self.cross, norm, out=np.zeros_like(norm), where=norm > 0)
        return found


def local_means(halves: HalfSpectra, band: Band, maps: tuple[Float32, Float32], floor: float) -> LocalMeans:
    """Means of the products of a band's maps; ``floor`` is the weight of what is outside the mask."""
    points = len(maps[0])
    step = halves.box / points
    sigma = WINDOW_WAVELENGTHS / band.centre / halves.pixel_size  # voxels
    grid = grid_places(points, halves.box)
    window = _gaussian(halves.places, grid, sigma)
    weights = mask_on(halves, points) + np.float32(floor)
    first, second = maps
    product = np.empty_like(first)

    def mean(one: Float32, other: Float32) -> Float32:
        np.multiply(one, other, out=product)
        np.multiply(product, weights, out=product)
        return apply(window, product)

    cross, one, other = mean(first, second), mean(first, first), mean(second, second)
    total = apply(window, weights)
    np.multiply(weights, weights, out=product)
    squares = apply(_gaussian(halves.places, grid, sigma / math.sqrt(2)), product)
    voxel = (step * halves.pixel_size) ** 3
    volume = np.divide(total**2, squares, out=np.zeros_like(total), where=squares > 0) * voxel
    return LocalMeans(cross, one, other, np.asarray(band.fourier_volume * volume, dtype=np.float32))


def mask_on(halves: HalfSpectra, points: int) -> Float32:
    """The mask read between its voxels at the points of a grid."""
    if points == halves.box:
        return halves.mask
    grid = grid_places(points, halves.box)
    return np.clip(apply(linear(grid, halves.box, 1.0), halves.mask), 0, 1)


def cropped(spectrum: Spectrum, box: int, points: int) -> Spectrum:
    """A copy of the low frequencies of a half-spectrum of ``box`` voxels, as of fewer; without Nyquist's."""
    if points == box:
        return spectrum.copy()
    made = np.zeros((points, points, points // 2 + 1), spectrum.dtype)
    for own, other in _corners(points):
        made[own] = spectrum[other]
    return made


def add_cropped(total: Spectrum, spectrum: Spectrum, points: int) -> None:
    """Add a half-spectrum of fewer points to where `cropped` took it from."""
    if spectrum.shape == total.shape:
        total += spectrum
        return
    for own, other in _corners(points):
        total[other] += spectrum[own]


def _corners(points: int) -> list[tuple[tuple[slice, slice, slice], tuple[slice, slice, slice]]]:
    """Slices of both signs along z and y, of the smaller spectrum and of the larger one."""
    top = (points - 1) // 2
    signs = (slice(0, top + 1), slice(-top, None))
    columns = slice(0, top + 1)
    return [((z, y, columns), (z, y, columns)) for z in signs for y in signs]


def grid_places(points: int, box: int) -> Float64:
    """Where the points of a grid lie along an axis of a box, in voxels."""
    return np.arange(points, dtype=np.float64) * (box / points)


def linear(places: Float64, count: int, step: float) -> Float32:
    """``(place, count)`` weights that read between samples at 0, step, 2 step, ..., the last one beyond."""
    at = np.clip(places / step, 0, count - 1)
    low = np.minimum(at.astype(int), max(0, count - 2))
    part = (at - low).astype(np.float32)
    weights = np.zeros((len(places), count), np.float32)
    rows = np.arange(len(places))
    weights[rows, low] = 1 - part
    weights[rows, np.minimum(low + 1, count - 1)] += part
    return weights


def _gaussian(places: Float64, grid: Float64, sigma: float) -> Float32:
    """``(place, point)``; no window reaches over the border to the other side."""
    weights = np.exp(-0.5 * ((places[:, None] - grid) / sigma) ** 2)
    # numbers too small for their type would slow the product down
    return np.where(weights > _NEGLIGIBLE, weights, 0.0).astype(np.float32)


def apply(weights: Float32, volume: Float32) -> Float32:
    """The same weights ``(m, n)`` along each axis of a cube ``(n, n, n)``: ``(m, m, m)``."""
    matrix = torch.from_numpy(weights)
    given = torch.from_numpy(np.ascontiguousarray(volume))
    along_x = given @ matrix.T
    along_y = torch.matmul(matrix, along_x)
    places, points = matrix.shape
    found: Float32 = (matrix @ along_y.reshape(points, -1)).reshape(places, places, places).numpy()
    return found
