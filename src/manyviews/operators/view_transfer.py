"""What the microscope does to every view of a series: defocus that varies with depth, fading by dose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray

from manyviews.geometry.view_depth import DepthPlane
from manyviews.geometry.views import TiltGeometry
from manyviews.operators.contrast_transfer import Optics, ctf_values, wavelength
from manyviews.operators.dose import fading

Float64 = NDArray[np.float64]

# Most by which the phase of the CTF at the Nyquist frequency changes from one level of defocus to the next.
_LEVEL_PHASE = np.pi / 4
# A slab of slices has one defocus; so far from it, of the distance of levels, may its faces be.
_SLAB_PART = 0.25
_LEAST_RANGE = 1e-3


@dataclass(frozen=True)
class ViewTransfer:
    """Contrast transfer and dose of the views of a geometry.

    Attributes
    ----------
    optics
        Of every view, defocus as it is at the specimen's centre.
    dose
        ``(view,)`` electrons per square angstrom that the specimen had seen, halfway through the view; zeros:
        nothing fades.
    hand
        Sign of the change of defocus with depth (`manyviews.geometry.view_depth`); 0: it does not change.
    """

    optics: Optics
    dose: Float64
    hand: int = 0

    def __len__(self) -> int:
        return len(self.optics)

    def select(self, views: NDArray[np.int64]) -> ViewTransfer:
        """Some of the views."""
        return ViewTransfer(self.optics.select(views), self.dose[views], self.hand)

    def level_distance(self, pixel_size: float) -> float:
        """Difference of defocus in angstrom between levels: a small change of phase at Nyquist."""
        length = float(wavelength(self.optics.voltage_kv).max())
        return float(_LEVEL_PHASE / (np.pi * length * (0.5 / pixel_size) ** 2))

    def slab_slices(self, geometry: TiltGeometry, pixel_size: float) -> int:
        """Slices that may share one defocus in all views."""
        if self.hand == 0:
            return 2**31
        rise = max(abs(DepthPlane.of(matrix).rise) for matrix in geometry.matrices)
        return max(1, int(2 * _SLAB_PART * self.level_distance(pixel_size) / (rise * pixel_size)))

    def spread_pixels(self, pixel_size: float) -> int:
        """How far the CTF spreads a point at most, in pixels: the wavelength times defocus and frequency."""
        length = wavelength(self.optics.voltage_kv)
        nyquist = 0.5 / pixel_size
        farthest = length * nyquist * np.abs(self.optics.defocus).max(axis=1)
        aberrated = self.optics.spherical_aberration_mm * 1e7 * length**3 * nyquist**3
        return int(np.ceil((farthest + aberrated).max() / pixel_size)) + 2

    def at_defocus(self, view: int, change: Float64, grid: TransferGrid) -> torch.Tensor:
        """Transfer ``(level, y, x // 2 + 1)`` of a view, defocus changed by ``change (level,)`` angstrom."""
        one = self.optics.select(np.full(len(change), view))
        moved = Optics(**{**vars(one), "defocus": one.defocus + change[:, None]})
        values = ctf_values(moved, grid.points, 1, grid.pixel_size)
        if self.dose[view] > 0:
            radius = np.linalg.norm(grid.points, axis=1) / grid.pixel_size
            left = fading(radius, float(self.dose[view]), float(self.optics.voltage_kv[view]))
            values *= torch.from_numpy(left.astype(np.float32))
        return values.reshape(len(change), *grid.spectrum_shape)


@dataclass(frozen=True)
class TransferGrid:
    """Frequencies of images padded so that what the CTF spreads does not come round to the other side.

    ``image_shape`` is ``(y, x)``, ``padded`` at least that; ``points (n, 2)`` are (kx, ky) in cycles a pixel.
    """

    image_shape: tuple[int, int]
    padded: tuple[int, int]
    pixel_size: float
    points: Float64

    @classmethod
    def of(cls, image_shape: tuple[int, int], pixel_size: float, spread: int) -> TransferGrid:
        """For images with pixels of ``pixel_size`` angstrom and a transfer that reaches ``spread`` pixels."""
        height, width = (scipy.fft.next_fast_len(side + spread, real=True) for side in image_shape)
        ky, kx = np.meshgrid(scipy.fft.fftfreq(height), scipy.fft.rfftfreq(width), indexing="ij")
        points = np.stack([kx.ravel(), ky.ravel()], axis=1)
        return cls(image_shape, (height, width), pixel_size, points)

    @property
    def spectrum_shape(self) -> tuple[int, int]:
        """Of a padded image's `rfft2`."""
        return self.padded[0], self.padded[1] // 2 + 1


def defocus_levels(low: float, high: float, distance: float) -> Float64:
    """Levels from ``low`` to ``high``, evenly spaced by ``distance`` at most; one where there is no range."""
    if high - low < _LEAST_RANGE:
        return np.array([0.5 * (low + high)])
    return np.linspace(low, high, int(np.ceil((high - low) / distance)) + 1)
