"""The E step that all methods of refinement share: where images may have been seen from, half by half.

Each image's posterior is found with the map of its own half (`manyviews.particles.em.pose_search`); with it
come the sums that tell how well the maps explain the images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.geometry.poses import random_rotations
from manyviews.operators.fourier_sums import HALVES
from manyviews.parallel.lanes import LANES
from manyviews.parallel.world import World
from manyviews.particles.em.pose_samples import PoseSamples
from manyviews.particles.em.pose_search import PoseSearch
from manyviews.particles.em.problem import EmProblem
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.refine.judgement import HalfEvidence, half_evidence
from manyviews.particles.refine.residuals import Residuals, residuals
from manyviews.random import Stream, generator

_NOISE_IMAGES = 2000  # that the noise is estimated from


@dataclass(frozen=True)
class Expectation:
    """Of some of this process's images: their poses, sums over them, and what the maps leave.

    ``samples`` are numbered as the images; ``log_likelihood`` and ``searched``, poses scored, are sums over
    images, ``everywhere`` is how many of them were looked for everywhere; ``evidence`` is of each half, or of
    none where it was not asked for.
    """

    samples: PoseSamples
    log_likelihood: float
    searched: float
    everywhere: float
    left: Residuals
    evidence: list[HalfEvidence]


def expectation(
    problem: EmProblem,
    images: FourierImages,
    numbers: NDArray[np.int64],
    halves: tuple[torch.Tensor, ...],
    known: PoseSamples,
    radius: int,
    *,
    iteration: int,
    particles: int,
    credence: NDArray[np.float64],
    judged: bool,
) -> Expectation:
    """Posteriors of some images of this process, each with the map of its half.

    Parameters
    ----------
    problem
        All particles, the plan of the search and the seed.
    images, numbers
        The images, with the variance of their noise as of now, and their numbers ``(n,)``, rising.
    halves
        Each half's map.
    known
        Poses to look around, numbered as the images; those that have none are looked for everywhere.
    radius
        Highest frequency, Fourier pixels.
    iteration
        Which random numbers are drawn: they are the same however images are shared and batched.
    particles
        Images of all processes together, of which some are enough to tell the noise from.
    credence
        ``(n,)`` how far each image is believed.
    judged
        Whether the images are judged: then each process holds whole lanes of them.
    """
    rng = generator(problem.seed, Stream.HALVES_PASS, iteration)
    rotation = random_rotations(1, rng)[0].astype(np.float32)
    offsets = rng.random(problem.plan.particles)[numbers]
    seen = images.crop(radius)
    parts, evidence, log_likelihood, searched = [], [], 0.0, 0.0
    left = Residuals.none(len(images.noise_variance), radius + 1)
    for half, volume in enumerate(halves):
        members = np.flatnonzero(numbers % HALVES == half)
        search = PoseSearch(
            volume, radius, problem.plan, images.box, problem.shift_sigma, rotation, problem.device
        )
        found = search.find(seen, members, known, offsets, numbers % LANES)
        some = found.samples.select(_tells_noise(numbers[found.samples.image], particles))
        left = left.added(residuals(images, search.fourier_volume, some, radius, credence))
        if judged:
            told = half_evidence(
                problem, images, numbers, search, members, found.samples, radius, iteration, half
            )
            evidence.append(told)
        parts.append(found.samples)
        log_likelihood += float(found.log_likelihood.sum())
        searched += found.searched
    samples = PoseSamples.concatenate(parts).sorted()
    everywhere = len(numbers) - len(np.unique(known.image))
    return Expectation(samples, log_likelihood, searched, everywhere, left, evidence)


def _tells_noise(numbers: NDArray[np.int64], particles: int) -> NDArray[np.bool_]:
    """Which of some numbers are of images that the noise is estimated from: some of each half."""
    every = max(1, particles // _NOISE_IMAGES)
    return np.asarray(numbers // HALVES % every == 0)


def over_all(left: Residuals, world: World) -> Residuals:
    """Sums of all processes."""
    add = world.sum
    return Residuals(*(add(torch.from_numpy(part)).numpy() for part in (left.power, left.left, left.images)))
