"""A map from images whose poses are known, as in the last step of every refinement.

Every image, centred and weighted by its CTF over its noise, is added to `manyviews.operators.fourier_sums`,
whose damped quotient is the map. Nothing outside the particle is kept: it is noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from manyviews.alignment.map_alignment import soft_sphere
from manyviews.errors import InputError
from manyviews.metrics.fsc import FscCurve, fsc
from manyviews.operators.fourier_sums import HALVES, PADDING, FourierSums
from manyviews.operators.image_shift import shift_phases
from manyviews.particles.images.fourier_images import FourierImages

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
_POINTS_AT_ONCE = 2**21
_EDGE_PIXELS = 3.0


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


def reconstruct(
    images: FourierImages,
    rotations: ArrayLike,
    shifts: ArrayLike,
    *,
    halves: ArrayLike | None = None,
    symmetry: ArrayLike | None = None,
    diameter: float | None = None,
    padding: int = PADDING,
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
    for number in (1, 2):
        if not np.any(half == number):
            raise InputError(f"no image is in half {number}", fix="give both halves images, or none a half")
    sums = add_up(images, poses, moves, half, symmetry=symmetry, padding=padding)
    mask = torch.from_numpy(particle_mask(images.box, images.pixel_size, diameter))
    first, second = ((sums.half_volume(number, images.box) * mask).numpy() for number in range(HALVES))
    curve = fsc(first, second, images.pixel_size)
    agreed = curve.correlation[: images.radius + 1]
    # in full at every point, the damping would blur a map whose poses are known: docs/fourier-slices.md
    volume = sums.volume(agreed, images.box, at_points=1 / padding**3, mask=mask).numpy()
    return Reconstruction(volume, (first, second), curve)


def add_up(
    images: FourierImages,
    rotations: Float64,
    shifts: Float64,
    halves: NDArray[Any],
    *,
    symmetry: ArrayLike | None = None,
    padding: int = PADDING,
) -> FourierSums:
    """The sums of all images of a half, a few MB of them at a time; arguments as those of `reconstruct`."""
    turns = np.eye(3)[None] if symmetry is None else np.asarray(symmetry, dtype=np.float64)
    sums = FourierSums.zeros(images.radius, padding)
    for half in range(HALVES):
        for batch in _batches(np.flatnonzero(halves == half + 1), len(images.points)):
            part = images.select(batch)
            phases = shift_phases(shifts[batch] / images.pixel_size, images.points, images.box).numpy()
            weighted = part.precision() * part.ctf
            values, weights = weighted * part.values * phases, weighted * part.ctf
            for turn in turns:
                sums.add(half, rotations[batch] @ turn, images.points, values, weights)
    return sums.mirrored()


def particle_mask(box: int, pixel_size: float, diameter: float | None = None) -> Float32:
    """``(box, box, box)``: 1 inside a sphere, 0 outside, a raised cosine of three pixels between.

    The edge is centred on the sphere of ``diameter`` angstrom; without one the mask ends at the box's sides.
    """
    largest = box / 2 - _EDGE_PIXELS / 2
    radius = largest if diameter is None else min(largest, diameter / 2 / pixel_size)
    return soft_sphere(box, radius + _EDGE_PIXELS / 2, _EDGE_PIXELS)


def _batches(chosen: NDArray[np.integer], points: int) -> Iterator[NDArray[np.integer]]:
    step = max(1, _POINTS_AT_ONCE // max(1, points))
    return (chosen[first : first + step] for first in range(0, len(chosen), step))
