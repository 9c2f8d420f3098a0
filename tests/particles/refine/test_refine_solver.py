"""A pass of the refinement: halves apart, poses found, noise told, and the same bits after a stop."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from em_example import BOX, RADIUS, example

from manyviews.geometry.poses import angular_distance
from manyviews.operators.fourier_slice import FourierVolume
from manyviews.particles.em.plan import EmPlan
from manyviews.particles.em.pose_samples import PoseSamples
from manyviews.particles.em.pose_summary import summarise_poses
from manyviews.particles.em.problem import EmProblem
from manyviews.particles.refine.residuals import Residuals, residuals
from manyviews.particles.refine.solver import HalvesRefinement
from manyviews.particles.refine.start import low_passed

COUNT, START = 120, 6
FILLED = 1.0


@pytest.fixture(scope="module")
def made():
    return example(COUNT, noise=0.5)


def problem_of(images, **given):
    plan = EmPlan(COUNT, starts=0, refinements=4, batch=COUNT, filled=FILLED, most_radius=RADIUS)
    return EmProblem(images, np.arange(len(images)), plan, 0.6, 0, positive=False, independent=True, **given)


def solver_of(made):
    start = low_passed(made.volume, START)
    return HalvesRefinement(problem_of(made.images), (start, start * 1.001), START)


@pytest.fixture(scope="module")
def passes(made, one_thread_module):
    """States from the start on."""
    solver = solver_of(made)
    states = [solver.init()]
    for _ in range(6):
        states.append(solver.step(states[-1]))
    return states


@pytest.fixture(scope="module")
def one_thread_module():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_frequencies_rise_and_poses_are_found(made, passes):
    last = passes[-1]
    radii = [state.radius for state in passes[1:]]
    assert radii == sorted(radii)
    assert radii[-1] == RADIUS
    best, _, _ = summarise_poses(last.samples, COUNT)
    errors = angular_distance(best.rotations, made.rotations.astype(np.float32))
    assert np.median(errors) < 8


def test_everything_is_searched_first_and_little_later(passes):
    shares = [state.everywhere for state in passes[1:]]
    assert shares[0] == 1.0
    assert shares[-1] < 0.5


def test_the_map_explains_the_particles_power(passes):
    explained = np.array(passes[-1].explained)
    assert np.all(explained[1 : START + 1] > 0.7)


def test_halves_are_apart_in_a_pass(made, passes):
    """Whatever the second half of the images is like, the first finds the same poses and adds up the same."""
    solver, state = solver_of(made), passes[2]
    changed = made.images.values.copy()
    changed[1::2] = changed[1::2] * 0.5 + 3.0
    images = replace(made.images, values=changed)
    other = HalvesRefinement(problem_of(images), solver.starts, START)
    found, disturbed = solver.step(state), other.step(state)
    poses = [one.samples.select(one.samples.image % 2 == 0) for one in (found, disturbed)]
    for name in ("image", "rotations", "shifts", "weights"):
        np.testing.assert_array_equal(getattr(poses[0], name), getattr(poses[1], name))
    assert torch.equal(found.credence[::2], disturbed.credence[::2])
    assert torch.equal(found.evidence[::2], disturbed.evidence[::2])
    sums = (
        solver.sums(made.images, found.samples, RADIUS, found.credence),
        other.sums(images, disturbed.samples, RADIUS, disturbed.credence),
    )
    assert torch.equal(sums[0].numerator[0], sums[1].numerator[0])
    assert torch.equal(sums[0].denominator[0], sums[1].denominator[0])
    assert not torch.equal(sums[0].numerator[1], sums[1].numerator[1])
    assert not torch.equal(found.halves[1], disturbed.halves[1])


def test_a_step_depends_on_its_state_alone(made, passes):
    again = solver_of(made).step(passes[2])
    for item in fields(again):
        one, other = getattr(again, item.name), getattr(passes[3], item.name)
        if isinstance(one, torch.Tensor):
            assert torch.equal(one, other), item.name
        elif item.name != "halves":
            assert one == other, item.name
    assert all(torch.equal(a, b) for a, b in zip(again.halves, passes[3].halves, strict=True))


def test_it_settles_when_the_halves_agree_no_further(passes):
    solver_settled = HalvesRefinement.settled
    assert not solver_settled(None, passes[1])
    assert solver_settled(None, replace(passes[-1], stalled=2))


def test_residuals_at_the_truth_are_the_noise(made):
    images = made.images
    volume = FourierVolume.of(made.volume, RADIUS)
    left = residuals(images, volume, made.true_samples(), RADIUS)
    noise = left.noise(images.noise_variance)
    np.testing.assert_allclose(noise[0, 1:], images.noise_variance[0, 1:], rtol=0.2)
    np.testing.assert_allclose(left.explained(images.noise_variance)[1:4], 1.0, atol=0.1)


def test_residuals_are_as_written_out(made):
    """Against a plain loop over images and points, with two weighted poses an image."""
    images = made.images
    volume = FourierVolume.of(made.volume, RADIUS)
    rng = np.random.default_rng(4)
    picked = np.repeat(np.arange(3), 2)
    weights = np.array([0.3, 0.7] * 3, np.float32)
    rotations = made.rotations[rng.integers(0, COUNT, 6)].astype(np.float32)
    shifts = rng.normal(size=(6, 2)).astype(np.float32)
    samples = PoseSamples(picked.astype(np.int64), rotations, shifts, weights)
    found = residuals(images, volume, samples, RADIUS)
    shells, left = images.shells(), np.zeros(RADIUS + 1)
    slices = volume.slices(rotations, images.points).numpy()
    for at in range(6):
        phase = np.exp(-2j * np.pi * (images.points @ shifts[at].astype(np.float64)) / BOX)
        row = np.abs(images.values[picked[at]] * phase - images.ctf[picked[at]] * slices[at]) ** 2
        left += weights[at] * np.bincount(shells, row) / np.bincount(shells)
    np.testing.assert_allclose(found.left[0], left, rtol=1e-4)
    assert found.images[0] == 3


def test_groups_of_no_image_keep_the_background():
    background = np.full((2, 9), 3.0, np.float32)
    left = Residuals(np.ones((2, 9)) * [[500.0], [0]], np.ones((2, 9)) * [[500.0], [0]], np.array([100.0, 0]))
    noise = left.noise(background)
    np.testing.assert_allclose(noise[1], 3.0)
    np.testing.assert_allclose(noise[0, 1:], (500 + 150) / 150)
