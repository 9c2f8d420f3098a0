"""Noise, contrast and signal of a sample of particle images, and what to say about them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.io.particle_table import ParticleTable
from manyviews.parallel.world import SingleWorld, World
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.images.look import Look
from manyviews.particles.plan import Plan

Int64 = NDArray[np.int64]

SAMPLE = 500
_FAR_DEFOCUS = 60_000.0  # angstrom
_SURE = 5.0  # standard errors
_LEAST_SIGNAL = 0.02
_UNEVEN_NOISE = 0.5  # spread of the images' noise over its mean


@dataclass(frozen=True)
class GreyLevels:
    """Of the images that were looked at, ``sampled`` many.

    Attributes
    ----------
    background, noise
        Median mean and median standard deviation outside the particle.
    noise_spread
        Spread of the standard deviations over their mean.
    brightness, brightness_error
        How much brighter than the background the middle is, in standard deviations of the noise, mean of the
        images, and its standard error.
    signal_to_noise, whole_ratio
        ``(radius + 1,)`` power of the signal over that of the noise in each shell, and of all coefficients.
    """

    sampled: int
    background: float
    noise: float
    noise_spread: float
    brightness: float
    brightness_error: float
    signal_to_noise: list[float]
    whole_ratio: float


def spread_over(count: int, size: int = SAMPLE) -> Int64:
    """``size`` particles spread over a table of ``count``, or all of them."""
    return np.unique(np.linspace(0, count - 1, min(count, size)).round().astype(np.int64))


def grey_levels(look: Look, signal_to_noise: list[float]) -> GreyLevels:
    """Grey levels of images that are fit to be used, and their `shell_ratios`."""
    brightness = look.middle / look.noise
    return GreyLevels(
        sampled=len(look.looked),
        background=float(np.median(look.background)),
        noise=float(np.median(look.noise)),
        noise_spread=float(look.noise.std() / max(look.noise.mean(), 1e-30)),
        brightness=float(brightness.mean()),
        brightness_error=float(brightness.std() / math.sqrt(len(brightness))),
        signal_to_noise=signal_to_noise,
        whole_ratio=max(0.0, float((look.variance / look.noise**2).mean() - 1)),
    )


def shell_ratios(images: FourierImages, chosen: Int64, world: World | None = None) -> list[float]:
    """Power of some images over that of their background in each shell, less 1; of those of all ranks."""
    world = world or SingleWorld()
    shell, some = images.shells(), images.select(chosen)
    power = np.abs(some.values) ** 2 / some.noise_variance[some.group][:, shell]
    total = np.append(power.sum(axis=0, dtype=np.float64), len(chosen))
    total = world.sum(torch.from_numpy(total)).numpy()
    mean = np.bincount(shell, total[:-1] / total[-1]) / np.maximum(np.bincount(shell), 1)
    return [max(0.0, float(value) - 1) for value in mean[: images.radius + 1]]


def _signal_lacks(grey: GreyLevels, first_radius: int) -> bool:
    """Whether a start's first frequencies hold less than a fiftieth of the noise, or what may be chance."""
    shells = np.arange(2, first_radius + 1)
    ratio = float(np.average(np.array(grey.signal_to_noise)[shells], weights=shells))
    return ratio < _LEAST_SIGNAL + 4 / math.sqrt(math.pi * shells.sum() * grey.sampled)


def find_warnings(table: ParticleTable, plan: Plan, grey: GreyLevels) -> Iterator[str]:
    """What a user should know of the particles, beside what was said when their table was read."""
    defocus = table.defocus.mean(axis=1)
    has_ctf = any(one.amplitude_contrast < 1 for one in table.optics)
    if has_ctf and np.any(defocus <= 0):
        yield f"{int((defocus <= 0).sum())} particles have no underfocus; is the CTF in angstrom, and there?"
    if np.any(defocus > _FAR_DEFOCUS):
        yield f"{int((defocus > _FAR_DEFOCUS).sum())} particles have a defocus above 6 um"
    if grey.brightness < -_SURE * grey.brightness_error:
        yield "the middle of the images is darker than their rim; if protein is dark, give --dark-protein"
    if grey.noise_spread > _UNEVEN_NOISE:
        yield (
            f"the noise differs by {grey.noise_spread:.0%} between images; each is scaled to noise of 1, "
            "as if grey levels were all that differs"
        )
    if _signal_lacks(grey, plan.em.first_radius):
        yield "hardly any signal at low resolution; are the particles in the middle of their boxes?"
    if plan.em.filled > 0.95:
        yield "the particle fills the box, so the background is taken from the corners only"
