"""Refinement by batches: poses found by every method, halves apart, the same after a stop."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from em_example import RADIUS, example

from manyviews.geometry.poses import angular_distance
from manyviews.parallel.lanes import own_particles
from manyviews.parallel.world import SingleWorld
from manyviews.particles.em.plan import EmPlan
from manyviews.particles.em.pose_summary import summarise_poses
from manyviews.particles.em.problem import EmProblem
from manyviews.particles.refine.batches import UPDATES, BatchRefinement, Schedule, batch_size
from manyviews.particles.refine.start import low_passed
from thread_world import run_ranks

COUNT, START, BATCH = 120, 6, 40
FILLED = 1.0


@pytest.fixture(scope="module")
def made():
    return example(COUNT, noise=0.5)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def solver_of(made, method="preconditioned-sgd", *, images=None, world=None, **given):
    world = world or SingleWorld()
    numbers = np.flatnonzero(own_particles(np.arange(COUNT), world))
    plan = EmPlan(COUNT, starts=0, refinements=4, batch=COUNT, filled=FILLED, most_radius=RADIUS)
    problem = EmProblem(
        (made.images if images is None else images).select(numbers),
        numbers, plan, 0.6, 0, positive=False, independent=True, world=world,
    )  # fmt: skip
    start = low_passed(made.volume, START)
    return BatchRefinement(problem, (start, start * 1.001), START, UPDATES[method](), BATCH, **given)


def states_of(solver, count):
    states = [solver.init()]
    for _ in range(count):
        states.append(solver.step(states[-1]))
    return states


@pytest.fixture(scope="module")
def steps(made):
    return states_of(solver_of(made, true_diagonal=True), 6)


def assert_same(one, other):
    for item in fields(one):
        a, b = getattr(one, item.name), getattr(other, item.name)
        if isinstance(a, torch.Tensor):
            assert torch.equal(a, b), item.name
        elif isinstance(a, tuple):
            assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True)), item.name
        else:
            assert a == b, item.name


@pytest.mark.parametrize("method", ["accelerated-em", "preconditioned-sgd"])
def test_poses_are_found(made, method):
    last = states_of(solver_of(made, method), 6 if method == "accelerated-em" else 10)[-1]
    best, _, _ = summarise_poses(last.samples, COUNT)
    errors = angular_distance(best.rotations, made.rotations.astype(np.float32))
    assert np.median(errors) < 8
    assert last.radius == RADIUS
    assert np.all(np.array(last.explained)[1 : START + 1] > 0.7)


def test_vdam_finds_poses_less_well(made):
    """Not known why; EM is below 8."""
    last = states_of(solver_of(made, "vdam"), 8)[-1]
    best, _, _ = summarise_poses(last.samples, COUNT)
    errors = angular_distance(best.rotations, made.rotations.astype(np.float32))
    assert np.median(errors) < 15
    assert last.radius == RADIUS


def test_plain_descent_is_left_behind(made):
    """No preconditioner: after as many passes the map explains less of the particles' power."""
    plain, other = (
        states_of(solver_of(made, method), 6)[-1].explained for method in ("sgd", "preconditioned-sgd")
    )
    assert np.mean(plain[1 : START + 1]) < np.mean(other[1 : START + 1])


def test_a_pass_sees_every_image_once(made, steps):
    solver = solver_of(made)
    assert solver.steps(3) == 6
    seen = np.concatenate([solver._batch(step) for step in range(3)])
    np.testing.assert_array_equal(np.sort(seen), np.arange(COUNT))
    grown = [solver._batch(step) for step in (3, 4)]
    np.testing.assert_array_equal(np.sort(np.concatenate(grown)), np.arange(COUNT))
    np.testing.assert_array_equal(solver._batch(5), np.arange(COUNT))
    assert len(np.unique(steps[1].samples.image)) == BATCH
    assert len(np.unique(steps[3].samples.image)) == COUNT
    assert steps[3].measures()["data_passes"] == 1.0


