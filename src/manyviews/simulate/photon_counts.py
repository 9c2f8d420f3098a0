"""What a detector counts behind a specimen: an uneven beam, photons, an offset, and a slow background."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from manyviews.random import Stream, generator

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_UNEVEN = 0.1  # standard deviation of the beam about its mean
_OFFSET = 100.0  # grey values without a beam
_READOUT = 2.0  # standard deviation of it
_BRIGHTEST = 50_000.0  # grey value of the mean beam, where there are more photons than that
_BACKGROUND_WIDTH = 1 / 32  # sigma of the blur, of the columns
_FLATS, _DARKS = 0, 1


@dataclass(frozen=True)
class Detector:
    """A beam of ``photons`` a pixel on an uneven detector; None: so many that there is no noise.

    ``beam (z, x)`` is about 1; grey values are ``gain`` times photons plus 100.
    """

    photons: float | None
    beam: Float64
    seed: int

    @classmethod
    def make(cls, shape: tuple[int, int], photons: float | None, seed: int) -> Detector:
        """A detector ``(z, x)`` with its own beam."""
        rough = generator(seed, Stream.SCAN_BEAM).standard_normal(shape)
        smooth = ndimage.gaussian_filter(rough, max(shape) / 8, mode="nearest")
        scale = float(smooth.std()) or 1.0
        return cls(photons, np.clip(1 + _UNEVEN * (smooth - smooth.mean()) / scale, 0.5, 1.5), seed)

    @property
    def gain(self) -> float:
        """Grey values of a photon."""
        return 1.0 if self.photons is None else min(1.0, _BRIGHTEST / self.photons)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """What grey values are stored as: whole numbers, but for those without noise."""
        return np.dtype(np.float32 if self.photons is None else np.uint16)

    def view(self, projection: NDArray[np.floating], view: int) -> NDArray[np.generic]:
        """Grey values ``(z, x)`` behind what takes the logarithm of the beam down by ``projection``."""
        return self._counted(np.exp(-projection.astype(np.float64)), Stream.SCAN_COUNTS, view)

    def flat(self, number: int) -> NDArray[np.generic]:
        """Grey values ``(z, x)`` without a specimen."""
        return self._counted(np.ones(self.beam.shape), Stream.SCAN_BEAM, _FLATS, number)

    def dark(self, number: int) -> NDArray[np.generic]:
        """Grey values ``(z, x)`` without a beam."""
        return self._counted(np.zeros(self.beam.shape), Stream.SCAN_BEAM, _DARKS, number)

    def transmission(self, grey: NDArray[np.generic]) -> Float64:
        """What part of the beam the grey values are of, beam and offset known; at least half a photon."""
        counted = (grey.astype(np.float64) - _OFFSET) / self.gain
        return np.asarray(np.maximum(counted, 0.5) / (self._mean() * self.beam))

    def _mean(self) -> float:
        return _BRIGHTEST if self.photons is None else self.photons

    def _counted(self, transmitted: Float64, stream: Stream, *keys: int) -> NDArray[np.generic]:
        expected = self._mean() * self.beam * transmitted
        if self.photons is None:
            return np.asarray(expected + _OFFSET, dtype=np.float32)
        rng = generator(self.seed, stream, *keys)
        grey = self.gain * rng.poisson(expected) + _OFFSET + _READOUT * rng.standard_normal(expected.shape)
        return np.clip(np.rint(grey), 0, np.iinfo(np.uint16).max).astype(np.uint16)


def slow_background(shape: tuple[int, int], view: int, seed: int) -> Float64:
    """A blurred random image ``(z, x)`` of mean 0 and variance 1, another in every view."""
    rough = generator(seed, Stream.SCAN_BACKGROUND, view).standard_normal(shape)
    smooth = ndimage.gaussian_filter(rough, max(1.0, shape[1] * _BACKGROUND_WIDTH), mode="reflect")
    smooth -= smooth.mean()
    return np.asarray(smooth / (float(smooth.std()) or 1.0))
