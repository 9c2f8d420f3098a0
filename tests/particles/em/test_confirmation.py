"""Random starts: which agree with the best, and how many are made where nobody says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from em_example import example
from scipy import ndimage

from manyviews.particles.em import plan as em_plan
from manyviews.particles.em import starts as module
from manyviews.particles.em.confirmation import agreeing_starts
from manyviews.particles.em.plan import EmPlan
from manyviews.particles.em.problem import EmProblem
from manyviews.particles.em.starts import RandomStarts

COUNT, BOX = 40, 24
PLAN = EmPlan(COUNT, starts=2, refinements=1, batch=20, filled=0.8, most_radius=5)


def blobs(seed: int) -> torch.Tensor:
    """A dozen small spheres somewhere in a box."""
    rng = np.random.default_rng(seed)
    volume = np.zeros((BOX, BOX, BOX))
    for place in rng.uniform(5, BOX - 5, (12, 3)):
        volume[tuple(np.round(place).astype(int))] += rng.uniform(1, 2)
    return torch.from_numpy(ndimage.gaussian_filter(volume, 0.9).astype(np.float32))


def turned(volume: torch.Tensor) -> torch.Tensor:
    """The same about its centre in another way."""
    around = ndimage.rotate(np.asarray(volume), 90, (1, 2), reshape=False, order=3)
    return torch.from_numpy(around.astype(np.float32))


def test_a_start_that_is_the_best_one_turned_agrees_and_another_structure_does_not():
    one = blobs(0)
    assert agreeing_starts([one, turned(one), blobs(7)], [2.0, 1.0, 1.5], 240.0, 192.0, 9) == [True, False]
    assert agreeing_starts([blobs(7), turned(one), one], [1.0, 1.5, 2.0], 240.0, 192.0, 9) == [False, True]


@pytest.mark.parametrize(("agree_from", "made"), [(2, 2), (4, 4), (99, 8)])
def test_starts_are_made_until_another_agrees_with_the_best(monkeypatch, one_thread, agree_from, made):
    monkeypatch.setattr(em_plan, "_START_ITERATIONS", 2)
    monkeypatch.setattr(module, "agreeing_starts", lambda maps, *_: [len(maps) >= agree_from])
    told: list[str] = []
    problem = EmProblem(
        example(COUNT, groups=2).images.crop(5), np.arange(COUNT), PLAN.with_more_starts(), shift_sigma=0.6,
        seed=1, say=told.append,
    )  # fmt: skip
    solver = RandomStarts(problem)
    state = solver.init()
    while not state.enough:
        state = solver.step(state)
    assert len(state.finished) == len(state.start_scores) == made
    assert state.iteration == made * problem.plan.start_iterations
    assert sum("one more, of 8 at most" in line for line in told) == made - PLAN.starts
    # the first ones are those of a run that was told how many to make
    fixed = RandomStarts(replace(problem, plan=PLAN))
    state_of_fixed = fixed.init()
    while not state_of_fixed.enough:
        state_of_fixed = fixed.step(state_of_fixed)
    assert state_of_fixed.start_scores == state.start_scores[:2]
