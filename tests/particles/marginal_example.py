"""A few noisy images of a blob, small enough for sums to be written out."""

from __future__ import annotations

import numpy as np
import torch

from manyviews.geometry.poses import random_directions
from manyviews.operators.fourier_points import half_plane
from manyviews.operators.fourier_slice import FourierVolume
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.sagd.lattice import PoseLattice

BOX, RADIUS = 12, 4


def random_lattice(directions: int, in_plane: int, shifts: int, seed: int = 0) -> PoseLattice:
    """Random points with unequal weights."""
    rng = np.random.default_rng(seed)

    def log_weights(count: int) -> np.ndarray:
        return np.log(rng.dirichlet(np.full(count, 3.0)))

    return PoseLattice(
        random_directions(directions, rng),
        log_weights(directions),
        np.arange(in_plane) * 360.0 / in_plane,
        log_weights(in_plane),
        rng.normal(size=(shifts, 2)),
        log_weights(shifts),
        direction_spacing=3.6 / np.sqrt(directions),
        in_plane_spacing=2 * np.pi / in_plane,
        shift_spacing=1.0,
    )


def blob_volume(box: int = BOX, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Three Gaussians."""
    rng = np.random.default_rng(seed)
    axis = np.arange(box) - box // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    volume = np.zeros((box,) * 3)
    for centre in rng.normal(scale=box / 8, size=(3, 3)):
        apart = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2
        volume += np.exp(-apart / (box / 8) ** 2)
    return torch.from_numpy(volume).to(dtype)


def noisy_images(
    lattice: PoseLattice,
    count: int = 3,
    *,
    noise: float = 20.0,
    seed: int = 0,
    box: int = BOX,
    radius: int = RADIUS,
    dtype: type[np.complexfloating] = np.complex128,
) -> FourierImages:
    """Images of `blob_volume` at random points of a lattice; noise is the variance of a coefficient."""
    rng = np.random.default_rng(seed)
    points = half_plane(radius, box)
    chosen = [rng.integers(0, size, count) for size in lattice.shape]
    rotations = np.concatenate(
        [lattice.rotations(chosen[0][i : i + 1], chosen[1][i : i + 1]) for i in range(count)]
    )
    slices = FourierVolume.of(blob_volume(box), radius).slices(rotations, points).numpy()
    ctf = np.cos(0.15 * np.sum(points**2, axis=1) * rng.uniform(0.5, 1.5, (count, 1)))
    clean = ctf * lattice.phases(chosen[2], points, box) * slices
    errors = rng.normal(size=clean.shape) + 1j * rng.normal(size=clean.shape)
    errors[:, 0] = np.sqrt(2) * errors[:, 0].real
    return FourierImages(
        points,
        (clean + np.sqrt(noise / 2) * errors).astype(dtype),
        ctf.astype(np.float32),
        np.stack([np.linspace(0.8, 1.2, radius + 1), np.ones(radius + 1)]).astype(np.float32) * noise,
        rng.integers(0, 2, count).astype(np.int32),
        box,
        1.0,
        radius,
    )
