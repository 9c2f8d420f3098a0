"""Errors of poses in space: what was made is found, modulo symmetry, a common move and the hand."""

from __future__ import annotations

import numpy as np
import pytest

from manyviews.geometry.poses import angular_distance, random_rotations
from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.metrics.pose_error_3d import ErrorSummary, spatial_errors
from random_steps import random_steps

COUNT = 200
MIRROR = np.diag([1.0, 1.0, -1.0])


def case(seed, group, sigma=2.0):
    """Truth, found poses in the same frame, and the errors made: degrees, and angstrom ``(N, 3)``."""
    rng = np.random.default_rng(seed)
    truth, shifts = random_rotations(COUNT, rng), rng.normal(0, 8, (COUNT, 3))
    steps = random_steps(COUNT, sigma, rng)
    moves = rng.normal(0, 1.5, (COUNT, 3))
    found = steps @ truth @ group[rng.integers(len(group), size=COUNT)]
    return truth, shifts, found, shifts + moves, angular_distance(steps, np.eye(3)), moves


@pytest.mark.parametrize("name", ["C1", "C7", "D7"])
def test_in_one_frame_nothing_is_taken_out(name):
    group = symmetry_rotations(name)
    truth, t, found, f, made, moves = case(1, group)
    errors = spatial_errors(found, truth, f, t, symmetry=group, one_frame=True)
    np.testing.assert_allclose(errors.angles, made, atol=1e-5)
    np.testing.assert_allclose(errors.shifts, np.linalg.norm(moves, axis=1), atol=1e-9)
    assert not errors.mirrored
    np.testing.assert_array_equal(errors.rotation, np.eye(3))
    turned = spatial_errors(found @ random_rotations(1, np.random.default_rng(5))[0], truth, f, t,
                            symmetry=group, one_frame=True)  # fmt: skip
    assert np.median(turned.angles) > 10


@pytest.mark.parametrize("name", ["C1", "D7"])
def test_a_map_turned_and_moved_as_a_whole_is_no_error(name):
    """s(X) = ref(A^T (X + t)); a found map with ref_found(Y) = ref(G (Y - c)) has A G and t + A G c."""
    group = symmetry_rotations(name)
    truth, t, found, f, made, moves = case(2, group)
    turn, centre = random_rotations(1, np.random.default_rng(7))[0], np.array([5.0, -20.0, 11.0])
    found = found @ turn
    f = f + found @ centre
    errors = spatial_errors(found, truth, f, t, symmetry=group)
    np.testing.assert_allclose(errors.angles, made, atol=0.6)
    np.testing.assert_allclose(errors.shifts, np.linalg.norm(moves, axis=1), atol=0.6)
    np.testing.assert_allclose(errors.centre, centre, atol=0.5)
    assert angular_distance(group @ turn, errors.rotation).min() < 0.5


def test_wrong_poses_bias_nothing():
    truth, t, found, f, made, moves = case(3, np.eye(3)[None])
    rng = np.random.default_rng(4)
    found[:80], f[:80] = random_rotations(80, rng), rng.normal(0, 60, (80, 3))
    f = f + found @ np.array([30.0, 0.0, 0.0])
    errors = spatial_errors(found, truth, f, t)
    np.testing.assert_allclose(errors.angles[80:], made[80:], atol=0.7)
    np.testing.assert_allclose(errors.shifts[80:], np.linalg.norm(moves[80:], axis=1), atol=0.8)
    assert np.median(errors.angles[:80]) > 60


@pytest.mark.parametrize("one_frame", [True, False])
def test_the_other_hand_is_found(one_frame):
    """A volume mirrored along z, and its pose, checked on the density itself."""
    truth, t, found, f, made, moves = case(6, np.eye(3)[None])
    half_turn = np.diag([-1.0, -1.0, 1.0])
    f = f @ MIRROR
    errors = spatial_errors(half_turn @ found, truth, f, t, one_frame=one_frame, hands=True)
    assert errors.mirrored
    np.testing.assert_allclose(errors.angles, made, atol=0.6)
    np.testing.assert_allclose(errors.shifts, np.linalg.norm(moves, axis=1), atol=0.6)
    assert not spatial_errors(found, truth, f, t, hands=True).mirrored


def test_a_mirrored_volume_shows_the_inverted_map_at_the_mirrored_pose():
    """s(M X) = ref(A^T (M X + t)) and inverted(B^T (X + M t)) are one, with B = Rz(180) A."""
    rng = np.random.default_rng(8)
    a, t, x = random_rotations(1, rng)[0], rng.normal(size=3), rng.normal(size=(50, 3))
    seen = (x @ MIRROR + t) @ a  # rows of A^T (M X + t)
    b = np.diag([-1.0, -1.0, 1.0]) @ a
    np.testing.assert_allclose(-((x + MIRROR @ t) @ b), seen, atol=1e-12)


def test_summary_is_median_mean_and_90th_percentile():
    summary = ErrorSummary.of(np.array([1.0, 2.0, 3.0, 4.0, 100.0]))
    assert (summary.median, summary.mean, summary.percentile90) == (3.0, 22.0, pytest.approx(61.6))
    assert summary.text(1).split() == ["3.0", "22.0", "61.6"]


def test_different_numbers_are_refused():
    truth, t, found, f, _, _ = case(9, np.eye(3)[None])
    with pytest.raises(ValueError, match="same volumes"):
        spatial_errors(found, truth, f[:, :2], t)
    with pytest.raises(ValueError, match="same volumes"):
        spatial_errors(found[:0], truth[:0], f[:0], t[:0])
