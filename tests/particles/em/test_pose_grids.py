"""Levels of the search: each covers the cells of the one above."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from manyviews.geometry.poses import angular_distance, random_rotations, uniform_rotations
from manyviews.particles.em.pose_grids import (
    Level,
    coarse_level,
    finer_levels,
    rotations_within,
    shift_offsets_within,
    shifts_everywhere,
)

BOXES = st.integers(16, 512)
FILLED = st.floats(0.1, 1.0)


@given(box=BOXES, filled=FILLED, start=st.integers(3, 20), more=st.integers(0, 200))
def test_levels_halve_until_the_last_radius_is_served(box, filled, start, more):
    radius = min(start + more, (box - 1) // 2)
    start = min(start, radius)
    coarse = coarse_level(start, box, filled)
    levels = finer_levels(coarse, radius, box, filled)
    assert levels[-1].radius == radius
    assert levels[-1].spacing * radius * filled <= 0.9 * 0.8 + 1e-9
    above = coarse
    for level in levels:
        assert level.spacing == above.spacing / 2
        assert above.shift_step / 2 <= level.shift_step + 1e-12
        assert above.radius <= level.radius <= radius
        above = level
    assert levels[-1].shift_step <= max(coarse.shift_step, box / radius / 8) + 1e-12


def test_as_many_rotations_as_the_spacing_asks_for():
    """Neighbours of an even grid are about as far apart as it says."""
    level = Level(5, 0.4, 1.0)
    quaternions = Rotation.from_matrix(uniform_rotations(level.rotation_count)).as_quat()
    tree = cKDTree(np.concatenate([quaternions, -quaternions]))
    chord, _ = tree.query(quaternions, k=2)
    spacing = 4 * np.arcsin(chord[:, 1] / 2)
    assert 0.8 * level.spacing < np.median(spacing) < 1.2 * level.spacing


def test_turns_divide_a_cell():
    """Wherever the truth lies in a cell, one of the turned poses is within half the diagonal of an eighth."""
    spacing = 0.2  # of the finer level
    turns = rotations_within(spacing)
    assert turns.shape == (8, 3, 3)
    np.testing.assert_allclose(
        turns @ turns.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (8, 3, 3)), atol=1e-6
    )
    rng = np.random.default_rng(0)
    truth = Rotation.from_rotvec(rng.uniform(-spacing, spacing, (300, 3))).as_matrix()
    away = np.deg2rad(angular_distance(truth[:, None], turns))
    assert away.min(1).max() < 1.1 * np.sqrt(3) * spacing / 2
    assert np.mean(np.isclose(away.min(1), away[:, 0])) < 0.3  # all corners serve


def test_turns_are_small_steps_from_any_pose():
    pose = random_rotations(1, np.random.default_rng(1))[0]
    away = np.deg2rad(angular_distance(rotations_within(0.1) @ pose, pose))
    np.testing.assert_allclose(away, np.sqrt(3) * 0.05, rtol=1e-4)


def test_steps_around_a_shift():
    steps = shift_offsets_within(0.5)
    assert sorted(map(tuple, steps.tolist())) == [(x, y) for x in (-0.5, 0, 0.5) for y in (-0.5, 0, 0.5)]


@pytest.mark.parametrize(("step", "sigma"), [(1.0, 0.1), (1.0, 1.0), (0.7, 2.0)])
def test_shifts_fill_a_disk(step, sigma):
    shifts = shifts_everywhere(step, sigma)
    assert [0.0, 0.0] in shifts.tolist()
    assert np.all(np.hypot(*shifts.T) <= 3 * sigma + 1e-5)
    assert len(shifts) == pytest.approx(max(1, np.pi * (3 * sigma / step) ** 2), rel=0.2)
    np.testing.assert_array_equal(shifts, -shifts[::-1])
