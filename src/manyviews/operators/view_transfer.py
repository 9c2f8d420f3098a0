"""What the microscope does to every view of a series: defocus that varies with depth, fading by dose."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray

from manyviews.geometry.view_depth import DepthPlane
from manyviews.geometry.views import TiltGeometry
from manyviews.kernels.defocus_cpu import TRANSFER, fill_transfer
from manyviews.operators.contrast_transfer import Optics, phase_coefficients, wavelength
from manyviews.operators.dose import fading

Float64 = NDArray[np.float64]

# Most by which the phase of the CTF at the Nyquist frequency changes from one level of defocus to the next.
_LEVEL_PHASE = np.pi / 4
# A slab of slices has one defocus; so far from it, of the distance of levels, may its faces be.
_SLAB_PART = 0.25
_LEAST_RANGE = 1e-3
_ENVELOPE_STEPS, _CORNER = 4096, 0.7072  # entries up to the corner of the frequencies, cycles a pixel


@dataclass(frozen=True)
class Response:
    """What is made of a transfer T before it is applied.

    By ``kind`` of `manyviews.kernels.defocus_cpu`: T itself, its sign, or ``T / (T^2 + constant)``.
    """

    kind: int = TRANSFER
    constant: float = 0.0


PLAIN = Response()


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
    slope
        Its size, 1 but for what a program has fitted.
    """

    optics: Optics
    dose: Float64
    hand: int = 0
    slope: float = 1.0

    @property
    def gradient(self) -> float:
        """Change of defocus with depth."""
        return self.hand * self.slope

    def __len__(self) -> int:
        return len(self.optics)

    def select(self, views: NDArray[np.int64]) -> ViewTransfer:
        """Some of the views."""
        return replace(self, optics=self.optics.select(views), dose=self.dose[views])

    def level_distance(self, pixel_size: float) -> float:
        """Difference of defocus in angstrom between levels: a small change of phase at Nyquist."""
        length = float(wavelength(self.optics.voltage_kv).max())
        return float(_LEVEL_PHASE / (np.pi * length * (0.5 / pixel_size) ** 2))

    def layer_slices(self, geometry: TiltGeometry, pixel_size: float) -> int:
        """Slices that may share one defocus in all views."""
        if self.gradient == 0.0:
            return 2**31
        rise = max(abs(self.slope * DepthPlane.of(matrix).rise) for matrix in geometry.matrices)
        return max(1, int(2 * _SLAB_PART * self.level_distance(pixel_size) / (rise * pixel_size)))

    def spread_pixels(self, pixel_size: float) -> int:
        """How far the CTF spreads a point at most, in pixels: the wavelength times defocus and frequency."""
        length = wavelength(self.optics.voltage_kv)
        nyquist = 0.5 / pixel_size
        farthest = length * nyquist * np.abs(self.optics.defocus).max(axis=1)
        aberrated = self.optics.spherical_aberration_mm * 1e7 * length**3 * nyquist**3
        return int(np.ceil((farthest + aberrated).max() / pixel_size)) + 2

    def at_defocus(
        self, view: int, change: Float64, grid: TransferGrid, response: Response = PLAIN
    ) -> torch.Tensor:
        """Transfer ``(level, y, x // 2 + 1)`` of a view, defocus changed by ``change (level,)`` angstrom."""
        one = self.optics.select(np.full(len(change), view))
        moved = Optics(**{**vars(one), "defocus": one.defocus + change[:, None]})
        envelope, steps = self._envelope(view, grid.pixel_size)
        values = np.empty((len(change), *grid.spectrum_shape), np.float32)
        for phase, level in zip(phase_coefficients(moved), values, strict=True):
            fill_transfer(grid.frequencies, phase, envelope, steps, level, response.kind, response.constant)
        return torch.from_numpy(values)

    def _envelope(self, view: int, pixel_size: float) -> tuple[Float64, float]:
        """What scale, B factor and dose leave by frequency, for `fill_transfer`."""
        scale, b_factor = self.optics.scale[view], self.optics.b_factor[view]
        if scale == 1.0 and b_factor == 0.0 and self.dose[view] == 0.0:
            return np.empty(0), 0.0
        steps = _ENVELOPE_STEPS / (_CORNER / pixel_size)
        radius = np.arange(_ENVELOPE_STEPS + 2) / steps
        left = scale * np.exp(-0.25 * b_factor * radius**2)
        if self.dose[view] > 0:
            left *= fading(radius, float(self.dose[view]), float(self.optics.voltage_kv[view]))
        return left, steps


@dataclass(frozen=True)
class TransferGrid:
    """Frequencies of images padded so that what the CTF spreads does not come round to the other side.

    ``image_shape`` is ``(y, x)``, ``padded`` at least that.
    """

    image_shape: tuple[int, int]
    padded: tuple[int, int]
    pixel_size: float

    @classmethod
    def of(cls, image_shape: tuple[int, int], pixel_size: float, spread: int) -> TransferGrid:
        """For images with pixels of ``pixel_size`` angstrom and a transfer that reaches ``spread`` pixels."""
        height, width = (scipy.fft.next_fast_len(side + spread, real=True) for side in image_shape)
        return cls(image_shape, (height, width), pixel_size)

    @cached_property
    def frequencies(self) -> tuple[Float64, Float64]:
        """Of a padded image's `rfft2`: along y and along x, in 1/angstrom."""
        height, width = self.padded
        return scipy.fft.fftfreq(height, self.pixel_size), scipy.fft.rfftfreq(width, self.pixel_size)

    @cached_property
    def points(self) -> Float64:
        """All of them, ``(n, 2)``: (kx, ky) in cycles a pixel."""
        along_y, along_x = (part * self.pixel_size for part in self.frequencies)
        ky, kx = np.meshgrid(along_y, along_x, indexing="ij")
        return np.stack([kx.ravel(), ky.ravel()], axis=1)

    @property
    def spectrum_shape(self) -> tuple[int, int]:
        """Of a padded image's `rfft2`."""
        return self.padded[0], self.padded[1] // 2 + 1


def defocus_levels(low: float, high: float, distance: float) -> Float64:
    """Levels from ``low`` to ``high``, evenly spaced by ``distance`` at most; one where there is no range."""
    if high - low < _LEAST_RANGE:
        return np.array([0.5 * (low + high)])
    return np.linspace(low, high, int(np.ceil((high - low) / distance)) + 1)
