"""Averages of ever more particles, the best first: the last is the average of all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from alignment_example import BOX, DIAMETER, RADIUS, coefficients, density, true_poses

from manyviews.parallel.lanes import lane_of
from manyviews.parallel.world import SingleWorld
from manyviews.subtomo.alignment import Alignment, AlignmentProblem
from manyviews.subtomo.averaging import add_up
from manyviews.subtomo.pose_search import SearchPlan
from manyviews.subtomo.rejection import sums_of_the_best

COUNT = 24


@pytest.fixture(scope="module")
def scored():
    """A problem whose poses are the true ones, and its state with scores that rise with the number."""
    poses = true_poses(COUNT, seed=4)
    every = np.arange(COUNT)
    problem = AlignmentProblem(
        coefficients(poses, noise=1.0), every, lane_of(every), 1 + every % 2,
        SearchPlan(DIAMETER, 2.0, 3, np.eye(3)[None]), None, RADIUS, 0,
        given_mask=torch.from_numpy(density()), weights=np.linspace(1, 2, COUNT),
        known=(poses.rotations, poses.shifts),
    )  # fmt: skip
    state = Alignment(problem).averaged()
    state = replace(
        state,
        rotations=torch.from_numpy(poses.rotations),
        shifts=torch.from_numpy(poses.shifts),
        score=torch.arange(COUNT, dtype=torch.float64),
    )
    return problem, poses, state


def direct(problem, poses, weights):
    return add_up(
        problem.subtomograms, poses, weights, problem.halves,
        lanes=problem.lanes, symmetry=problem.search.symmetry, world=SingleWorld(),
    )  # fmt: skip


@pytest.mark.parametrize("rejected", [0.0, 0.25])
def test_the_average_is_of_those_that_count(scored, rejected):
    problem, poses, state = scored
    problem = replace(problem, rejected=rejected)
    weights = []

    def resolution(sums):
        weights.append(float(sums.denominator.sum()))
        return 10.0 * len(weights)

    found, curve = sums_of_the_best(problem, state, resolution)
    kept = np.arange(COUNT) >= rejected * COUNT  # the lowest scores of either half
    wanted = direct(problem, poses, np.where(kept, problem.weights, 0.0))
    torch.testing.assert_close(found.numerator, wanted.numerator, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.denominator, wanted.denominator, rtol=1e-4, atol=1e-4)
    shares = sorted({0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1 - rejected})
    np.testing.assert_allclose(curve.fraction_kept, shares)
    np.testing.assert_array_equal(curve.resolution_angstrom, 10.0 * np.arange(1, len(shares) + 1))
    assert curve.lowest_score[0] == COUNT / 2
    assert curve.lowest_score[-1] == 0
    assert weights == sorted(weights)
    np.testing.assert_allclose(
        weights[-1], direct(problem, poses, problem.weights).denominator.sum(), rtol=1e-5
    )


def test_few_particles_have_no_curve(scored):
    problem, _, state = scored
    few = np.arange(8)
    problem = replace(
        problem, subtomograms=problem.subtomograms.select(few), own=few, lanes=few,
        halves=problem.halves[few], weights=None,
    )  # fmt: skip
    state = replace(state, score=state.score[:8])
    _, curve = sums_of_the_best(problem, state, lambda _: 7.0)
    assert curve.fraction_kept.tolist() == [1]
    assert curve.resolution_angstrom.tolist() == [7]


def test_a_mask_that_is_given_takes_the_place_of_the_sphere(scored):
    problem, _, _ = scored
    np.testing.assert_array_equal(problem.mask, density())
    sphere = replace(problem, given_mask=None).mask
    assert sphere.shape == (BOX,) * 3
    assert sphere[BOX // 2, BOX // 2, BOX // 2] == 1
