"""Several random beginnings, each aligned twice; the one that explains the particles best is gone on with.

An average in random poses may lead to a map that is no likeness of the particle and that alignment does not
leave again. How well the particles agree with their maps tells them apart after two iterations: with one
beginning three of ten sets of fifty GroEL were lost (docs/subtomogram-benchmarks.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from manyviews.jobs.run import Job
from manyviews.subtomo.alignment import Alignment, AlignmentProblem, trial_radius

STAGE = "starts"


@dataclass(frozen=True)
class StartsState:
    """After so many beginnings: the map of the last one, and the mean gain in log likelihood of each."""

    iteration: int
    iterate: torch.Tensor
    gains: list[float]

    @property
    def best(self) -> int:
        """The beginning with the highest gain, counted from 0."""
        return int(np.argmax(self.gains))

    def measures(self) -> dict[str, float]:
        """The gain of the last one."""
        return {"log_likelihood_gain": self.gains[-1]} if self.gains else {}


class RandomStarts:
    """Solver; a step is one beginning."""

    def __init__(self, problem: AlignmentProblem) -> None:
        self.problem = problem

    def init(self) -> StartsState:
        """Nothing tried yet."""
        return StartsState(0, Alignment(self.problem).init().iterate, [])

    def step(self, state: StartsState) -> StartsState:
        """Align the next beginning up to the start radius, then up to twice that, whatever the halves say."""
        solver = Alignment(replace(self.problem, start_number=len(state.gains)))
        first = solver.step(solver.init())
        radius = trial_radius(self.problem.start_radius, self.problem.subtomograms.radius)
        second = solver.step(replace(first, radius=radius))
        gain = float(second.gain.mean())
        return StartsState(state.iteration + 1, second.iterate, [*state.gains, gain])


def with_best_start(job: Job, problem: AlignmentProblem, starts: int) -> AlignmentProblem:
    """The problem with the best of so many random beginnings, tried in a stage of the job."""
    if starts == 1 or problem.start is not None or problem.known is not None:
        return problem
    state, _ = job.solve(RandomStarts(problem), starts, stage=STAGE)
    shown = ", ".join(f"{gain:.4g}" for gain in state.gains)
    job.say(f"beginning {state.best + 1} of {starts} is the best; gains in log likelihood: {shown}")
    return replace(problem, start_number=state.best)
