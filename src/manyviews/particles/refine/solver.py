"""Expectation maximisation of two halves apart: a pass through all images is an iteration.

Each image's posterior is found with the map of its own half (`manyviews.particles.em.pose_search`), in the
first pass everywhere, then around the poses of the pass before. Of all images at their weighted poses each
half makes a new map, to as far as the halves agree and a little further. Up to the start's frequencies the
two share what they find, which keeps them in one place; beyond, nothing passes between them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.metrics.fsc import agreed_radius
from manyviews.operators.fourier_sums import HALVES, FourierSums
from manyviews.particles.em.maximisation import half_volumes
from manyviews.particles.em.pose_samples import NO_SAMPLES, PoseSamples
from manyviews.particles.em.problem import EmProblem
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.refine.expectation import Expectation, expectation, over_all
from manyviews.particles.refine.judgement import Judgement, believed_samples, judge, with_contrast
from manyviews.particles.refine.plan import PATIENCE, next_radius
from manyviews.particles.refine.scales import ContrastGroups, one_group
from manyviews.particles.refine.solvent import with_flat_solvent
from manyviews.particles.refine.state import HalvesState

BELIEVED = 1  # passes in which all images are believed


class HalvesRefinement:
    """Solver of a refinement.

    ``starts`` are the maps that the halves begin with, ``start_radius`` their highest frequency, Fourier
    pixels, up to which the halves stay linked. ``groups`` are those of equal contrast, of all particles by
    their numbers; left out: there is one. ``flat_solvent``: the noise about the particle is
    masked out of the maps that poses are found with.
    """

    def __init__(
        self,
        problem: EmProblem,
        starts: tuple[torch.Tensor, ...],
        start_radius: int,
        groups: ContrastGroups | None = None,
        *,
        flat_solvent: bool = False,
    ) -> None:
        self.problem = problem
        self.flat_solvent = flat_solvent
        self.groups = groups or one_group(problem.plan.particles)
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
            solvent=1.0,
            furthest=0,
            stalled=0,
            **vars(Judgement.none(self.problem.plan.particles, self.groups.count)),
            **NO_SAMPLES.tensors(),
        )

    def step(self, state: HalvesState) -> HalvesState:
        """One pass through all images."""
        problem = self.problem
        radius = self.next_radius(state)
        images = self.images(state)
        found = expectation(
            problem, images, problem.numbers, state.halves, self._known(state, problem.numbers),
            radius, iteration=state.iteration, particles=self.particles,
            credence=state.credence.numpy()[problem.numbers], judged=state.iteration >= BELIEVED,
        )  # fmt: skip
        judged = self.judgement(state, found)
        sums = self.sums(images, found.samples, radius, judged.credence)
        iterate, correlation = problem.volume(sums)
        halves, solvent = self.halves(sums, correlation, iterate.shape[0])
        left = over_all(found.left, problem.world)
        agreed = agreed_radius(correlation)
        everyone = np.arange(problem.plan.particles)
        poses = problem.remembered(NO_SAMPLES, found.samples.renumbered(problem.numbers), everyone)
        return replace(
            state,
            iteration=state.iteration + 1,
            iterate=iterate,
            halves=halves,
            solvent=solvent,
            radius=radius,
            correlation=correlation,
            noise=torch.from_numpy(left.noise(problem.images.noise_variance)),
            explained=[float(value) for value in left.explained(problem.images.noise_variance)],
            log_likelihood=problem.mean(found.log_likelihood, self.particles),
            searched=problem.mean(found.searched, self.particles),
            everywhere=problem.mean(found.everywhere, self.particles),
            furthest=max(agreed, state.furthest),
            stalled=0 if agreed > state.furthest else state.stalled + 1,
            **vars(judged),
            **poses.tensors(),
        )

    def steps(self, passes: int) -> int:
        """Iterations in so many passes through all images."""
        return passes

    def next_radius(self, state: HalvesState) -> int:
        """Frequencies of the next pass: those of the start first, then some beyond where the halves agree."""
        if state.iteration == 0:
            return self.start_radius
        agreed, most = agreed_radius(state.correlation), self.problem.plan.most_radius
        return next_radius(state.radius, agreed, self.start_radius, most)

    def settled(self, state: HalvesState) -> bool:
        """Whether the halves have agreed no further for some passes."""
        return state.stalled >= PATIENCE

    def judgement(self, state: HalvesState, found: Expectation) -> Judgement:
        """What is believed of the images after a pass: what it was before, where none were judged."""
        before = Judgement(state.scales, state.credence, state.evidence, state.noise_gain)
        if not found.evidence:
            return before
        return judge(self.problem.world, self.problem.numbers, found.evidence, self.groups, before)

    def halves(
        self, sums: FourierSums, correlation: list[float], box: int
    ) -> tuple[tuple[torch.Tensor, ...], float]:
        """Each half's map on ``box`` voxels, and the share of the solvent's noise that is left in it."""
        shape, left = self.problem.constraint(box), 1.0
        if self.flat_solvent:
            images = self.problem.images
            shape, left = with_flat_solvent(sums, shape, images.pixel_size * images.box / box)
        return half_volumes(sums, np.array(correlation), shape, self.start_radius), left

    def images(self, state: HalvesState) -> FourierImages:
        """This process's images with the noise and the contrast that are known by now."""
        known = replace(self.problem.images, noise_variance=state.noise.numpy())
        return with_contrast(known, state.scales.numpy(), self.groups.group[self.problem.numbers])

    def sums(
        self, images: FourierImages, samples: PoseSamples, radius: int, credence: torch.Tensor
    ) -> FourierSums:
        """Of the images of all processes at weighted poses, as far as they are believed."""
        problem = self.problem
        samples = believed_samples(samples, credence.numpy()[problem.numbers])
        every = problem.plan.particles
        return problem.sums(images, samples, problem.numbers, radius, every, problem.symmetry)

    def _known(self, state: HalvesState, numbers: NDArray[np.int64]) -> PoseSamples:
        """Poses of this process's images ``numbers (n,)``, numbered by place."""
        return state.samples.among(numbers, self.problem.plan.particles)


def final_maps(sums: FourierSums, box: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The halves' maps ``(box, box, box)``: not masked, and damped only where there is nothing."""
    return sums.half_volume(0, box), sums.half_volume(1, box)
