"""Poses that are near each other count as one; those apart stay."""

from __future__ import annotations

import numpy as np
import pytest

from manyviews.geometry.poses import angular_distance, random_rotations, rotations_from_vectors
from manyviews.particles.em.distinct_poses import distinct_poses
from manyviews.particles.em.pose_samples import NO_SAMPLES, PoseSamples

NEAR = np.deg2rad(5.0)


def samples_of(rng, images, ways, each, turned=1.0, moved=0.1):
    """``each`` poses around each of ``ways`` of an image, ``turned`` degrees and ``moved`` pixels wide."""
    count = images * ways * each
    centres = np.repeat(random_rotations(images * ways, rng), each, axis=0)
    nudges = rng.uniform(-1, 1, (count, 3)) * np.deg2rad(turned) / np.sqrt(3)
    rotations = (rotations_from_vectors(nudges) @ centres).astype(np.float32)
    shifts = rng.uniform(-moved, moved, (count, 2)).astype(np.float32)
    weights = rng.uniform(0.1, 1, count).astype(np.float32)
    return PoseSamples(np.repeat(np.arange(images) * 3, ways * each), rotations, shifts, weights)


def test_one_a_way_is_left_with_the_weight_of_all(rng):
    samples = samples_of(rng, 40, ways=3, each=5)
    found = distinct_poses(samples, NEAR, 1.0)
    assert len(found) == 40 * 3
    np.testing.assert_allclose(
        np.bincount(found.image, found.weights), np.bincount(samples.image, samples.weights), rtol=1e-5
    )
    for image in np.unique(samples.image):
        mine = found.rotations[found.image == image]
        gaps = angular_distance(mine[:, None], mine[None])[np.triu_indices(3, 1)]
        assert gaps.min() > np.rad2deg(NEAR)


def test_the_weightiest_leads(rng):
    samples = samples_of(rng, 20, ways=1, each=8)
    found = distinct_poses(samples, NEAR, 1.0)
    best = samples.weights.reshape(20, 8).argmax(axis=1) + 8 * np.arange(20)
    np.testing.assert_array_equal(found.rotations, samples.rotations[best])


@pytest.mark.parametrize(("radians", "pixels"), [(0.0, 1.0), (NEAR, 0.0)])
def test_what_differs_in_either_is_apart(rng, radians, pixels):
    samples = samples_of(rng, 10, ways=2, each=4)
    assert len(distinct_poses(samples, radians, pixels)) == len(samples)


def test_images_a_few_at_a_time_are_the_same(rng, monkeypatch):
    from manyviews.particles.em import distinct_poses as room

    samples = samples_of(rng, 30, ways=2, each=3)
    whole = distinct_poses(samples, NEAR, 1.0)
    monkeypatch.setattr(room, "_IMAGES_AT_ONCE", 7)
    parts = distinct_poses(samples, NEAR, 1.0)
    for name in ("image", "rotations", "shifts", "weights"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_nothing_stays_nothing():
    assert len(distinct_poses(NO_SAMPLES, NEAR, 1.0)) == 0
