"""One pose a particle from samples of its posterior."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from manyviews.geometry.poses import angular_distance
from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.particles.em.pose_samples import PoseSamples
from manyviews.particles.em.pose_summary import mean_poses, summarise_poses

DRAWS = 400


@pytest.fixture
def posterior(rng):
    """The true poses of three particles, and samples about them: 4 degrees and a pixel along each axis."""
    true = Rotation.random(3, rng=rng).as_matrix()
    shifts = rng.normal(0, 3, (3, 2))
    image = np.repeat(np.arange(3), DRAWS)
    away = Rotation.from_rotvec(rng.normal(0, 4, (len(image), 3)), degrees=True).as_matrix()
    samples = PoseSamples(
        image,
        (away @ true[image]).astype(np.float32),
        np.round(shifts[image] + rng.normal(0, 1, (len(image), 2))).astype(np.float32),
        np.full(len(image), 1 / DRAWS, np.float32),
    )
    return true, shifts, samples


def test_the_mean_is_nearer_to_the_truth_than_any_point_of_the_grid(posterior):
    true, shifts, samples = posterior
    mean, spread, shift_spread = mean_poses(samples, 3)
    assert angular_distance(mean.rotations, true).max() < 1.0
    np.testing.assert_allclose(np.linalg.det(mean.rotations), 1.0, atol=1e-5)
    assert np.abs(mean.shifts - shifts).max() < 0.2
    np.testing.assert_allclose(spread, 4 * np.sqrt(3), rtol=0.1)
    np.testing.assert_allclose(shift_spread, np.sqrt(2 * (1 + 1 / 12)), rtol=0.1)  # rounded to whole pixels
    best, wider, _ = summarise_poses(samples, 3)
    assert (spread < wider).all()
    np.testing.assert_array_equal(mean.weights, best.weights)


def test_one_sample_is_its_own_mean(posterior):
    _, _, samples = posterior
    one = samples.select(np.array([0, DRAWS, 2 * DRAWS]))
    mean, spread, shift_spread = mean_poses(one, 3)
    np.testing.assert_allclose(mean.rotations, one.rotations, atol=1e-6)
    np.testing.assert_array_equal(mean.shifts, one.shifts)
    assert spread.max() < 0.1
    np.testing.assert_array_equal(shift_spread, 0)


def test_another_peak_is_not_averaged_but_counts_for_the_spread(posterior):
    true, shifts, samples = posterior
    rotations, moved = samples.rotations.copy(), samples.shifts.copy()
    rotations[::4] = rotations[::4] @ Rotation.from_euler("x", 90, degrees=True).as_matrix()
    moved[::4] += 20
    weights = samples.weights.copy()
    weights[1::DRAWS] *= 2  # the best is of the larger peak
    mean, spread, _ = mean_poses(replace(samples, rotations=rotations, shifts=moved, weights=weights), 3)
    assert angular_distance(mean.rotations, true).max() < 1.2
    assert np.abs(mean.shifts - shifts).max() < 0.3
    assert spread.min() > 40


def test_copies_by_symmetry_are_one_pose(posterior, rng):
    true, _, samples = posterior
    group = symmetry_rotations("D3")
    turned = samples.rotations @ group[rng.integers(0, 6, len(samples))]
    mean, spread, _ = mean_poses(replace(samples, rotations=turned.astype(np.float32)), 3, group)
    nearest = np.min([angular_distance(mean.rotations @ turn, true) for turn in group], axis=0)
    assert nearest.max() < 1.0
    np.testing.assert_allclose(spread, 4 * np.sqrt(3), rtol=0.1)
