"""Halves that came from nothing and settled in different places are laid over each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from alignment_example import BOX, DIAMETER, PHANTOM, angles_off, coefficients, density, true_poses

from manyviews.geometry.poses import angular_distance, rotations_from_vectors
from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.parallel.lanes import lane_of
from manyviews.parallel.world import SingleWorld
from manyviews.subtomo.alignment import Alignment, AlignmentProblem
from manyviews.subtomo.averaging import add_up
from manyviews.subtomo.pose_search import SearchPlan
from manyviews.subtomo.refine.objective import Poses
from manyviews.subtomo.registration import HalfPlacement, half_placement, placed

pytestmark = pytest.mark.usefixtures("one_thread")

COUNT, SHARED = 24, 3
HALVES = 1 + np.arange(COUNT) % 2
NONE = np.asarray(symmetry_rotations("C1"))
TRUTH = true_poses(COUNT, seed=3, most=1.0)


def turn(degrees):
    return rotations_from_vectors(np.deg2rad(np.asarray(degrees, dtype=np.float64)))


def moved_second(rotation, shift):
    """The true poses, those of the second half as its map lies elsewhere: map2(R X + t) is the truth."""
    placement = HalfPlacement(rotation, np.asarray(shift, dtype=np.float64), 0.0, 0.0, 0.0)
    return placed(placement, HALVES == 2, torch.from_numpy(TRUTH.rotations), torch.from_numpy(TRUTH.shifts))


def sums_of(rotations, shifts, symmetry=NONE):
    every = np.arange(COUNT)
    poses = Poses(np.asarray(rotations), np.asarray(shifts), every)
    data = coefficients(TRUTH, noise=2.0)
    lanes = lane_of(every)
    return add_up(data, poses, np.ones(COUNT), HALVES, lanes=lanes, symmetry=symmetry, world=SingleWorld())


def test_a_half_that_lies_elsewhere_is_brought_back_and_one_that_lies_well_is_left():
    rotation, shift = turn([20.0, -35.0, 10.0]), np.array([1.0, -0.5, 0.8])
    there = moved_second(rotation, shift)
    found = half_placement(sums_of(*there), BOX, DIAMETER, SHARED, NONE)
    assert found is not None
    back = placed(found, HALVES == 2, *there)
    assert angles_off(back[0].numpy(), TRUTH.rotations).max() < 3.0
    assert np.linalg.norm(back[1].numpy() - TRUTH.shifts, axis=1).max() < 0.3
    assert np.array_equal(back[0].numpy()[HALVES == 1], TRUTH.rotations[HALVES == 1])
    assert found.degrees == pytest.approx(float(angular_distance(rotation, np.eye(3))), abs=3.0)
    assert found.after > found.before + 0.1
    assert half_placement(sums_of(TRUTH.rotations, TRUTH.shifts), BOX, DIAMETER, SHARED, NONE) is None


def test_where_all_frequencies_are_shared_nothing_is_laid_over_each_other():
    apart = sums_of(*moved_second(turn([20.0, -35.0, 10.0]), np.zeros(3)))
    for shared in (apart.radius, apart.radius + 2):
        assert half_placement(apart, BOX, DIAMETER, shared, NONE) is None


def test_axes_of_a_symmetry_stay_where_they_are():
    fourfold = np.asarray(symmetry_rotations("C4"))
    about_axis = moved_second(turn([0.0, 0.0, 33.0]), [0.0, 0.0, 1.0])
    found = half_placement(sums_of(*about_axis, fourfold), BOX, DIAMETER, SHARED, fourfold)
    assert found is not None
    assert found.degrees == pytest.approx(33.0, abs=2.0)
    assert np.abs(found.shift[:2]).max() < 1e-6
    assert found.shift[2] == pytest.approx(-1.0, abs=0.2)
    # a half that was averaged about another axis is another map, whatever it looks like
    apart = sums_of(TRUTH.rotations, TRUTH.shifts, fourfold)
    across = sums_of(*moved_second(turn([25.0, 0.0, 0.0]), np.zeros(3)), fourfold)
    mixed = replace(
        apart,
        numerator=torch.stack([apart.numerator[0], across.numerator[1]]),
        denominator=torch.stack([apart.denominator[0], across.denominator[1]]),
    )
    placement = half_placement(mixed, BOX, DIAMETER, SHARED, fourfold)
    assert placement is None or abs(placement.rotation[2, 2]) > 0.999


@pytest.mark.parametrize("joined", [SHARED, 0])
def test_an_iteration_lays_the_second_half_on_the_first_only_where_they_share_frequencies(joined):
    rotation = turn([15.0, -30.0, 20.0])
    every = np.arange(COUNT)
    problem = AlignmentProblem(
        coefficients(TRUTH, noise=2.0), every, lane_of(every), HALVES, SearchPlan(DIAMETER, 2.0, 3, NONE),
        None, SHARED, joined,
    )  # fmt: skip
    solver = Alignment(problem)
    turned = torch.from_numpy(density(PHANTOM.moved(rotation, np.zeros(3)))).float()
    first = torch.from_numpy(density()).float()
    state = solver.step(replace(solver.init(), halves=(first, turned), radius=9))
    off = angles_off(state.rotations.numpy(), TRUTH.rotations)
    assert np.median(off[HALVES == 1]) < 2.0
    if joined:
        assert np.median(off[HALVES == 2]) < 4.0
        assert state.half_turned_degrees == pytest.approx(
            float(angular_distance(rotation, np.eye(3))), abs=4.0
        )
    else:
        assert np.median(off[HALVES == 2]) > 20.0
        assert state.half_turned_degrees == 0.0
