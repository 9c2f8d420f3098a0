"""Random starts at low frequency: the first stage of stochastic expectation maximisation.

Each start runs on mini-batches, whose running sums are divided anew in every iteration (online EM: Cappe &
Moulines, J. R. Stat. Soc. B 71 (2009) 593), and is then scored by a few images. The start that explains them
best is gone on with, laid on the axes of the point group if there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.alignment.symmetry_axes import lay_on_axes
from manyviews.operators.fourier_sums import FourierSums
from manyviews.parallel.lanes import LANES
from manyviews.particles.em.confirmation import agreeing_starts
from manyviews.particles.em.expectation import sample_everywhere
from manyviews.particles.em.plan import Task
from manyviews.particles.em.problem import NO_SYMMETRY, EmProblem
from manyviews.particles.em.state import StartsState
from manyviews.particles.images.fourier_resample import working_box
from manyviews.particles.images.random_start import power_scale, random_spheres
from manyviews.random import Stream, generator

_DRAWS = 48
_SCORING_IMAGES = 400
_NEGATIVE = 0.05  # of a map's power; 0.01 where there is none but noise, 0.29 where lowest frequencies lack
_LOOKS_SYMMETRIC = 0.9  # at low resolution any compact particle has 0.8


class RandomStarts:
    """Solver of the first stage."""

    def __init__(self, problem: EmProblem) -> None:
        self.problem = problem

    def init(self) -> StartsState:
        """The first random start."""
        radius = self.problem.plan.first_radius
        sums = FourierSums.zeros(radius)
        return StartsState(
            iteration=0,
            iterate=self._random_map(0),
            numerator=sums.numerator,
            denominator=sums.denominator,
            radius=radius,
            finished=(),
            start_scores=[],
            log_likelihood=0.0,
            correlation=[0.0] * (radius + 1),
            searched=0.0,
        )

    def step(self, state: StartsState) -> StartsState:
        """One mini-batch of a start, or the scoring of one."""
        task = self.problem.plan.task(state.iteration)
        state = replace(state, iteration=state.iteration + 1)
        return self._improve(state, task) if task.kind == "start" else self._score(state)

    def _random_map(self, start: int) -> torch.Tensor:
        problem, plan = self.problem, self.problem.plan
        box = working_box(plan.first_radius, problem.images.box)
        spheres = random_spheres(box, problem.seed, start)
        # lane 0 is on rank 0 however many there are
        few = np.flatnonzero(problem.numbers % LANES == 0)[:_SCORING_IMAGES]
        known = problem.world.rank == 0 and len(few) > 0
        low = problem.images.crop(plan.first_radius)
        scale = power_scale(spheres, low.select(few), problem.seed, start) if known else 1.0
        return spheres * problem.world.broadcast(scale)

    def _improve(self, state: StartsState, task: Task) -> StartsState:
        """A mini-batch at low frequency, looked for everywhere."""
        problem, plan = self.problem, self.problem.plan
        volume = self._random_map(task.start) if task.index == 0 else state.iterate
        radius = plan.start_radius(task.index)
        bounded = start_problem(problem, task.start)
        rng = generator(problem.seed, Stream.START_STEP, state.iteration)
        chosen = self._mini_batch(task)
        offsets = rng.random(len(chosen))
        own, places = problem.own(chosen)
        grid = problem.grid(volume, radius, rng)
        batch = problem.images.crop(radius).select(places)
        lane = chosen[own] % LANES
        samples, logs = sample_everywhere(batch, grid, problem.shift_sigma, offsets[own], _DRAWS, lane)
        new = problem.sums(batch, samples, chosen[own], radius, len(chosen), NO_SYMMETRY)
        sums = new if task.index == 0 else state.sums.mixed(new, plan.share(task.index))
        iterate, correlation = bounded.volume(sums)
        return replace(
            state,
            iterate=iterate,
            numerator=sums.numerator,
            denominator=sums.denominator,
            radius=sums.radius,
            correlation=correlation,
            log_likelihood=problem.mean(float(logs.sum()), len(chosen)),
            searched=float(grid.size),
        )

    def _score(self, state: StartsState) -> StartsState:
        """The log likelihood of a few images under what a start came to; then choose among all starts."""
        problem, plan = self.problem, self.problem.plan
        rng = generator(problem.seed, Stream.START_SCORE)
        count = min(_SCORING_IMAGES, plan.particles)
        chosen = np.sort(rng.permutation(plan.particles)[:count])
        own, places = problem.own(chosen)
        grid = problem.grid(state.iterate, state.radius, rng)
        batch = problem.images.crop(state.radius).select(places)
        lane = chosen[own] % LANES
        _, logs = sample_everywhere(batch, grid, problem.shift_sigma, np.zeros(len(batch)), 1, lane)
        score = problem.mean(float(logs.sum()), count)
        scores, finished = [*state.start_scores, score], (*state.finished, state.iterate)
        made = max(len(scores), plan.least_starts or plan.starts)
        problem.say(f"start {len(scores)} of {made}: log likelihood {score:.2f}")
        last = self._enough(finished, scores)
        best = int(np.argmax(scores))
        volume = self._on_axes(finished[best]) if last else state.iterate
        return replace(
            state, start_scores=scores, finished=finished, iterate=volume, log_likelihood=score, searched=0.0,
            enough=last,
        )  # fmt: skip

    def _enough(self, maps: tuple[torch.Tensor, ...], scores: list[float]) -> bool:
        """Whether the best start is gone on with: all are made, or enough, and another agrees with it."""
        problem, plan = self.problem, self.problem.plan
        if len(scores) == plan.starts:
            return True
        if not 0 < plan.least_starts <= len(scores):
            return False
        confirmed = 0.0
        if problem.world.rank == 0:
            side = problem.images.box * problem.images.pixel_size
            confirmed = float(
                any(agreeing_starts(maps, scores, side, plan.filled * side, plan.last_start_radius))
            )
        if problem.world.broadcast(confirmed):
            return True
        problem.say(f"no other start agrees with the best: one more, of {plan.starts} at most")
        return False

    def _on_axes(self, volume: torch.Tensor) -> torch.Tensor:
        """A map of a start, which knows no symmetry, turned so that symmetry may be imposed from here on."""
        problem = self.problem
        if len(problem.symmetry) == 1:
            return volume
        laid = on_axes(volume, problem.symmetry, problem.seed, problem.say, problem.warn)
        return laid.clamp_(min=0.0) if problem.positive and negative_share(volume) <= _NEGATIVE else laid

    def _mini_batch(self, task: Task) -> NDArray[np.int64]:
        """The next images of a random order that is new in every pass through all of them."""
        count = self.problem.plan.particles
        size = min(self.problem.plan.batch, count)
        a_pass = count // size
        epoch, place = divmod(task.index, a_pass)
        rng = generator(self.problem.seed, Stream.START_BATCHES, task.start, epoch)
        return np.sort(rng.permutation(count)[place * size : (place + 1) * size])


def on_axes(
    volume: torch.Tensor,
    symmetry: NDArray[np.float64],
    seed: int,
    say: Callable[[str], None],
    warn: Callable[[str], None],
) -> torch.Tensor:
    """A map of low resolution laid on the axes of a point group, whose rotations are ``symmetry (n, 3, 3)``.

    ``say`` is told how symmetric it looks, ``warn`` if that is little.
    """
    found = lay_on_axes(volume.numpy(), symmetry, seed)
    say(f"symmetry of the best start: correlation {found.correlation:.2f} with itself")
    if found.correlation < _LOOKS_SYMMETRIC:
        warn("the structure does not look as symmetric as that; compare with a run without --symmetry")
    return torch.from_numpy(found.volume)


def start_problem(problem: EmProblem, start: int) -> EmProblem:
    """The problem as one of the starts takes it: the second of two lets density be below the solvent's.

    No negative density leads most starts to the structure, but none where the images lack their lowest
    frequencies: then all around dense parts is less than solvent (measured: decision 0013).
    """
    return replace(problem, positive=problem.positive and start % 2 == 0)


def refinement_problem(problem: EmProblem, state: StartsState) -> EmProblem:
    """The problem as the refinement takes it: with negative density where the best start has a lot of it.

    A start that may have some often explains the images a little better by fitting their noise, and then
    hardly has any.
    """
    best = int(np.argmax(state.start_scores))
    share = negative_share(state.finished[best])
    needed = not start_problem(problem, best).positive and share > _NEGATIVE
    if problem.positive and needed:
        problem.say(
            f"{100 * share:.0f} % of the best start's power is density below the solvent's: the refinement "
            "lets it be"
        )
    return replace(problem, positive=problem.positive and not needed)


def negative_share(volume: torch.Tensor) -> float:
    """Share of the sum of squares that voxels below zero have."""
    return float(volume.clamp(max=0.0).square().sum() / volume.square().sum().clamp(min=1e-30))
