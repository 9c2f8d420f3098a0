"""What a pass of refinement concludes about its images: which are believed, and their groups' contrast."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.operators.fourier_sums import HALVES
from manyviews.parallel.lanes import LANES
from manyviews.parallel.world import World
from manyviews.particles.em.pose_samples import PoseSamples
from manyviews.particles.em.pose_search import PoseSearch
from manyviews.particles.em.problem import EmProblem
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.refine.credence import credence
from manyviews.particles.refine.evidence import Evidence, evidence, noise_evidence, of_all
from manyviews.particles.refine.scales import ContrastGroups, contrast_groups, renewed_scales
from manyviews.particles.selection import Selection
from manyviews.random import Stream, generator

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Judgement:
    """Fields of `manyviews.particles.refine.state.HalvesState`, whose names they have."""

    scales: torch.Tensor
    credence: torch.Tensor
    evidence: torch.Tensor
    noise_gain: torch.Tensor

    @classmethod
    def none(cls, particles: int, groups: int) -> Judgement:
        """Everything is believed, and all groups are alike."""
        return cls(
            torch.ones(groups, dtype=torch.float64),
            torch.ones(particles, dtype=torch.float64),
            torch.ones((particles, 4), dtype=torch.float64),
            torch.zeros((HALVES, 3), dtype=torch.float64),
        )


@dataclass(frozen=True)
class HalfEvidence:
    """Of this process's images ``members`` of a half, and of images of noise with the half's map.

    The process that has the half's first lane makes those.
    """

    members: Int64
    found: Evidence
    noise: Evidence


def with_contrast(images: FourierImages, scales: Float64, group: Int64) -> FourierImages:
    """Images that show particles as strongly as those of their group are; the same where all are alike."""
    if np.all(scales == 1):
        return images
    return replace(images, ctf=images.ctf * scales[group].astype(np.float32)[:, None])


def believed_samples(samples: PoseSamples, believed: Float64) -> PoseSamples:
    """Samples that count as much as their images ``(n,)`` are believed; without those of others."""
    weights = samples.weights * believed[samples.image].astype(np.float32)
    return replace(samples, weights=weights).select(weights > 0)


def half_evidence(
    problem: EmProblem,
    images: FourierImages,
    numbers: Int64,
    search: PoseSearch,
    members: Int64,
    samples: PoseSamples,
    radius: int,
    iteration: int,
    half: int,
) -> HalfEvidence:
    """Of the images of a half with its map; ``numbers (n,)`` are the images', ``samples`` numbered as they.

    Images of a lane keep to themselves: last bits may depend on where in an array an image is, and lanes are
    the same however many processes share them.
    """
    seen, own = images.crop(radius), Evidence.zeros(len(members))
    for number in np.unique(numbers[members] % LANES):
        places = np.flatnonzero(numbers[members] % LANES == number)
        some = np.full(len(images), -1)
        some[members[places]] = np.arange(len(places))
        mine = samples.select(some[samples.image] >= 0).renumbered(some)
        found = evidence(seen.select(members[places]), search.fourier_volume, mine, radius)
        for name, values in vars(found).items():
            getattr(own, name)[places] = values
    lane = np.flatnonzero(numbers % LANES == half)  # of the half's lanes the first
    rng = generator(problem.seed, Stream.NOISE_IMAGES, iteration, half)
    return HalfEvidence(members, own, noise_evidence(seen.select(lane), search, radius, rng))


def judge(
    world: World, numbers: Int64, halves: list[HalfEvidence], groups: ContrastGroups, before: Judgement
) -> Judgement:
    """Of all processes' images; ``groups`` are of the particles by their numbers.

    Each half is judged by itself.
    """
    particles = len(before.credence)
    believed, told = np.ones(particles), np.zeros((particles, 4))
    noise_gain, every, chosen = np.zeros((HALVES, 3)), [], []
    for half, own in enumerate(halves):
        order, found = of_all(world, numbers[own.members], own.found)
        _, made_up = of_all(world, np.arange(len(own.noise.gain)), own.noise)  # one process has some
        result = credence(found, made_up)
        believed[order] = result.both
        told[order] = np.stack([found.gain, found.predicted, found.excess, result.particle], axis=1)
        noise_gain[half] = result.noise_gain, result.noise_spread, result.distinct
        every.append(found)
        chosen.append(order)
    order = np.concatenate(chosen)
    found = Evidence(*(np.concatenate([getattr(one, name) for one in every]) for name in vars(every[0])))
    scales = renewed_scales(before.scales.numpy(), groups.group[order], found, believed[order])
    return Judgement(*(torch.from_numpy(part) for part in (scales, believed, told, noise_gain)))


def groups_of(chosen: Selection, particles: int) -> ContrastGroups:
    """Groups of equal contrast of the particles of a run, by their numbers, which are below ``particles``."""
    found = contrast_groups(chosen.table)
    group = np.zeros(particles, np.int64)
    group[chosen.numbers] = found.group
    return replace(found, group=group)
