"""How far each image is believed to show the particle: its evidence beside that of its half's other images.

Two questions, each answered by a mixture of two kinds of images whose shares are estimated: whether an image
gains more than noise does (noise: as made-up images of it do, and those among the particles that are alike;
particles: around what the map predicts), and whether it leaves no more than the others do (those that do are
spread evenly above). What is believed is the product: probabilities, so that nothing is cut off where there
is doubt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from manyviews.particles.refine.evidence import Evidence

Float64 = NDArray[np.float64]

_ROUNDS = 30
_LEAST_IMAGES = 30
_LEAST_SHARE, _MOST_SHARE = 0.005, 0.95  # of images that are not as they should be
_APART = 3.0  # standard deviations of noise, that particles gain more
_LEAST_DISTINCT = 0.05  # of the images gain so much more: else none is told from noise
_ASTRAY = 0.01  # of the images: particles whose pose was not found, which gain no more than noise either
_NOTHING = 0.01  # what is believed less is not at all
_NEAR = 0.05  # of the mean: numbers that differ by so little tell no slope
_BEYOND = 40.0  # standard deviations, over which what images of something else leave is spread
_HALF_BELOW = 0.1587  # of a Gaussian's samples lie a standard deviation below the middle


@dataclass(frozen=True)
class Credence:
    """Of the images of a half, ``(n,)`` each, between 0 and 1.

    ``particle``: that there is more than noise; ``alone``: that what there is is explained. ``noise_gain``
    and ``noise_spread`` are what noise gains; ``distinct``: whether particles are told from it at all.
    """

    particle: Float64
    alone: Float64
    noise_gain: float
    noise_spread: float
    distinct: bool

    @property
    def both(self) -> Float64:
        """What is believed: the product, and nothing of what is nearly nothing.

        Sums over processes are exact only of numbers of like size.
        """
        product = self.particle * self.alone
        return np.where(product < _NOTHING, 0.0, product)

    @classmethod
    def full(cls, count: int) -> Credence:
        """Of images that all are believed."""
        return cls(np.ones(count), np.ones(count), 0.0, 0.0, False)


def credence(found: Evidence, noise: Evidence) -> Credence:
    """Of the images of a half, from their evidence and that of images of noise.

    Few images all are believed.
    """
    count = len(found.gain)
    if count < _LEAST_IMAGES or not len(noise.gain):
        return Credence.full(count)
    middle, spread = _gains_of_noise(noise, found.predicted)
    above = (found.gain - middle) / spread
    distinct = bool(np.mean(above > _APART) > _LEAST_DISTINCT and np.median(above) > 1)
    told = float(np.median(middle)), float(np.median(spread))
    if not distinct:
        return replace(Credence.full(count), noise_gain=told[0], noise_spread=told[1])
    particle = _more_than_noise(found, middle, spread, len(noise.gain))
    return Credence(particle, _nothing_else(found.excess, particle), *told, distinct)


def _gains_of_noise(noise: Evidence, predicted: Float64) -> tuple[Float64, Float64]:
    """Mean and standard deviation of what images of noise gain, for images with a predicted power.

    Both are straight lines: the stronger the map is in an image, the less it fits to noise.
    """
    middle = _line(noise.predicted, noise.gain)
    off = np.abs(noise.gain - middle(noise.predicted)) * np.sqrt(np.pi / 2)
    spread, least = _line(noise.predicted, off), max(1.0, 0.3 * float(off.mean()))
    within = np.clip(predicted, 0.5 * noise.predicted.min(), 1.5 * noise.predicted.max())
    return middle(within), np.maximum(spread(within), least)


def _line(x: Float64, y: Float64) -> Callable[[Float64], Float64]:
    """The straight line through points, level where they are too near to each other to tell its slope."""
    centre, level = x.mean(), y.mean()
    slope = np.mean((x - centre) * (y - level)) / (x.var() + (_NEAR * centre) ** 2 + 1e-30)
    return lambda at: np.asarray(level + slope * (at - centre))


def _more_than_noise(found: Evidence, middle: Float64, spread: Float64, made_up: int) -> Float64:
    """Probability of each image that it gains as particles do, not as noise does."""
    gain = np.maximum(found.gain, middle - 2 * spread)  # what gains less is no likelier to be a particle
    predicted = np.maximum(found.predicted, 1e-30)
    above, ratio = (gain - middle) / spread, gain / predicted
    level, width = float(np.median(ratio[above > _APART])), 0.3
    shift, broad, share = 0.0, 1.0, 0.1  # of noise: as it is made up at first
    chance = np.ones(len(gain))
    for _ in range(_ROUNDS):
        deviation = np.sqrt((width * predicted) ** 2 + 2 * predicted + spread**2)
        # more than predicted is no less a particle
        as_particle = _gaussian(np.minimum(gain, level * predicted), level * predicted, deviation)
        as_noise = _gaussian(np.maximum(above, shift), shift, broad) / spread
        chance = (1 - share) * as_particle / ((1 - share) * as_particle + share * as_noise + 1e-300)
        share = float(np.clip(1 - chance.mean() - _ASTRAY, _LEAST_SHARE, _MOST_SHARE))
        # of noise: the images made up for it, and those that are like them
        doubt, all_noise = 1 - chance, made_up + float((1 - chance).sum())
        shift = min(float((doubt * above).sum()) / all_noise, 1.0)
        off = made_up * (1 + shift**2) + float((doubt * (above - shift) ** 2).sum())
        broad = min(float(np.sqrt(off / all_noise)), 2.0)
        sure = max(float(chance.sum()), 1.0)
        level = float((chance * ratio).sum() / sure)
        of_noise = float((chance * (2 / predicted + (spread / predicted) ** 2)).sum() / sure)
        scatter = float((chance * (ratio - level) ** 2).sum() / sure)
        width = float(np.sqrt(np.clip(scatter - of_noise, 0.1**2, 0.8**2)))
    return chance


def _nothing_else(excess: Float64, particle: Float64) -> Float64:
    """Probability of each image that it leaves what particles do."""
    ordinary = excess[particle > 0.5]
    if len(ordinary) < _LEAST_IMAGES:
        return np.ones(len(excess))
    middle, below = np.quantile(ordinary, [0.5, _HALF_BELOW])  # what lies above may be of something else
    away = np.maximum((excess - middle) / max(1.0, float(middle - below)), 0.0)
    share, chance = 0.05, np.ones(len(excess))
    for _ in range(_ROUNDS):
        as_usual = (1 - share) * np.exp(-0.5 * away**2) / np.sqrt(2 * np.pi)
        chance = as_usual / (as_usual + share / _BEYOND)
        among = float((particle * (1 - chance)).sum() / particle.sum())
        share = float(np.clip(among, _LEAST_SHARE, 0.5))
    return chance


def _gaussian(value: Float64, middle: Float64 | float, deviation: Float64 | float) -> Float64:
    return np.asarray(np.exp(-0.5 * ((value - middle) / deviation) ** 2) / deviation)
