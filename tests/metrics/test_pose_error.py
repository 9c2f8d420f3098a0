import numpy as np
import pytest

from manyviews.geometry.poses import angular_distance, random_rotations
from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.metrics.pose_error import pose_errors
from random_steps import random_steps

HALF_TURN = np.diag([-1.0, -1.0, 1.0])


def case(seed, count=300, sigma=2.0, mirrored=False, group=None):
    """True poses, found ones in a turned and mirrored frame, the turn, and the errors made."""
    rng = np.random.default_rng(seed)
    truth = random_rotations(count, rng)
    turn = random_rotations(1, rng)[0]
    errors = random_steps(count, sigma, rng)
    seen = truth if group is None else truth @ group[rng.integers(len(group), size=count)]
    found = seen @ turn
    if mirrored:
        found = HALF_TURN @ found
    return truth, errors @ found, turn, angular_distance(errors, np.eye(3)), rng


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("name", ["C1", "C7", "D2"])
def test_turn_hand_and_symmetry_are_taken_out(mirrored, name):
    group = symmetry_rotations(name)
    truth, found, turn, made, _ = case(1, mirrored=mirrored, group=group)
    errors = pose_errors(found, truth, symmetry=group)
    assert errors.mirrored == mirrored
    assert angular_distance(group @ turn, errors.rotation).min() < 0.5
    np.testing.assert_allclose(errors.angles, made, atol=0.6)
    assert errors.shifts is None


def test_wrong_poses_do_not_bias_the_turn():
    truth, found, turn, made, rng = case(2)
    found[:150] = random_rotations(150, rng)
    errors = pose_errors(found, truth)
    assert angular_distance(errors.rotation, turn) < 0.7
    np.testing.assert_allclose(errors.angles[150:], made[150:], atol=0.7)
    assert np.median(errors.angles[:150]) > 60


def test_perfect_poses_have_no_error():
    truth, found, _, _, _ = case(3, sigma=0.0)
    assert pose_errors(found, truth).angles.max() < 1e-5
    assert pose_errors(truth[:1], truth[:1]).angles.max() < 1e-5


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_map_that_lies_elsewhere_is_not_an_error_of_shifts(mirrored):
    truth, found, _, _, rng = case(4, sigma=0.0, mirrored=mirrored)
    true_shifts = rng.normal(size=(len(truth), 2)) * 5
    offset = np.array([3.0, -2.0, 1.0])
    noise = rng.normal(size=true_shifts.shape) * 0.1
    found_shifts = true_shifts - (found @ offset)[:, :2] + noise
    found_shifts[:20] += 40
    errors = pose_errors(found, truth, found_shifts=found_shifts, true_shifts=true_shifts)
    assert errors.shifts is not None
    np.testing.assert_allclose(errors.offset, offset, atol=0.05)
    np.testing.assert_allclose(errors.shifts[20:], np.linalg.norm(noise[20:], axis=1), atol=0.05)
    assert errors.shifts[:20].min() > 40


def test_different_numbers_are_refused():
    with pytest.raises(ValueError, match="same images"):
        pose_errors(np.eye(3)[None], np.zeros((0, 3, 3)))
