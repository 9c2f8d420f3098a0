"""Expectation maximisation of two halves apart: a pass through all images is an iteration.

Each image's posterior is found with the map of its own half (`manyviews.particles.em.pose_search`), around
the poses of the pass before as soon as those say where to look, else everywhere. Of all images at their
weighted poses each half makes a new map, to as far as the halves agree and a little further. Up to the
start's frequencies the two share what they find, which keeps them in one place; beyond, nothing passes
between them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.geometry.poses import random_rotations
from manyviews.metrics.fsc import agreed_radius
from manyviews.operators.fourier_sums import HALVES, FourierSums
from manyviews.parallel.lanes import LANES
from manyviews.particles.em.maximisation import half_volumes
from manyviews.particles.em.pose_grids import coarse_level
from manyviews.particles.em.pose_samples import NO_SAMPLES, PoseSamples
from manyviews.particles.em.pose_search import PoseSearch
from manyviews.particles.em.pose_summary import summarise_poses
from manyviews.particles.em.problem import EmProblem
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.refine.residuals import Residuals, residuals
from manyviews.particles.refine.state import HalvesState
from manyviews.random import Stream, generator

_GROWTH, _AHEAD = 1.25, 3  # of the radius in a pass: a quarter; shells beyond where the halves agree no more
_LOOK_AGAIN = 1.5  # times the radius at which images were last looked for everywhere, before they are again
_PATIENCE = 2  # passes in which the halves agree no further, before it ends
_NOISE_IMAGES = 2000  # that the noise is estimated from


@dataclass(frozen=True)
class _Found:
    """Of this process's images in a pass: their poses, sums over them, and what the maps leave."""

    samples: PoseSamples
    log_likelihood: float
    searched: float
    everywhere: float
    left: Residuals


