"""Poses found with the true map are the true poses, and scores are log likelihoods."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from em_example import BOX, RADIUS, example, likelihood

from manyviews.geometry.poses import angular_distance
from manyviews.operators.fourier_slice import FourierVolume
from manyviews.particles.em import expectation
from manyviews.particles.em.expectation import (
    PoseGrid,
    best_everywhere,
    chunks,
    sample_everywhere,
    score_everywhere,
    search,
)
from manyviews.particles.em.plan import EmPlan
from manyviews.particles.em.pose_grids import Level, coarse_level, finer_levels
from manyviews.particles.em.pose_samples import NO_SAMPLES
from manyviews.particles.em.pose_search import PoseSearch

SIGMA = 0.6
NO_TURN = np.eye(3, dtype=np.float32)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.fixture(autouse=True)
def _quick(one_thread):
    pass


@pytest.fixture(scope="module")
def made():
    return example(40)


def looked_at(volume, radius, device="cpu"):
    return FourierVolume.of(volume.to(device, torch.float32), radius)


def small_grid(made, radius=6, device="cpu", spacing=0.5):
    return PoseGrid.everywhere(
        looked_at(made.volume, radius, device), Level(radius, spacing, 1.0), BOX, SIGMA, NO_TURN
    )


def test_scores_are_log_likelihoods(made):
    """At grid poses, up to the image's own energy and the prior's constant."""
    images = made.images.crop(6)
    grid = small_grid(made)
    scores = score_everywhere(images, grid, SIGMA)
    rng = np.random.default_rng(0)
    for _ in range(20):
        i, t, m = (int(rng.integers(n)) for n in scores.cross.shape)
        shift = grid.shifts[t].astype(np.float64)
        score = 2 * scores.cross[i, t, m] - scores.power[i, m] + scores.prior[t]
        truth = likelihood(images, made.volume, i, grid.rotations[m].astype(np.float64), shift)
        truth -= np.sum(shift**2) / (2 * SIGMA**2)
        assert float(score) == pytest.approx(truth, rel=1e-3, abs=2e-2)


def test_scores_of_search_and_of_the_grid_are_the_same(made, monkeypatch):
    """A search whose only turn is none scores the candidates as the grid does."""
    images, grid = made.images.crop(6), small_grid(made)
    level = Level(6, 0.0, 0.0)
    _, logs = sample_everywhere(images, grid, SIGMA, np.full(len(images), 0.5), 10)
    kept = len(grid.rotations)
    monkeypatch.setattr(expectation, "_MOST_KEPT", (kept, 1))
    monkeypatch.setattr(expectation, "_MARGIN", 1e9)
    best = best_everywhere(images, grid, SIGMA)
    assert len(best) == kept * len(images)
    # eight equal turns and nine equal steps stand for one pose
    _, found, scored = search(
        images, looked_at(made.volume, 6), best, [level], SIGMA, np.full(len(images), 0.5), 10
    )
    assert scored == kept * 72
    best_shift, all_shifts = found - np.log(72), logs + np.log(grid.size)
    assert np.all(best_shift <= all_shifts + 1e-5 * np.abs(logs))
    assert np.all(best_shift >= all_shifts - np.log(len(grid.shifts)))


def test_samples_of_an_image_have_weights_that_sum_to_one(made):
    images, grid = made.images.crop(6), small_grid(made)
    samples, _ = sample_everywhere(images, grid, SIGMA, np.full(len(images), 0.3), 16)
    np.testing.assert_allclose(np.bincount(samples.image, samples.weights), 1.0, rtol=1e-5)
    assert np.all(np.diff(samples.image) >= 0)


def test_a_wrong_map_explains_less(made):
    images = made.images.crop(6)
    offsets = np.full(len(images), 0.5)
    right = sample_everywhere(images, small_grid(made), SIGMA, offsets, 1)[1].mean()
    noise = torch.from_numpy(np.random.default_rng(1).permutation(made.volume.numpy().ravel())).view(
        made.volume.shape
    )
    scrambled = type(made)(noise, made.images, made.rotations, made.shifts)
    assert sample_everywhere(images, small_grid(scrambled), SIGMA, offsets, 1)[1].mean() < right - 10


def test_lanes_are_scored_apart_and_change_nothing(made, monkeypatch):
    images, grid = made.images.crop(6), small_grid(made)
    offsets = np.random.default_rng(2).random(len(images))
    monkeypatch.setattr(expectation, "_SCORES_AT_ONCE", 3 * grid.size)
    lane = np.arange(len(images)) * 7 % 5
    parts = chunks(lane, grid)
    assert sorted(np.concatenate(parts)) == list(range(len(images)))
    assert all(len(part) <= 3 and len(set(lane[part])) == 1 for part in parts)
    apart, logs = sample_everywhere(images, grid, SIGMA, offsets, 12, lane)
    _, expected = sample_everywhere(images, grid, SIGMA, offsets, 12)
    np.testing.assert_allclose(logs, expected, rtol=1e-5)
    assert np.all(np.diff(apart.image) >= 0)
    one, other = best_everywhere(images, grid, SIGMA, lane), best_everywhere(images, grid, SIGMA)
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_allclose(one.rotations, other.rotations)
    # a few images alone get, to the last bit, what they get among the others of their lane
    own = np.flatnonzero(lane == 2)
    alone, _ = sample_everywhere(images.select(own), grid, SIGMA, offsets[own], 12, lane[own])
    among = apart.select(np.isin(apart.image, own))
    np.testing.assert_array_equal(own[alone.image], among.image)
    np.testing.assert_array_equal(alone.weights, among.weights)


def test_no_images_no_samples(made):
    none = made.images.crop(6).select(np.zeros(0, np.int64))
    samples, logs = sample_everywhere(none, small_grid(made), SIGMA, np.zeros(0), 5, np.zeros(0, np.int64))
    assert len(samples) == len(logs) == len(best_everywhere(none, small_grid(made), SIGMA)) == 0


def found_error(made, samples):
    """Median angle in degrees and distance in pixels of the poses from the truth."""
    angle = angular_distance(samples.rotations, made.rotations[samples.image])
    away = np.hypot(*(samples.shifts - made.shifts[samples.image]).T)
    return np.median(angle), np.median(away), np.mean(angle > 30)


@pytest.mark.parametrize("device", DEVICES)
def test_the_true_map_finds_the_true_poses(made, device):
    view = looked_at(made.volume, RADIUS, device)
    coarse = coarse_level(5, BOX, 0.8)
    grid = PoseGrid.everywhere(looked_at(made.volume, 5, device), coarse, BOX, SIGMA, NO_TURN)
    candidates = best_everywhere(made.images.crop(5), grid, SIGMA)
    levels = finer_levels(coarse, RADIUS, BOX, 0.8)
    samples, logs, scored = search(made.images, view, candidates, levels, SIGMA, np.full(40, 0.5), 24)
    angle, away, lost = found_error(made, samples)
    assert angle < 7  # the finest grid has steps of 6 degrees
    assert away < 0.3
    assert lost < 0.05
    assert 0 < scored < grid.size / 2
    np.testing.assert_allclose(np.bincount(samples.image, samples.weights), 1.0, rtol=1e-5)
    truth = [likelihood(made.images, made.volume, i, made.rotations[i], made.shifts[i]) for i in range(40)]
    truth -= np.sum(made.shifts**2, axis=1) / (2 * SIGMA**2)
    assert np.mean(logs > truth - 3) > 0.9  # the sum holds a pose about as good as the true one


def test_a_finder_goes_on_from_known_poses_and_looks_everywhere_for_others(made):
    plan = EmPlan(40, starts=1, refinements=3, batch=40, filled=0.8, most_radius=RADIUS)
    finder = PoseSearch(made.volume, RADIUS, plan, BOX, SIGMA, NO_TURN)
    offsets = np.full(40, 0.5)
    some = np.arange(0, 40, 2)
    known = made.true_samples().select(some[:10])
    found = finder.find(made.images, some, known, offsets, np.arange(40) % 8)
    assert sorted(set(found.samples.image)) == list(some)
    assert np.all(np.diff(found.samples.image) >= 0)
    assert len(found.log_likelihood) == len(some)
    angle, _, lost = found_error(made, found.samples)
    assert angle < 7  # the finest grid has steps of 6 degrees
    assert lost < 0.1
    near = finder.find(made.images, some, made.true_samples(), offsets)
    assert near.searched < 0.1 * finder.find(made.images, some, NO_SAMPLES, offsets).searched
    nobody = finder.find(made.images, some[:0], NO_SAMPLES, offsets)
    assert len(nobody.samples) == 0
    assert nobody.searched == 0
