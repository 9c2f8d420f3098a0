"""What maps leave of the images: the noise, estimated again, and how much of the signal they explain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.operators.fourier_slice import FourierVolume
from manyviews.particles.em.pose_samples import PoseSamples
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.refine.seen import images_and_model, squared

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_POINTS_AT_ONCE = 2**20
_PRIOR_IMAGES = 50.0  # of the background's spectrum, for groups with few images


@dataclass(frozen=True)
class Residuals:
    """Sums over images and their posterior, ``(groups, shells)``, a mean coefficient of a shell counted once.

    ``power`` of the images, ``left`` of what the map does not explain; ``images (groups,)`` were counted.
    """

    power: Float64
    left: Float64
    images: Float64

    @classmethod
    def none(cls, groups: int, shells: int) -> Residuals:
        """Of no image."""
        return cls(np.zeros((groups, shells)), np.zeros((groups, shells)), np.zeros(groups))

    def added(self, other: Residuals) -> Residuals:
        """Of the images of both."""
        return Residuals(self.power + other.power, self.left + other.left, self.images + other.images)

    def noise(self, background: Float32) -> Float32:
        """``(groups, R + 1)`` variance of the noise: what is left, up to these shells; beyond, as outside the
        particle.

        ``background (groups, R + 1)`` is that outside the particle, which groups of few images lean on.
        """
        shells = self.left.shape[1]
        found = background.astype(np.float64)
        weight = (self.images + _PRIOR_IMAGES)[:, None]
        found[:, :shells] = (self.left + _PRIOR_IMAGES * found[:, :shells]) / weight
        found[:, 0] = background[:, 0]  # the mean has been taken off
        return np.asarray(np.maximum(found, 1e-3 * background), np.float32)

    def explained(self, background: Float32) -> Float64:
        """``(shells,)`` share of the images' power above that outside the particle that the map explains."""
        shells = self.power.shape[1]
        noise = self.images[:, None] * background[:, :shells]
        signal = (self.power - noise).sum(0)
        gone = (self.power - self.left).sum(0)
        return np.where(signal > 0, gone / np.maximum(signal, 1e-30), 0.0)


def residuals(
    images: FourierImages,
    volume: FourierVolume,
    samples: PoseSamples,
    radius: int,
    believed: Float64 | None = None,
) -> Residuals:
    """Of images, cropped to ``radius``, under weighted poses with one map.

    ``samples`` are numbered as the images; images without any do not count, others as much as they are
    ``believed (N,)`` to show the particle: left out, all do.
    """
    seen = images.crop(radius)
    shells = seen.shells()
    starts = np.searchsorted(shells, np.arange(radius + 2))  # points are sorted by length
    size = np.maximum(np.diff(starts), 1)
    first = starts[:-1]
    total = Residuals.none(len(images.noise_variance), radius + 1)
    if not len(samples):
        return total
    present = np.unique(samples.image)
    counted = np.ones(len(images)) if believed is None else believed
    energy = np.add.reduceat(squared(seen.values[present]), first, axis=1) / size
    energy *= counted[present, None]
    np.add.at(total.power, seen.group[present], energy)
    np.add.at(total.images, seen.group[present], counted[present])
    total.left[:] = total.power
    step = max(1, _POINTS_AT_ONCE // len(shells))
    for begin in range(0, len(samples), step):
        part = samples.select(slice(begin, begin + step))
        centred, model = images_and_model(seen, volume, part)
        change = squared(model) - 2 * (centred * model.conj()).real
        change *= (part.weights * counted[part.image])[:, None]
        np.add.at(total.left, seen.group[part.image], np.add.reduceat(change, first, axis=1) / size)
    return total
