"""Curvature of the marginal likelihood by shells: against that itself, and where poses are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from em_example import BOX, RADIUS, example

from manyviews.operators.fourier_ball import FourierBall
from manyviews.operators.fourier_slice import FourierVolume
from manyviews.operators.image_shift import shift_phases
from manyviews.particles.em.pose_samples import PoseSamples
from manyviews.particles.refine.curvature import ShellCurvature, shell_curvature
from manyviews.solvers.hutchinson import random_signs

IMAGES = 6


@pytest.fixture(scope="module")
def made():
    return example(IMAGES, noise=4.0)


def poses_near(made, count, spread, seed=0):
    """``count`` poses an image near the true ones, with equal weights."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(IMAGES), count)
    axes = rng.normal(size=(len(image), 3)) * spread
    turns = np.eye(3) + np.cross(np.eye(3), axes[:, None])
    rotations = np.linalg.qr(turns)[0]
    rotations *= np.sign(np.einsum("nii->ni", rotations))[:, None]
    shifts = made.shifts[image] + rng.normal(size=(len(image), 2)) * spread
    rotations = rotations @ made.rotations[image]
    weights = np.full(len(image), 1 / count)
    return PoseSamples(image, *(np.float32(part) for part in (rotations, shifts, weights)))


def misfits(made, slices, poses):
    """``f_s`` of every pose in double precision."""
    images = made.images
    phases = np.concatenate(
        [shift_phases(shift[None].astype(np.float64), images.points, BOX).numpy() for shift in poses.shifts]
    )
    difference = images.ctf[poses.image] * slices - images.values[poses.image] * phases
    return np.sum(images.precision()[poses.image] * np.abs(difference) ** 2, axis=1)


def marginal(made, slices, poses, prior):
    """Negative log likelihood of all images, where the poses have these prior weights."""
    costs = misfits(made, slices, poses).reshape(IMAGES, -1)
    least = costs.min(1)
    return np.sum(least - np.log(np.sum(prior * np.exp(least[:, None] - costs), axis=1)))


def test_it_is_the_curvature_of_the_marginal_likelihood(made):
    """Second differences along a probe of a shell, of the likelihood written out."""
    poses, shell = poses_near(made, 5, 0.3), 4
    volume = FourierVolume.of(made.volume, RADIUS)
    slices = volume.slices(poses.rotations, made.images.points).numpy().astype(np.complex128)
    costs = misfits(made, slices, poses).reshape(IMAGES, -1)
    # such a prior that the posterior at the map has equal weights
    prior = np.exp(costs - costs.max(1, keepdims=True))
    prior /= prior.sum(1, keepdims=True)
    ball = FourierBall.of(RADIUS)
    probe = random_signs(torch.zeros(ball.size), np.random.default_rng(1)) * (ball.shells() == shell)
    moved = FourierVolume(ball.to_grid(probe.double()), BOX, RADIUS, 1)
    moved = moved.slices(poses.rotations.astype(np.float64), made.images.points).numpy()
    step = 0.02 * np.abs(slices).mean()
    values = [marginal(made, slices + t * step * moved, poses, prior) for t in (-1, 0, 1)]
    expected = (values[0] - 2 * values[1] + values[2]) / step**2
    found = shell_curvature(made.images, volume, poses, RADIUS, np.random.default_rng(1))
    assert found.covariance[shell] > 0.1 * found.em[shell]
    assert found.em[shell] - found.covariance[shell] == pytest.approx(expected, rel=0.02)


def test_known_poses_have_no_covariance(made):
    volume = FourierVolume.of(made.volume, RADIUS)
    found = shell_curvature(made.images, volume, poses_near(made, 1, 0.0), RADIUS, np.random.default_rng(1))
    assert np.all(found.em[1:] > 0)
    np.testing.assert_allclose(found.covariance, 0, atol=1e-5 * found.em.max())
    np.testing.assert_allclose(found.ratio(), 1, atol=1e-4)


def test_ambiguous_poses_lessen_it_most_at_high_frequency(made):
    volume = FourierVolume.of(made.volume, RADIUS)
    total = ShellCurvature.none(RADIUS + 1)
    for seed in range(4):
        poses = poses_near(made, 12, 0.15, seed)
        total = total.added(shell_curvature(made.images, volume, poses, RADIUS, np.random.default_rng(seed)))
    assert total.ratio()[1] > total.ratio()[RADIUS - 1]
    assert total.ratio(0.3).min() >= 0.3
    assert ShellCurvature.none(3).ratio().tolist() == [1, 1, 1]


def test_some_shells_alone_are_as_among_all(made):
    volume, poses = FourierVolume.of(made.volume, RADIUS), poses_near(made, 4, 0.2)
    every = shell_curvature(made.images, volume, poses, RADIUS, np.random.default_rng(1))
    one = shell_curvature(made.images, volume, poses, RADIUS, np.random.default_rng(1), np.array([5]))
    assert one.em[5] == every.em[5]
    assert one.em[4] == 0
