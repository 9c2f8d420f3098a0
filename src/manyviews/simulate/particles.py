"""Images of single particles as a microscope sees them: poses, projections, CTF, noise.

A simulated image is ``CTF_i * (projection at pose i, moved by minus its shift) + noise``, the shift being
the one that centres the image (RELION's ``rlnOriginX/YAngst``). Every image has its own stream of noise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft

from manyviews.geometry.poses import (
    direction_matrices,
    euler_to_matrices,
    matrices_to_euler,
    random_directions,
    random_rotations,
)
from manyviews.geometry.views import TiltGeometry
from manyviews.operators.contrast_transfer import Optics, ctf_values
from manyviews.operators.fourier_points import extract, half_plane, insert
from manyviews.operators.fourier_slice import FourierVolume
from manyviews.operators.image_shift import shift_phases
from manyviews.random import Stream, generator
from manyviews.simulate.phantoms import Gaussians

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Complex64 = NDArray[np.complex64]
Views = Literal["uniform", "belt"]

FINEST_SIGMA_PIXELS = 1.4
"""Narrowest Gaussian of `molecular_complex`: its transform has fallen to 6e-5 at the Nyquist frequency."""

COLOUR_LENGTH = 30.0
"""Angstrom; coloured noise falls off with frequency s as ``exp(-COLOUR_LENGTH s)``."""

_DOMAINS = 7
_GAUSSIANS_PER_DOMAIN = 24
_DIGITS = 9  # of lengths that are told apart
_FILLED_RADIUS = 0.34  # of the box; leaves room for shifts and for what the CTF spreads out
_LARGEST_BOX_FINE = 192  # up to here a grid three times as fine takes less than a gigabyte


@dataclass(frozen=True)
class Poses:
    """Where particles are seen from: ``angles (N, 3)`` rot, tilt, psi in degrees, as in `geometry.poses`.

    ``shifts (N, 2)`` are x, y in angstrom, the shift that centres the image.
    """

    angles: Float64
    shifts: Float64


def draw_poses(
    count: int, *, views: Views = "uniform", belt_width: float = 15.0, shift_sigma: float = 0.0, seed: int = 0
) -> Poses:
    """Random poses, rounded to four decimals so that a file holds them exactly.

    ``views`` are uniform, all rotations alike, or belt: side views, directions around the equator of the z
    axis, as of long particles that lie down, whose latitude has the standard deviation ``belt_width`` in
    degrees. ``shift_sigma`` is that of the shifts in x and in y, angstrom.
    """
    rng = generator(seed, Stream.POSES)
    if views == "uniform":
        matrices = random_rotations(count, rng)
    else:
        latitude = np.deg2rad(belt_width) * rng.standard_normal(count)
        around = random_directions(count, rng)[:, :2]
        around /= np.linalg.norm(around, axis=1, keepdims=True)
        side = np.cos(latitude)[:, None] * around
        directions = np.concatenate([side, np.sin(latitude)[:, None]], axis=1)
        matrices = direction_matrices(directions, rng.uniform(-180, 180, count))
    shifts = shift_sigma * generator(seed, Stream.SHIFTS).standard_normal((count, 2))
    return Poses(np.round(matrices_to_euler(matrices), 4), np.round(shifts, 4))


def draw_defocus(
    count: int, low: float, high: float, astigmatism: float, seed: int
) -> tuple[Float64, Float64]:
    """Random defocus ``(count, 2)`` in angstrom and its angle ``(count,)`` in degrees, rounded to 2 decimals.

    The mean of both directions is uniform between ``low`` and ``high``, their difference between 0 and
    ``astigmatism``.
    """
    rng = generator(seed, Stream.DEFOCUS)
    mean, half = rng.uniform(low, high, count), rng.uniform(0, astigmatism / 2, count)
    defocus: Float64 = np.stack([mean + half, mean - half], axis=1)
    return np.round(defocus, 2), np.round(rng.uniform(-90, 90, count), 2)


def molecular_complex(box: int, pixel_size: float, seed: int) -> Gaussians:
    """An irregular complex of seven globular domains, 168 Gaussians, about two thirds of the box wide.

    No symmetry, one hand, every density positive, a transform that ends before the Nyquist frequency: a
    particle on which every method should work, and be measured without doubts about the truth. The box is in
    pixels of ``pixel_size`` angstrom.
    """
    rng = generator(seed, Stream.COMPLEX)
    radii = rng.uniform(0.25, 0.42, _DOMAINS)
    middles = [np.zeros(3)]
    for domain in range(1, _DOMAINS):
        start = int(rng.integers(max(0, domain - 2), domain))  # a chain with branches
        reach = 0.8 * (radii[start] + radii[domain])
        tries = middles[start] + reach * random_directions(8, rng)
        clear = [min(np.linalg.norm(one - other) for other in middles) for one in tries]
        # all are as far from the start, and the last digit must not choose: it is the processor's
        middles.append(tries[int(np.argmax(np.round(clear, _DIGITS)))])
    inside = random_directions(_DOMAINS * _GAUSSIANS_PER_DOMAIN, rng)
    inside *= rng.uniform(0, 1, (len(inside), 1)) ** (1 / 3)
    places = np.repeat(np.array(middles), _GAUSSIANS_PER_DOMAIN, axis=0)
    places = places + np.repeat(radii, _GAUSSIANS_PER_DOMAIN)[:, None] * inside
    weights = rng.uniform(0.5, 1.5, len(places))
    places -= weights @ places / weights.sum()
    sigma = FINEST_SIGMA_PIXELS * pixel_size
    radius = max(_FILLED_RADIUS * box * pixel_size - 2 * sigma, sigma)
    places *= radius / np.linalg.norm(places, axis=1).max()
    return Gaussians.isotropic(weights, places, sigma * rng.uniform(1.0, 1.3, len(places)))


class Projector(ABC):
    """A specimen from which the transforms of projections are made, at fixed image frequencies ``points``."""

    points: NDArray[Any]
    box: int

    @abstractmethod
    def transforms(self, matrices: Float64) -> Complex64:
        """Unnormalised transforms ``(n, P)``, origin at the image centre, of views ``(n, 3, 3)``."""


class GaussianProjector(Projector):
    """Exact projections of Gaussians, sampled at pixel centres."""

    def __init__(self, specimen: Gaussians, box: int, pixel_size: float) -> None:
        self.specimen, self.box, self.pixel_size = specimen, box, pixel_size
        self.points = image_points(box)

    def transforms(self, matrices: Float64) -> Complex64:
        """See `Projector`."""
        poses = np.tile(np.eye(4), (len(matrices), 1, 1))
        poses[:, :3, :3] = matrices
        nothing = np.zeros(len(matrices))
        views = TiltGeometry(poses, nothing.astype(np.int64), np.arange(len(matrices)), nothing, nothing)
        images = self.specimen.project(views, (self.box, self.box), self.pixel_size)
        return np.asarray(extract(images, self.points), dtype=np.complex64)


class VolumeProjector(Projector):
    """Slices of a volume's transform, sampled three times as finely as the box asks for.

    Interpolation leaves an error of half a percent (twice as finely above 192 pixels: one percent).
    """

    def __init__(self, volume: Float32) -> None:
        self.box = len(volume)
        self.points = image_points(self.box)
        given = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))
        padding = 3 if self.box <= _LARGEST_BOX_FINE else 2
        self._seen = FourierVolume.of(given, (self.box - 1) // 2, padding)

    def transforms(self, matrices: Float64) -> Complex64:
        """See `Projector`."""
        return np.asarray(self._seen.slices(matrices, self.points).numpy(), dtype=np.complex64)


def image_points(box: int) -> NDArray[np.int32]:
    """Image frequencies below the Nyquist frequency, where a real image's transform has no free phase."""
    return half_plane((box - 1) // 2, box)


def particle_images(projector: Projector, poses: Poses, optics: Optics | None, pixel_size: float) -> Float32:
    """Noise-free images ``(n, box, box)``, white protein, frequencies up to below the Nyquist circle.

    Without ``optics`` there is no CTF, protein is as it projects; ``pixel_size`` is in angstrom.
    """
    points, box = projector.points, projector.box
    seen = projector.transforms(euler_to_matrices(poses.angles))
    seen = seen * shift_phases(-poses.shifts / pixel_size, points, box).numpy()
    if optics is not None:
        seen = seen * ctf_values(optics, points, box, pixel_size).numpy()
    return np.asarray(insert(seen, points, box), dtype=np.float32)


def particle_noise(first: int, count: int, box: int, pixel_size: float, colour: float, seed: int) -> Float32:
    """Gaussian noise ``(count, box, box)`` of variance 1 for images number ``first`` onwards.

    The noise of an image depends on its number and the seed only. A ``colour`` of 0 is white; otherwise the
    power at frequency s goes as ``1 + colour exp(-30 A s)``, with pixels of ``pixel_size`` angstrom.
    """
    noise = np.empty((count, box, box), dtype=np.float32)
    for number, image in enumerate(noise, start=first):
        generator(seed, Stream.PARTICLE_NOISE, number).standard_normal(dtype=np.float32, out=image)
    if colour == 0:
        return noise
    frequency = fft.fftfreq(box, pixel_size)
    power = 1 + colour * np.exp(-COLOUR_LENGTH * np.hypot(frequency[:, None], frequency))
    amplitude = np.sqrt(power / power.mean()).astype(np.float32)[:, : box // 2 + 1]
    return np.asarray(fft.irfft2(fft.rfft2(noise) * amplitude, s=(box, box)), dtype=np.float32)
