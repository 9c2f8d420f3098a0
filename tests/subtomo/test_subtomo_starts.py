"""Of several random beginnings the one that explains the particles best is taken."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from alignment_example import DIAMETER, RADIUS, coefficients, true_poses

from manyviews.parallel.lanes import lane_of
from manyviews.subtomo.alignment import Alignment, AlignmentProblem, trial_radius
from manyviews.subtomo.pose_search import SearchPlan
from manyviews.subtomo.starts import RandomStarts, with_best_start

pytestmark = pytest.mark.usefixtures("one_thread")

COUNT, STARTS = 16, 2


def problem(**given):
    every = np.arange(COUNT)
    data = coefficients(true_poses(COUNT, seed=5, most=1.0), noise=6.0)
    plan = SearchPlan(DIAMETER, 2.0, 3, np.eye(3)[None])
    return AlignmentProblem(data, every, lane_of(every), 1 + every % 2, plan, None, 3, 3, **given)


class Told:
    """A job that runs a stage to its end."""

    def __init__(self):
        self.stages, self.said = [], []

    def solve(self, solver, iterations, *, stage):
        state = solver.init()
        for _ in range(iterations):
            state = solver.step(state)
        self.stages.append((stage, iterations, state))
        return state, None

    def say(self, text):
        self.said.append(text)


def test_the_best_beginning_is_gone_on_with():
    job, given = Told(), problem()
    chosen = with_best_start(job, given, STARTS)
    ((stage, count, state),) = job.stages
    assert (stage, count, state.iteration) == ("starts", STARTS, STARTS)
    assert len(set(state.gains)) == STARTS  # each begins with poses of its own
    assert chosen.start_number == state.best == int(np.argmax(state.gains))
    assert job.said == [
        f"beginning {state.best + 1} of {STARTS} is the best; gains in log likelihood: "
        + ", ".join(f"{gain:.4g}" for gain in state.gains)
    ]
    # what was tried is what an alignment that is told the number does
    solver = Alignment(chosen)
    first = solver.step(solver.init())
    again = RandomStarts(given)
    lone = again.init()
    for _ in range(state.best + 1):
        lone = again.step(lone)
    assert lone.gains == state.gains[: state.best + 1]
    assert first.iteration == 1
    assert not torch.equal(Alignment(given).init().iterate, lone.iterate)


def test_beginnings_are_compared_at_twice_the_start_radius():
    given = problem()
    assert trial_radius(given.start_radius, given.subtomograms.radius) == 6
    assert trial_radius(7, RADIUS) == RADIUS


def test_a_map_poses_or_one_beginning_leave_nothing_to_try():
    job = Told()
    poses = true_poses(COUNT)
    for given, starts in (
        (problem(), 1),
        (problem(known=(poses.rotations, poses.shifts)), STARTS),
    ):
        assert with_best_start(job, given, starts) is given
    assert not job.stages
