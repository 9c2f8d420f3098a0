"""Evidence of images: as written out, around what is predicted at the truth, and near nothing for noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from em_example import BOX, RADIUS, example, likelihood

from manyviews.operators.fourier_slice import FourierVolume
from manyviews.particles.em.plan import EmPlan
from manyviews.particles.em.pose_samples import PoseSamples
from manyviews.particles.em.pose_search import PoseSearch
from manyviews.particles.refine.evidence import (
    NOISE_IMAGES,
    Evidence,
    best_poses,
    evidence,
    noise_evidence,
    of_all,
)
from thread_world import run_ranks

COUNT = 200


@pytest.fixture(scope="module")
def made():
    return example(COUNT, noise=2.0)


@pytest.fixture(scope="module")
def at_truth(made):
    return evidence(made.images, FourierVolume.of(made.volume, RADIUS), made.true_samples(), RADIUS)


def test_the_gain_is_the_log_likelihood_less_that_of_no_particle(made, at_truth):
    """Which the example writes out, in float64."""
    for image in (0, 7, 150):
        expected = likelihood(made.images, made.volume, image, made.rotations[image], made.shifts[image])
        assert at_truth.gain[image] == pytest.approx(expected, rel=1e-3, abs=1e-2)


def test_images_of_the_map_gain_what_is_predicted_and_leave_noise(at_truth):
    assert at_truth.cross.sum() / at_truth.power.sum() == pytest.approx(1.0, abs=0.05)
    assert at_truth.gain.mean() / at_truth.predicted.mean() == pytest.approx(1.0, abs=0.1)
    assert abs(at_truth.excess.mean()) < 0.2
    assert at_truth.excess.std() == pytest.approx(1.0, abs=0.15)


def test_what_else_is_in_an_image_is_in_excess(made):
    other = made.images.values.copy()
    other[:, 1:] += np.roll(other[:, 1:], 1, axis=0)
    images = replace(made.images, values=other)
    found = evidence(images, FourierVolume.of(made.volume, RADIUS), made.true_samples(), RADIUS)
    assert np.median(found.excess) > 3


def test_the_best_of_an_images_poses_counts(made):
    samples = made.true_samples()
    worse = PoseSamples(samples.image, samples.rotations[::-1], samples.shifts, samples.weights * 0.1)
    both = PoseSamples.concatenate([worse, samples]).sorted()
    np.testing.assert_array_equal(best_poses(both).rotations, samples.rotations)


def test_images_without_poses_have_no_evidence(made):
    some = made.true_samples().select(slice(3, 9))
    found = evidence(made.images, FourierVolume.of(made.volume, RADIUS), some, RADIUS)
    assert np.flatnonzero(found.power).tolist() == list(range(3, 9))


def test_noise_gains_less_than_particles(made, at_truth, one_thread):
    plan = EmPlan(COUNT, starts=0, refinements=1, batch=COUNT, filled=1.0, most_radius=RADIUS)
    rotation = np.eye(3, dtype=np.float32)
    search = PoseSearch(made.volume, RADIUS, plan, BOX, 0.6, rotation)
    noise = noise_evidence(made.images, search, RADIUS, np.random.default_rng(0))
    assert len(noise.gain) == NOISE_IMAGES
    assert noise.gain.mean() + 2 * noise.gain.std() < at_truth.gain.mean()
    assert noise.predicted.mean() == pytest.approx(at_truth.predicted.mean(), rel=0.2)
    assert len(noise_evidence(made.images.select(slice(0, 0)), search, RADIUS, None).gain) == 0


def test_all_processes_know_all_evidence_in_the_order_of_the_numbers():
    whole = Evidence(*np.random.default_rng(0).random((4, 10)))
    numbers = np.arange(10) * 3

    def rank(world):
        own = np.flatnonzero(np.arange(10) % world.size == world.rank)
        return of_all(world, numbers[own], whole.select(own))

    for order, found in run_ranks(3, rank):
        np.testing.assert_array_equal(order, numbers)
        np.testing.assert_array_equal(found.excess, whole.excess)
