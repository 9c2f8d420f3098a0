"""What speaks for each image showing the particle: how much better than noise it is explained by the map.

The log likelihood of an image at a pose beside that of no particle, ``gain = 2 Re <Y, C S> - |C S|^2``, each
coefficient over its noise, is ``<|C S|^2>`` in the mean if the image shows what the map does. That power,
averaged over views, is what the map predicts for an image of this transfer function and noise. Images of
noise alone find a pose too, so that their gain is not zero: it is measured with made-up ones
(`noise_evidence`). An image of something else may gain, but leaves power at the frequencies of a particle's
(``excess``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.geometry.poses import random_rotations
from manyviews.operators.fourier_slice import FourierVolume
from manyviews.parallel.world import World
from manyviews.particles.em.pose_samples import NO_SAMPLES, PoseSamples
from manyviews.particles.em.pose_search import PoseSearch
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.refine.seen import images_and_model, squared
from manyviews.random import Stream, generator

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

VIEWS = 50
NOISE_IMAGES = 64  # made up for each half
_POINTS_AT_ONCE = 2**20


@dataclass(frozen=True)
class Evidence:
    """Of images, ``(n,)`` each.

    Attributes
    ----------
    cross, power
        Likeness of image and map, and power of the map as the image shows it, at the best pose, over the
        noise: their ratio is the contrast of the image beside the map's.
    predicted
        That power, mean of all views.
    excess
        Power that is left beyond the noise's, in its standard deviations; frequencies count as much as a
        particle's power would stand out there.
    """

    cross: Float64
    power: Float64
    predicted: Float64
    excess: Float64

    @property
    def gain(self) -> Float64:
        """Log likelihood beside that of no particle."""
        return 2 * self.cross - self.power

    def select(self, chosen: NDArray[np.integer] | NDArray[np.bool_]) -> Evidence:
        """Of some of the images."""
        return Evidence(*(getattr(self, name)[chosen] for name in vars(self)))

    @classmethod
    def zeros(cls, count: int) -> Evidence:
        """Of images that nothing is known of."""
        return cls(*np.zeros((4, count)))


def best_poses(samples: PoseSamples) -> PoseSamples:
    """The likeliest sample of each image that has any, sorted by image."""
    order = np.lexsort((-samples.weights, samples.image))
    _, first = np.unique(samples.image[order], return_index=True)
    return samples.select(order[first])


def evidence(images: FourierImages, volume: FourierVolume, samples: PoseSamples, radius: int) -> Evidence:
    """Of images, cropped to ``radius``, with one map at their best poses.

    ``samples`` are numbered as the images; those of images without any are zero.
    """
    seen, found, best = images.crop(radius), Evidence.zeros(len(images)), best_poses(samples)
    shells = seen.shells()
    first = np.searchsorted(shells, np.arange(radius + 1))
    size = np.diff(np.append(first, len(shells)))
    views = random_rotations(VIEWS, generator(0, Stream.EVIDENCE_VIEWS)).astype(np.float32)
    strength = squared(volume.slices(views, seen.points).cpu().numpy()).mean(0)
    strength = np.add.reduceat(strength, first) / size  # of the map by shell, mean of all views
    precision = seen.group_precision().astype(np.float64)
    step = max(1, _POINTS_AT_ONCE // len(shells))
    for begin in range(0, len(best), step):
        part = best.select(slice(begin, begin + step))
        rows = part.image
        weight, ctf = precision[seen.group[rows]], seen.ctf[rows]
        values, model = images_and_model(seen, volume, part)
        likeness, power = (values * model.conj()).real * weight, squared(model) * weight
        left = np.add.reduceat(squared(values) * weight - 2 * likeness + power, first, axis=1)
        expected = np.add.reduceat(ctf.astype(np.float64) ** 2 * weight, first, axis=1) * strength
        found.cross[rows], found.power[rows] = likeness.sum(1), power.sum(1)
        found.predicted[rows] = expected.sum(1)
        ratio = expected / size
        stands_out = ratio / (1 + ratio)
        stands_out[:, 0] = 0.0  # the mean has been taken off
        spread = np.sqrt((stands_out**2 * size).sum(1))
        found.excess[rows] = (stands_out * (left - size)).sum(1) / np.maximum(spread, 1e-30)
    return found


def noise_evidence(
    images: FourierImages, search: PoseSearch, radius: int, rng: np.random.Generator
) -> Evidence:
    """Of ``NOISE_IMAGES`` made-up images of noise, looked for everywhere; of none without images.

    They have the transfer functions and the noise of ``images``, in turns.
    """
    if not len(images):
        return Evidence.zeros(0)
    taken = images.crop(radius).select(np.arange(NOISE_IMAGES) % len(images))
    parts = rng.standard_normal((2, *taken.values.shape))
    values = (parts[0] + 1j * parts[1]) * np.sqrt(taken.noise_variance[taken.group][:, taken.shells()] / 2)
    values[:, 0] = np.sqrt(2) * values[:, 0].real
    made = replace(taken, values=values.astype(np.complex64))
    found = search.find(made, np.arange(len(made)), NO_SAMPLES, rng.random(len(made)))
    return evidence(made, search.fourier_volume, found.samples, radius)


def of_all(world: World, numbers: Int64, own: Evidence) -> tuple[Int64, Evidence]:
    """Numbers, ascending, and evidence of the images of all processes."""
    columns = np.stack([numbers.astype(np.float64), *(getattr(own, name) for name in vars(own))], axis=1)
    every = world.all_gather(torch.from_numpy(columns), world.gather(len(numbers))).numpy()
    every = every[np.argsort(every[:, 0])]
    return every[:, 0].astype(np.int64), Evidence(*(every[:, 1:].T.copy()))
