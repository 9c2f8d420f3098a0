"""A map from images whose poses are known, as in the last step of every refinement.

Every image, weighted by its CTF over its noise, is added as a slice to a padded grid; weights likewise; the
quotient of the two sums, damped where the data are weaker than the noise, is transformed back. That is the
Wiener filter

    X = sum_i C_i Y_i / s_i  /  (sum_i C_i^2 / s_i + 1 / tau^2)

with the signal's power tau^2 in each shell taken from the correlation of two half maps (Scheres, J. Struct.
Biol. 180 (2012) 519). Nothing outside the particle is kept: it is noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from manyviews.alignment import map_alignment
from manyviews.errors import InputError
from manyviews.kernels import slices_cpu
from manyviews.metrics.fsc import FscCurve, fsc
from manyviews.operators.fourier_slice import grid_half, grid_to_volume, mirror_plane, squared_frequency
from manyviews.operators.image_shift import shift_phases
from manyviews.particles.images.fourier_images import FourierImages

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
_POINTS_AT_ONCE = 2**21
_EDGE_PIXELS = 3.0
_SMALLEST_WEIGHT = 1e-3


@dataclass(frozen=True)
class Reconstruction:
    """A map and how far it can be trusted.

    Attributes
    ----------
    volume
        ``(box, box, box)`` float32, Wiener filtered, zero outside the particle.
    half_volumes
        The same from each half of the images.
    correlation
        Fourier shell correlation of the half maps.
    """

    volume: Float32
    half_volumes: tuple[Float32, Float32]
    correlation: FscCurve


class SliceSums:
    """Sums over images on the padded half grid: numerator and denominator of the Wiener filter.

    Sums of parts of the images, or of several ranks, may be added (`merge`). Memory is 12 bytes a grid point,
    about ``4 (padding * radius)^3`` of them.
    """

    def __init__(self, box: int, radius: float, padding: int = 2) -> None:
        self.box, self.radius, self.padding = box, radius, padding
        h = grid_half(radius, padding)
        self.numerator = torch.zeros((2 * h + 1, 2 * h + 1, h + 2), dtype=torch.complex64)
        self.denominator = torch.zeros(self.numerator.shape, dtype=torch.float32)

    def add(
        self,
        points: NDArray[np.int32],
        rotations: ArrayLike,
        values: NDArray[np.complex64],
        weights: Float32,
    ) -> None:
        """Add slices: ``values (M, P)`` = C Y / s of centred images, ``weights (M, P)`` = C^2 / s."""
        slices_cpu.splat_weighted(
            self.numerator.numpy(),
            self.denominator.numpy(),
            np.asarray(rotations, dtype=np.float32),
            points,
            values,
            weights,
            self.padding,
        )

    def merge(self, other: SliceSums) -> SliceSums:
        """The sums of both."""
        both = SliceSums(self.box, self.radius, self.padding)
        torch.add(self.numerator, other.numerator, out=both.numerator)
        torch.add(self.denominator, other.denominator, out=both.denominator)
        return both

    def mean_weight(self) -> Float64:
        """Mean denominator in each shell, ``(ceil(radius) + 1,)``, mirror images counted."""
        weights = self.denominator.clone()
        mirror_plane(weights)
        shell = _grid_shells(len(weights) // 2, self.padding).reshape(-1)
        count = math.ceil(self.radius) + 1
        inside = shell < count
        total = torch.bincount(shell[inside], weights.reshape(-1)[inside].double(), count)
        return np.asarray(total / torch.bincount(shell[inside], minlength=count), dtype=np.float64)

    def solve(self, signal_power: ArrayLike | None = None, mask: Float32 | None = None) -> Float32:
        """The map ``(box, box, box)``.

        Weights on the fine grid scatter much more than the data do over a whole cycle per box; damped point
        by point (``mean / ratio``, the ratio of signal to noise of the shell), they would blur the map. So
        only ``1 / padding^3`` of the damping is done at points, and the rest as a filter of the masked map.

        Parameters
        ----------
        signal_power
            tau^2 in each shell, ``(shell,)``; None filters nothing.
        mask
            ``(box, box, box)`` multiplied into the map.
        """
        numerator, denominator = self.numerator.clone(), self.denominator.clone()
        mirror_plane(numerator)
        mirror_plane(denominator)
        mean = self.mean_weight()
        damping = np.maximum(_SMALLEST_WEIGHT * mean, np.finfo(np.float32).tiny)
        passed = np.ones_like(mean)
        if signal_power is not None:
            share = self.padding**3
            wanted = 1 / (share * np.maximum(np.asarray(signal_power, dtype=np.float64)[: len(mean)], 1e-30))
            damping = np.maximum(damping, wanted / share)
            passed = (mean + wanted / share) / np.maximum(mean + wanted, 1e-30)
        shell = torch.clamp(_grid_shells(len(denominator) // 2, self.padding), max=len(mean) - 1)
        denominator += torch.from_numpy(np.minimum(damping, 1e30).astype(np.float32))[shell]
        numerator /= denominator
        volume = grid_to_volume(numerator, self.box, self.radius, self.padding)
        if mask is not None:
            volume *= torch.from_numpy(mask)
        return filter_shells(volume, passed).numpy()


def reconstruct(
    images: FourierImages,
    rotations: ArrayLike,
    shifts: ArrayLike,
    *,
    halves: ArrayLike | None = None,
    symmetry: ArrayLike | None = None,
    diameter: float | None = None,
    padding: int = 2,
) -> Reconstruction:
    """Reconstruct from images in known poses.

    Parameters
    ----------
    images
        Their coefficients, CTF and noise.
    rotations
        ``(N, 3, 3)``: rows are the image's axes in the volume.
    shifts
        ``(N, 2)`` (x, y) in angstrom, what centres the image (``rlnOriginXAngst``, ``rlnOriginYAngst``).
    halves
        ``(N,)`` 1 or 2, the half each image belongs to; images in turn if not given.
    symmetry
        ``(S, 3, 3)`` rotations that leave the particle as it is, the identity among them.
    diameter
        Of the particle, in angstrom; what is outside is set to zero. The whole box if not given.
    padding
        Grid points per cycle per box.

    Raises
    ------
    InputError
        If one half has no image, or numbers of poses and images differ.
    """
    poses = np.asarray(rotations, dtype=np.float64).reshape(-1, 3, 3)
    moves = np.asarray(shifts, dtype=np.float64).reshape(-1, 2)
    if not len(poses) == len(moves) == len(images):
        raise InputError(f"there are {len(images)} images, {len(poses)} rotations and {len(moves)} shifts")
    half = np.arange(len(images)) % 2 + 1 if halves is None else np.asarray(halves)
    sums = []
    for number in (1, 2):
        chosen = np.flatnonzero(half == number)
        if not len(chosen):
            raise InputError(f"no image is in half {number}", fix="give both halves images, or none a half")
        sums.append(add_up(images, chosen, poses, moves, symmetry=symmetry, padding=padding))
    mask = soft_sphere(images.box, images.pixel_size, diameter)
    first, second = (part.solve(mask=mask) for part in sums)
    curve = fsc(first, second, images.pixel_size)
    power = signal_power(curve.correlation, sums[0].mean_weight() + sums[1].mean_weight(), padding)
    return Reconstruction(sums[0].merge(sums[1]).solve(power, mask), (first, second), curve)


def add_up(
    images: FourierImages,
    chosen: NDArray[np.integer],
    rotations: Float64,
    shifts: Float64,
    *,
    symmetry: ArrayLike | None = None,
    padding: int = 2,
) -> SliceSums:
    """The sums of some images, a few MB of them at a time; arguments as those of `reconstruct`."""
    turns = np.eye(3)[None] if symmetry is None else np.asarray(symmetry, dtype=np.float64)
    sums = SliceSums(images.box, images.radius, padding)
    for batch in _batches(chosen, len(images.points)):
        part = images.select(batch)
        phases = shift_phases(shifts[batch] / images.pixel_size, images.points, images.box).numpy()
        weighted = part.precision() * part.ctf
        values, weights = weighted * part.values * phases, weighted * part.ctf
        for turn in turns:
            sums.add(images.points, rotations[batch] @ turn, values, weights)
    return sums


def signal_power(correlation: ArrayLike, mean_weight: Float64, padding: int = 2) -> Float64:
    """tau^2 in each shell, from the correlation of half maps and the mean weight of the whole data.

    A correlation F of halves means a signal-to-noise ratio ``2 F / (1 - F)`` of the whole; the noise of an
    independent coefficient is one over its weight.
    """
    known = np.asarray(correlation, dtype=np.float64)[: len(mean_weight)]
    bounded = np.clip(np.pad(known, (0, len(mean_weight) - len(known)), mode="edge"), 1e-3, 0.999)
    return np.asarray(2 * bounded / (1 - bounded) / np.maximum(padding**3 * mean_weight, 1e-30))


def soft_sphere(box: int, pixel_size: float, diameter: float | None = None) -> Float32:
    """``(box, box, box)``: 1 inside a sphere, 0 outside, a raised cosine of three pixels between.

    The edge is centred on the sphere of ``diameter`` angstrom; without one the mask ends at the box's sides.
    """
    largest = box / 2 - _EDGE_PIXELS / 2
    radius = largest if diameter is None else min(largest, diameter / 2 / pixel_size)
    return map_alignment.soft_sphere(box, radius + _EDGE_PIXELS / 2, _EDGE_PIXELS)


def filter_shells(volume: torch.Tensor, passed: Float64) -> torch.Tensor:
    """A volume ``(box, box, box)`` times a factor for each shell, linear between, the last one beyond."""
    if np.all(passed == 1):
        return volume
    box = len(volume)
    along = torch.fft.fftfreq(box, 1 / box)
    radius = torch.sqrt(
        along[:, None, None] ** 2 + along[:, None] ** 2 + torch.fft.rfftfreq(box, 1 / box) ** 2
    )
    factor = np.interp(radius.numpy(), np.arange(len(passed)), passed).astype(np.float32)
    filtered: torch.Tensor = torch.fft.irfftn(
        torch.fft.rfftn(volume) * torch.from_numpy(factor), s=volume.shape
    )
    return filtered


def _batches(chosen: NDArray[np.integer], points: int) -> Iterator[NDArray[np.integer]]:
    step = max(1, _POINTS_AT_ONCE // max(1, points))
    return (chosen[first : first + step] for first in range(0, len(chosen), step))


def _grid_shells(half: int, padding: int) -> torch.Tensor:
    """Shell of every grid point in cycles per box, int64."""
    return torch.floor(torch.sqrt(squared_frequency(half).float()) / padding + 0.5).long()
