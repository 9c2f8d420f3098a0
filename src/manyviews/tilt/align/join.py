"""Several series in one frame: each one's volume is laid on that of the first."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.ndimage
import torch
from numpy.typing import NDArray

from manyviews.alignment.masked_correlation import Peak, masked_peak
from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry, rotation_z

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_REACH_DEGREES = 12.0
_STEP_DEGREES = 2.0
_FINE_STEP_DEGREES = 0.5
_LEAST_OVERLAP = 0.5
_LEAST_CORRELATION = 0.5
_SLOW = 1 / 16  # sigma of what varies slowly, as a part of the smaller side


@dataclass(frozen=True)
class Registration:
    """A specimen point X of the first volume is at ``Rz(degrees) (X - shift)`` in the other; pixels.

    ``correlation`` is that of the two, seen along the beam.
    """

    degrees: float
    shift: Float64
    correlation: float

    @property
    def matrix(self) -> Float64:
        """4 x 4."""
        found = np.eye(4)
        found[:3, :3] = rotation_z(self.degrees)
        found[:3, 3] = -found[:3, :3] @ self.shift
        return found


def register(first: torch.Tensor, other: torch.Tensor, stack: int) -> Registration:
    """Lay a volume ``(z, y, x)`` on the first one: turned about the beam, and shifted.

    Seen along the beam they are alike whatever their missing wedges; then along the beam itself.

    Raises
    ------
    InputError
        If they show different specimens.
    """
    flat, own = (_details(volume.sum(dim=0).numpy()) for volume in (first, other))
    coarse = np.arange(-_REACH_DEGREES, _REACH_DEGREES + 1e-6, _STEP_DEGREES)
    turn, _ = _best_turn(flat, own, coarse)
    fine = turn + np.arange(-_STEP_DEGREES, _STEP_DEGREES + 1e-6, _FINE_STEP_DEGREES)
    turn, peak = _best_turn(flat, own, fine)
    if peak.correlation < _LEAST_CORRELATION:
        raise InputError(
            f"stacks 1 and {stack + 1} show different specimens, or the direction of an axis is wrong: seen "
            f"along the beam their volumes correlate at {peak.correlation:.2f}",
            fix="give stacks of one specimen, and --axis-angle for each, as it lies in the common specimen",
        )
    across = np.array([*peak.shift, 0.0])
    laid = _laid(other.numpy(), turn, across)
    across[2] = _along_beam(first.numpy(), laid)
    return Registration(turn, across, peak.correlation)


def joined(geometry: TiltGeometry, registration: Registration) -> TiltGeometry:
    """Views of the first volume; in the pixels of the registration."""
    axes = geometry.axis_degrees - registration.degrees
    return replace(geometry, matrices=geometry.matrices @ registration.matrix, axis_degrees=axes)


def _details(image: Float32) -> Float32:
    """An image ``(y, x)`` less what varies slowly: any two specimens are alike in that."""
    slow = scipy.ndimage.gaussian_filter(image, _SLOW * min(image.shape), mode="nearest")
    return np.asarray(image - slow, np.float32)


def _best_turn(first: Float32, other: Float32, degrees: Float64) -> tuple[float, Peak]:
    mask = np.ones(first.shape, np.float32)
    found = []
    for turn in degrees:
        turned = _laid(other[None], float(turn), np.zeros(3))[0]
        seen = _laid(mask[None], float(turn), np.zeros(3))[0]
        found.append(masked_peak(first, turned, mask, seen, least_overlap=_LEAST_OVERLAP))
    best = int(np.argmax([peak.correlation for peak in found]))
    return float(degrees[best]), found[best]


def _laid(volume: Float32, degrees: float, shift: Float64) -> Float32:
    """Slices as they lie in the frame of the first volume: at X what the other has at ``Rz (X - shift)``."""
    matrix = rotation_z(degrees)[1::-1, 1::-1]
    middle = np.array(volume.shape[1:]) // 2
    start = middle - matrix @ (middle + shift[1::-1])
    return np.stack(
        [scipy.ndimage.affine_transform(one, matrix, start, order=1, output=np.float32) for one in volume]
    )


def _along_beam(first: Float32, other: Float32) -> float:
    """By how many slices to move the other along z; between slices by a parabola."""
    depth = len(first)
    length = 2 * depth
    spectra = [np.fft.rfft(volume.reshape(depth, -1), length, axis=0) for volume in (first, other)]
    correlation = np.fft.irfft((spectra[0] * spectra[1].conj()).sum(axis=1), length)
    best = int(np.argmax(correlation))
    low, middle, high = correlation[(best + np.arange(-1, 2)) % length]
    bend = low - 2 * middle + high
    between = 0.5 * (low - high) / bend if bend < 0 else 0.0
    return float((best + depth) % length - depth + np.clip(between, -0.5, 0.5))