class HalvesRefinement:
    """Solver of a refinement.

    ``starts`` are the maps that the halves begin with, ``start_radius`` their highest frequency, Fourier
    pixels, up to which the halves stay linked.
    """

    def __init__(self, problem: EmProblem, starts: tuple[torch.Tensor, ...], start_radius: int) -> None:
        self.problem = problem
        self.starts = starts
        self.start_radius = start_radius
        self.particles = int(sum(problem.world.gather(len(problem.numbers))))

    def init(self) -> HalvesState:
        """The starts, and no pose known."""
        return HalvesState(
            iteration=0,
            iterate=sum(self.starts[1:], self.starts[0]) / HALVES,
            halves=self.starts,
            radius=self.start_radius,
            correlation=[0.0] * (self.start_radius + 1),
            noise=torch.from_numpy(self.problem.images.noise_variance.copy()),
            explained=[],
            log_likelihood=0.0,
            searched=0.0,
            everywhere=0.0,
            looked=0,
            furthest=0,
            stalled=0,
            **NO_SAMPLES.tensors(),
        )

    def step(self, state: HalvesState) -> HalvesState:
        """One pass through all images."""
        problem = self.problem
        radius = self.next_radius(state)
        images = replace(problem.images, noise_variance=state.noise.numpy())
        again = radius >= _LOOK_AGAIN * state.looked
        found = self._expectation(state, images, radius, again)
        sums = self.sums(images, found.samples, radius)
        iterate, correlation = problem.volume(sums)
        shape = problem.constraint(iterate.shape[0])
        halves = half_volumes(sums, np.array(correlation), shape, self.start_radius)
        left = self._over_all(found.left)
        agreed = agreed_radius(correlation)
        everyone = np.arange(problem.plan.particles)
        poses = problem.remembered(NO_SAMPLES, found.samples.renumbered(problem.numbers), everyone)
        return replace(
            state,
            iteration=state.iteration + 1,
            iterate=iterate,
            halves=halves,
            radius=radius,
            correlation=correlation,
            noise=torch.from_numpy(left.noise(problem.images.noise_variance)),
            explained=[float(value) for value in left.explained(problem.images.noise_variance)],
            log_likelihood=problem.mean(found.log_likelihood, self.particles),
            searched=problem.mean(found.searched, self.particles),
            everywhere=problem.mean(found.everywhere, self.particles),
            looked=radius if again else state.looked,
            furthest=max(agreed, state.furthest),
            stalled=0 if agreed > state.furthest else state.stalled + 1,
            **poses.tensors(),
        )

    def next_radius(self, state: HalvesState) -> int:
        """Frequencies of the next pass: those of the start first, then some beyond where the halves agree."""
        if state.iteration == 0:
            return self.start_radius
        agreed, grown = agreed_radius(state.correlation), math.ceil(_GROWTH * state.radius)
        further = grown if agreed >= state.radius else min(grown, agreed + _AHEAD)
        return max(self.start_radius, min(self.problem.plan.most_radius, further))

    def settled(self, state: HalvesState) -> bool:
        """Whether the halves have agreed no further for some passes."""
        return state.stalled >= _PATIENCE

    def sums(self, images: FourierImages, samples: PoseSamples, radius: int) -> FourierSums:
        """Of this process's images at weighted poses and those of all others."""
        problem = self.problem
        every = problem.plan.particles
        return problem.sums(images, samples, problem.numbers, radius, every, problem.symmetry)

    def _expectation(self, state: HalvesState, images: FourierImages, radius: int, again: bool) -> _Found:
        """Posteriors of this process's images, each with the map of its half.

        ``again``: images whose poses are not yet sure are looked for everywhere.
        """
        problem, numbers = self.problem, self.problem.numbers
        rng = generator(problem.seed, Stream.HALVES_PASS, state.iteration)
        rotation = random_rotations(1, rng)[0].astype(np.float32)
        offsets = rng.random(problem.plan.particles)[numbers]
        known, seen = self._known(state, again), images.crop(radius)
        parts, log_likelihood, searched = [], 0.0, 0.0
        left = Residuals.none(len(images.noise_variance), radius + 1)
        for half, volume in enumerate(state.halves):
            members = np.flatnonzero(numbers % HALVES == half)
            search = PoseSearch(
                volume, radius, problem.plan, images.box, problem.shift_sigma, rotation, problem.device
            )
            found = search.find(seen, members, known, offsets, numbers % LANES)
            judged = found.samples.select(self._judge_noise(found.samples.image))
            left = left.added(residuals(images, search.fourier_volume, judged, radius))
            parts.append(found.samples)
            log_likelihood += float(found.log_likelihood.sum())
            searched += found.searched
        samples = PoseSamples.concatenate(parts).sorted()
        everywhere = len(numbers) - len(np.unique(known.image))
        return _Found(samples, log_likelihood, searched, everywhere, left)

    def _known(self, state: HalvesState, again: bool) -> PoseSamples:
        """Poses of this process's images, numbered as those, where they say where to look.

        If ``again``, an image whose posterior spreads over more than a cell of the coarse grid does not.
        """
        problem, numbers = self.problem, self.problem.numbers
        mine = state.samples.among(numbers, problem.plan.particles)
        if not (again and len(mine)):
            return mine
        _, spread, _ = summarise_poses(mine, len(numbers), problem.symmetry)
        coarse = coarse_level(problem.plan.last_start_radius, problem.images.box, problem.plan.filled)
        return mine.select(spread[mine.image] <= math.degrees(coarse.spacing))

    def _judge_noise(self, places: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which poses are of images that the noise is estimated from: some of each half."""
        every = max(1, self.particles // _NOISE_IMAGES)
        return np.asarray(self.problem.numbers[places] // HALVES % every == 0)

    def _over_all(self, left: Residuals) -> Residuals:
        """Sums of all processes."""
        add = self.problem.world.sum
        return Residuals(
            *(add(torch.from_numpy(part)).numpy() for part in (left.power, left.left, left.images))
        )


def final_maps(sums: FourierSums, box: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The halves' maps ``(box, box, box)``: not masked, and damped only where there is nothing."""
    return sums.half_volume(0, box), sums.half_volume(1, box)
