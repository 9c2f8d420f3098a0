"""From a particle table to the Fourier coefficients of its images: background, noise, transfer functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from manyviews.errors import InputError
from manyviews.io.particle_images import ParticleImages
from manyviews.io.particle_table import ParticleTable
from manyviews.operators.contrast_transfer import Optics, ctf_values
from manyviews.operators.fourier_points import extract, half_plane, shells
from manyviews.particles.images.fourier_images import FourierImages

Float32 = NDArray[np.float32]
Allocate = Callable[[tuple[int, ...], DTypeLike], NDArray[Any]]
Mend = Callable[[Float32, NDArray[np.int64]], None]
BYTES_A_POINT = 12  # a complex64 coefficient and a float32 transfer function
_BLOCK_PIXELS = 1_000_000  # a few MB: what a cache holds, and many images for threads
_EDGE = 3.0  # pixels over which the background's mask rises, so that its transform is narrow
_LEAST_BACKGROUND = 0.02  # of the image


def table_optics(table: ParticleTable) -> Optics:
    """Microscope and defocus of every particle of a table."""
    return Optics.make(
        table.per_particle("voltage_kv"),
        table.per_particle("spherical_aberration_mm"),
        table.per_particle("amplitude_contrast"),
        table.defocus,
        table.defocus_angle,
        table.phase_shift,
        table.b_factor,
        table.scale,
    )


def background_mask(box: int, diameter: float) -> Float32:
    """``(box, box)``: 1 outside the particle, 0 inside its diameter in pixels, soft between.

    A particle that fills the box leaves the corners.
    """
    along = (np.arange(box) - box // 2).astype(np.float32)
    distance = np.hypot(along[:, None], along)
    radius = diameter / 2
    mask = np.clip((distance - radius) / _EDGE, 0, 1)
    while mask.mean() < _LEAST_BACKGROUND:
        radius -= 1
        mask = np.clip((distance - radius) / _EDGE, 0, 1)
    return np.asarray(mask, dtype=np.float32)


def _leave(images: Float32, numbers: NDArray[np.int64]) -> None:
    """Images are as they should be."""


def read_fourier_images(
    table: ParticleTable,
    numbers: NDArray[np.int64],
    *,
    radius: int,
    diameter: float,
    mend: Mend = _leave,
    allocate: Allocate = np.empty,
    tell: Callable[[int], None] = lambda done: None,
    threads: int = 1,
) -> tuple[FourierImages, NDArray[np.float64], NDArray[np.int64]]:
    """Images with background mean 0 and spread 1, as Fourier coefficients up to a radius in Fourier pixels.

    Parameters
    ----------
    table, numbers
        All particles, and ``(n,)`` which of them.
    diameter
        Of the particle, angstrom: what is outside is background.
    mend
        Handed the images ``(n, box, box)`` as they are read, and which they are: may change pixels in place.
    allocate
        Makes the two large arrays.
    tell
        Told how many images are done.
    threads
        Of the transforms.

    Returns
    -------
    tuple
        The images, whose noise variance is not known yet (1 everywhere), ``(groups, radius + 1)`` sums of the
        background's spectrum in each shell and how many images of each group they are of: `noise_spectrum`
        turns those of all processes into the variance.

    Raises
    ------
    InputError
        If an image cannot be read, is constant, or holds NaN.
    """
    source = ParticleImages(table)
    box, pixel_size = source.box, source.pixel_size
    points = half_plane(radius, box)
    mask = background_mask(box, diameter / pixel_size)
    group = table.optics_index[numbers].astype(np.int32)
    values = allocate((len(numbers), len(points)), np.complex64)
    transfer = allocate((len(numbers), len(points)), np.float32)
    optics = table_optics(table)
    spectra = np.zeros((len(table.optics), radius + 1))
    counts = np.bincount(group, minlength=len(table.optics))
    shell = shells(points)
    size = np.bincount(shell, minlength=radius + 1)
    step = max(1, _BLOCK_PIXELS // box**2)
    for first in range(0, len(numbers), step):
        chosen = numbers[first : first + step]
        pixels = source.read(chosen)
        mend(pixels, chosen)
        images = _standardised(pixels, mask, table, chosen)
        block = slice(first, first + len(chosen))
        values[block] = extract(images, points, threads=threads)
        transfer[block] = ctf_values(optics.select(chosen), points, box, pixel_size).numpy()
        power = np.abs(extract(images * mask, points, threads=threads)) ** 2
        for row, own in zip(power, group[block], strict=True):
            spectra[own] += np.bincount(shell, row, minlength=radius + 1) / size
        tell(first + len(chosen))
    noise = np.ones((len(table.optics), radius + 1), np.float32)
    scale = box**2 / float(np.sum(mask.astype(np.float64) ** 2))
    made = FourierImages(points, values, transfer, noise, group, box, pixel_size, radius)
    return made, spectra * scale, counts


def _standardised(
    images: Float32, mask: Float32, table: ParticleTable, numbers: NDArray[np.int64]
) -> Float32:
    """Background mean 0 and standard deviation 1 in every image."""
    weight = mask.sum()
    mean = np.einsum("nyx,yx->n", images, mask) / weight
    images -= mean[:, None, None]
    spread = np.sqrt(np.einsum("nyx,nyx,yx->n", images, images, mask) / weight)
    empty = np.flatnonzero(~(spread > 0))
    if len(empty):
        number = int(numbers[empty[0]])
        raise InputError(
            f"the image of particle {number + 1} ({table.image_name(number)}) is constant",
            fix="remove it from the table, or copy the stack again",
        )
    images /= spread[:, None, None].astype(np.float32)
    return images


def noise_spectrum(spectra: NDArray[np.float64], counts: NDArray[np.int64], box: int) -> Float32:
    """``(groups, radius + 1)`` variance of the noise of a coefficient.

    Smoothed over three shells. Shells 0 and 1, which subtracting the mean has emptied, are as shell 2; groups
    of few images lean on the mean of all.
    """
    total = spectra.sum(0) / max(1, counts.sum())
    prior_images = 50.0
    mean = (spectra + prior_images * total) / (counts + prior_images)[:, None]
    if mean.shape[1] > 3:
        mean[:, :2] = mean[:, 2:3]
        padded = np.pad(mean, ((0, 0), (1, 1)), mode="edge")
        mean = (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3
    return np.asarray(np.maximum(mean, 1e-6 * box**2), dtype=np.float32)


def image_bytes(count: int, radius: int) -> int:
    """Memory of ``count`` images' coefficients and transfer functions."""
    return count * math.ceil(math.pi * radius**2 / 2 + radius) * BYTES_A_POINT
