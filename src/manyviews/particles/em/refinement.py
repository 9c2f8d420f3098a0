"""Refinement on growing batches at growing frequencies: the second stage of expectation maximisation.

Every iteration finds the poses of a batch with the map so far (E step, `manyviews.particles.em.pose_search`)
and makes a new map of it (M step, `manyviews.particles.em.maximisation`), looking as far as the halves of
the data agree and a little further.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.geometry.poses import random_rotations
from manyviews.metrics.fsc import agreed_radius
from manyviews.operators.fourier_sums import HALVES, FourierSums
from manyviews.parallel.lanes import LANES
from manyviews.particles.em.maximisation import half_volumes
from manyviews.particles.em.plan import Task
from manyviews.particles.em.pose_samples import NO_SAMPLES, PoseSamples
from manyviews.particles.em.pose_search import PoseSearch
from manyviews.particles.em.problem import EmProblem
from manyviews.particles.em.state import RefinementState, StartsState
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.random import Stream, generator


class Refinement:
    """Solver of the second stage, which goes on from what the random starts came to."""

    def __init__(self, problem: EmProblem, start: StartsState) -> None:
        self.problem = problem
        self.start = start

    def init(self) -> RefinementState:
        """The best start, and no pose known."""
        start = self.start
        return RefinementState(
            iteration=start.iteration,
            iterate=start.iterate,
            radius=start.radius,
            halves=(),
            log_likelihood=start.log_likelihood,
            correlation=start.correlation,
            searched=0.0,
            **NO_SAMPLES.tensors(),
        )

    def step(self, state: RefinementState) -> RefinementState:
        """One batch."""
        problem, plan = self.problem, self.problem.plan
        task = plan.task(state.iteration)
        state = replace(state, iteration=state.iteration + 1)
        radius = plan.next_radius(state.radius, agreed_radius(state.correlation))
        rng = generator(problem.seed, Stream.REFINEMENT, state.iteration)
        size = plan.refine_size(task.index, radius)
        chosen = np.sort(rng.permutation(plan.particles)[:size])
        own, places = problem.own(chosen)
        offsets = rng.random(size)[own]
        rotation = random_rotations(1, rng)[0].astype(np.float32)
        every = len(places) == len(problem.images)
        batch = problem.images if every else problem.images.crop(radius).select(places)  # a copy
        numbers = chosen[own]
        samples, total, searched = self._poses(state, task, batch, numbers, radius, offsets, rotation)
        sums = problem.sums(batch, samples, numbers, radius, size, problem.symmetry)
        iterate, correlation = problem.volume(sums, last=state.iteration == plan.iterations)
        halves: tuple[torch.Tensor, ...] = ()
        if problem.independent:
            halves = self._halves(sums, correlation, iterate.shape[0], state.iteration == plan.iterations)
        renewed = replace(
            state,
            iterate=iterate,
            radius=radius,
            halves=halves,
            correlation=correlation,
            log_likelihood=problem.mean(total, size),
            searched=problem.mean(searched, size),
        )
        together = problem.remembered(state.samples, samples.renumbered(numbers), chosen)
        return replace(renewed, **together.tensors())

    def _halves(
        self, sums: FourierSums, correlation: list[float], box: int, last: bool
    ) -> tuple[torch.Tensor, ...]:
        """Each half's own map: the ``last`` as they are, those that poses are looked for with joined."""
        problem = self.problem
        if last:
            return tuple(sums.half_volume(half, box) for half in range(HALVES))
        constraint = problem.constraint(box)
        return half_volumes(sums, np.array(correlation), constraint, problem.plan.last_start_radius)

    def _poses(
        self,
        state: RefinementState,
        task: Task,
        batch: FourierImages,
        numbers: NDArray[np.int64],
        radius: int,
        offsets: NDArray[np.float64],
        rotation: NDArray[np.float32],
    ) -> tuple[PoseSamples, float, float]:
        """Poses of a batch, the sum of its log likelihoods, and how many poses were scored."""
        problem, plan = self.problem, self.problem.plan
        fresh = plan.looks_everywhere(task.index)
        known = NO_SAMPLES if fresh else state.samples.among(numbers, plan.particles)
        parts, total, searched = [], 0.0, 0.0
        for volume, members in _references(state, numbers):
            search = PoseSearch(
                volume, radius, plan, problem.images.box, problem.shift_sigma, rotation, problem.device
            )
            found = search.find(batch, members, known, offsets, numbers % LANES)
            parts.append(found.samples)
            total += float(found.log_likelihood.sum())
            searched += found.searched
        return PoseSamples.concatenate(parts).sorted(), total, searched


def _references(
    state: RefinementState, numbers: NDArray[np.int64]
) -> list[tuple[torch.Tensor, NDArray[np.int64]]]:
    """The maps to find poses with, and which images of a batch to find with each."""
    if not state.halves:
        return [(state.iterate, np.arange(len(numbers)))]
    return [(volume, np.flatnonzero(numbers % HALVES == half)) for half, volume in enumerate(state.halves)]
