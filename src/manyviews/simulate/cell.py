"""A slab that looks like a piece of a cell: membranes, vesicles, barrels and globules, all Gaussians."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from manyviews.random import Stream, generator
from manyviews.simulate.box import MARGIN_SIGMAS, Box, Outline
from manyviews.simulate.phantoms import Gaussians

Float64 = NDArray[np.float64]

_AREA_OF_A_VESICLE = 6000.0  # square smallest-sigma units of field for each object of a kind
_AREA_OF_A_BARREL = 1500.0
_AREA_OF_A_GLOBULE = 60.0
_AREA_OF_A_MEMBRANE = 16000.0


def cell_slab(
    volume_shape: tuple[int, int, int],
    pixel_size: float,
    seed: int,
    *,
    smallest_sigma_pixels: float = 2.0,
    lateral_extent: float = 1.0,
    outline: Outline = "rectangle",
) -> Gaussians:
    """A cell-like slab, different for every seed; every density is positive.

    The narrowest Gaussian has sigma ``smallest_sigma_pixels``, so that at the default of 2 pixels its
    spectrum has fallen to 3e-9 at the Nyquist frequency: the grid resolves everything. Every Gaussian keeps 4
    sigma from the faces of the volume ``(z, y, x)`` of voxels of ``pixel_size`` angstrom, or, with
    ``lateral_extent`` above 1, from the upper and lower face only.

    Parameters
    ----------
    lateral_extent
        Size of the specimen over the size of the volume, in x and y: above 1 it goes on outside the field of
        view, as real specimens do, and tilted views see parts that the volume does not hold.
    outline
        circle keeps the specimen in the largest circle of the field, so that it stays in every view whatever
        the direction of the tilt axis.

    Returns
    -------
    Around 0.02 Gaussians per square pixel of the field.

    Raises
    ------
    InputError
        If the volume is too small to hold anything.
    """
    box = Box.of_volume(volume_shape, smallest_sigma_pixels, lateral_extent=lateral_extent, outline=outline)
    rng = generator(seed, Stream.CELL)
    parts = [
        *(_membrane(box, rng) for _ in range(_count(box, _AREA_OF_A_MEMBRANE, at_most=6))),
        *(_vesicle(box, rng) for _ in range(_count(box, _AREA_OF_A_VESICLE))),
        *(_barrel(box, rng) for _ in range(_count(box, _AREA_OF_A_BARREL))),
        _globules(box, rng, _count(box, _AREA_OF_A_GLOBULE)),
    ]
    everything = Gaussians.concatenate(parts)
    reach = MARGIN_SIGMAS * np.sqrt(np.diagonal(everything.covariance, axis1=1, axis2=2))
    kept = everything.select(box.holds(everything.centre, reach))
    unit = smallest_sigma_pixels * pixel_size
    return Gaussians(kept.amplitude, kept.centre * unit, kept.covariance * unit**2)


def _count(box: Box, area: float, at_most: int | None = None) -> int:
    count = max(1, round(box.area() / area))
    return count if at_most is None else min(count, at_most)


def _oriented(normal: Float64, thickness: float, width: float) -> Float64:
    """Covariances ``(n, 3, 3)`` of discs across unit normals ``(n, 3)``."""
    across = np.einsum("ni,nj->nij", normal, normal)
    return np.asarray(width**2 * (np.eye(3) - across) + thickness**2 * across, dtype=np.float64)


def _membrane(box: Box, rng: np.random.Generator) -> Gaussians:
    """A wavy sheet through the slab, leaning against the beam, tiled with discs."""
    spacing, width = 3.0, 2.0
    length = 1.1 * float(np.hypot(*box.half[:2]))
    along, height = np.meshgrid(
        np.arange(-length, length, spacing), np.arange(-box.half[2], box.half[2] + spacing, spacing)
    )
    waves = rng.uniform([0.02, 0.05, 0], [0.10, 0.15, 2 * np.pi], (2, 3))  # amplitude, wave number, phase
    lean, direction = rng.uniform(-0.6, 0.6), rng.uniform(0, np.pi)
    offset = rng.uniform(-0.5, 0.5) * np.min(box.half[:2])
    sideways, slope = offset + lean * height, np.zeros_like(along)
    for size, number, phase in waves:
        sideways = sideways + size / number**1.5 * np.sin(number * along + phase)
        slope += size / number**0.5 * np.cos(number * along + phase)
    normal = np.stack([-slope, np.ones_like(slope), np.full_like(slope, -lean)], axis=-1).reshape(-1, 3)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    points = np.stack([along, sideways, height], axis=-1).reshape(-1, 3)
    sheet = Gaussians(np.full(len(points), 0.35), points, _oriented(normal, 1.0, width))
    return sheet.moved(Rotation.from_euler("z", direction).as_matrix(), np.zeros(3))


def _vesicle(box: Box, rng: np.random.Generator) -> Gaussians:
    """A sphere tiled with discs; where the slab is thinner than the vesicle its caps are missing."""
    spacing, width = 3.0, 1.8
    radius = rng.uniform(6.0, 14.0)
    count = int(4 * np.pi * radius**2 / spacing**2)
    # Fibonacci sphere: points nearly evenly spread over the sphere
    turn = np.pi * (3 - np.sqrt(5)) * np.arange(count)
    z = 1 - (2 * np.arange(count) + 1) / count
    normal = np.stack([np.sqrt(1 - z**2) * np.cos(turn), np.sqrt(1 - z**2) * np.sin(turn), z], axis=1)
    centre = box.random_point(rng, radius + MARGIN_SIGMAS * width)
    return Gaussians(np.full(count, 0.4), centre + radius * normal, _oriented(normal, 1.0, width))


def _barrel(box: Box, rng: np.random.Generator) -> Gaussians:
    """Two to four rings of seven Gaussians, stacked: chaperonins of many lengths, any orientation."""
    rings, ring_radius, rise = int(rng.integers(2, 5)), 3.5, 3.2
    angle = 2 * np.pi / 7 * np.arange(7)
    ring = np.stack([ring_radius * np.cos(angle), ring_radius * np.sin(angle), np.zeros(7)], axis=1)
    points = np.concatenate([ring + np.array([0, 0, rise * (k - (rings - 1) / 2)]) for k in range(rings)])
    barrel = Gaussians.isotropic(np.full(len(points), 1.5), points, 1.0)
    reach = float(np.hypot(ring_radius, rise * (rings - 1) / 2)) + MARGIN_SIGMAS
    turn = Rotation.random(random_state=rng).as_matrix()
    return barrel.moved(turn, box.random_point(rng, reach))


def _globules(box: Box, rng: np.random.Generator, count: int) -> Gaussians:
    """Scattered round blobs of several sizes."""
    sigma = rng.uniform(1.0, 2.2, count)
    sigma = np.minimum(sigma, np.maximum(1.0, box.half[2] / MARGIN_SIGMAS))
    centre = np.array([box.random_point(rng, MARGIN_SIGMAS * s) for s in sigma])
    return Gaussians.isotropic(rng.uniform(0.3, 1.0, count), centre, sigma)