def test_everything_is_searched_in_the_first_pass_and_little_later(steps):
    shares = [state.everywhere for state in steps[1:]]
    assert shares[:3] == [1.0, 1.0, 1.0]
    assert np.mean(shares[3:]) < 0.5


def test_only_whole_passes_tell_that_the_halves_agree_no_further(steps):
    assert steps[1].stalled == steps[2].stalled == 0
    assert steps[2].furthest == 0
    assert steps[3].furthest > 0


def test_a_step_depends_on_its_state_alone(made, steps):
    assert_same(solver_of(made, true_diagonal=True).step(steps[4]), steps[5])


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_come_to_the_same(made, steps, size):
    """In batches and, after those, in a pass of all images, where they are judged too.

    Sums of what is left are in double precision, in another order; the noise made of them is not.
    """

    def rank(world):
        return states_of(solver_of(made, world=world, true_diagonal=True), 6)[-1]

    for found in run_ranks(size, rank):
        for name in ("explained", "power", "left", "counted"):
            np.testing.assert_allclose(getattr(found, name), getattr(steps[6], name), rtol=1e-12)
        assert_same(found, replace(steps[6], **{name: getattr(found, name) for name in
                                                ("explained", "power", "left", "counted")}))  # fmt: skip


def test_halves_are_apart_in_a_batch(made, steps):
    """Whatever the second half of the images is like, the first makes the same of its own."""
    changed = made.images.values.copy()
    changed[1::2] = changed[1::2] * 0.5 + 3.0
    other = solver_of(made, images=replace(made.images, values=changed), true_diagonal=True)
    found, disturbed = steps[5], other.step(steps[4])
    for name in ("x", "weight", "em_curvature", "covariance"):
        assert torch.equal(getattr(found, name)[0], getattr(disturbed, name)[0]), name
        assert not torch.equal(found.x[1], disturbed.x[1])
    poses = [one.samples.select(one.samples.image % 2 == 0) for one in (found, disturbed)]
    np.testing.assert_array_equal(poses[0].rotations, poses[1].rotations)


@pytest.mark.parametrize("method", ["accelerated-em", "vdam"])
def test_memory_of_a_method_keeps_the_halves_apart(made, method):
    before = states_of(solver_of(made, method), 2)[-1]
    changed = made.images.values.copy()
    changed[1::2] = changed[1::2] * 0.5 + 3.0
    other = solver_of(made, method, images=replace(made.images, values=changed))
    found, disturbed = solver_of(made, method).step(before), other.step(before)
    assert len(found.memory) >= 2
    for one, two in zip(found.memory, disturbed.memory, strict=True):
        assert torch.equal(one[0], two[0])
    assert torch.equal(found.x[0], disturbed.x[0])
    assert not torch.equal(found.x[1], disturbed.x[1])


def test_the_true_diagonal_is_estimated_on_the_way(steps, made):
    last = steps[-1]
    assert bool((last.em_curvature[:, 1:] > 0).all())
    assert bool((last.covariance[:, 1:] >= 0).all())
    assert bool((last.covariance.sum(1) > 0).all())
    plain = solver_of(made).step(solver_of(made).init())
    assert not bool(plain.em_curvature.any())


def test_noise_of_batches_is_that_of_a_pass(made, steps):
    found = steps[-1].noise.numpy()[0, 1:]
    np.testing.assert_allclose(found, made.images.noise_variance[0, 1:], rtol=0.3)


def test_batches_grow_until_they_are_all_images():
    schedule = Schedule(10)
    assert [schedule.batches(number) for number in range(6)] == [10, 5, 3, 2, 1, 1]
    assert schedule.steps(5) == 21
    assert [schedule.place(step) for step in (0, 9, 10, 15, 20, 23)] == [
        (0, 0), (0, 9), (1, 0), (2, 0), (4, 0), (7, 0),
    ]  # fmt: skip


def test_a_batch_is_a_tenth_but_not_few():
    assert batch_size(20_000) == 2000
    assert batch_size(2000) == 500
    assert batch_size(300) == 300
