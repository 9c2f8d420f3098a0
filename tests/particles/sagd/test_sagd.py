"""The whole algorithm on small data: schedules, determinism, and that it finds what made the images."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from marginal_example import blob_volume, noisy_images, random_lattice

from manyviews.geometry.poses import random_rotations
from manyviews.operators.fourier_points import half_plane
from manyviews.operators.fourier_slice import FourierVolume
from manyviews.particles import methods
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.images.fourier_resample import regrid_volume, working_box
from manyviews.particles.images.random_start import power_scale, random_spheres
from manyviews.particles.methods import best_trial
from manyviews.particles.sagd.importance import Annealing
from manyviews.particles.sagd.marginal import marginal
from manyviews.particles.sagd.objective import PoseObjective, Sampling, split_batches
from manyviews.particles.sagd.priors import PriorName
from manyviews.particles.sagd.sagd import (
    Sagd,
    SagdOptions,
    change_box,
    gradient_bytes,
)
from manyviews.runs.state import state_from_arrays, state_to_arrays
from manyviews.solvers.stochastic_average_gradient import SagState, StochasticAverageGradient, batch_of

BOX = 16
QUICK = Annealing(period=2)
OPTIONS = SagdOptions(
    batch_size=20,
    first_frequency=2 / BOX,
    frequency_step=1 / BOX,
    last_frequency=3 / BOX,
    raise_every=8,
    shift_sigma=0.5,
    least_shift_weight=1e-2,
    prior_strength=0.1,
    search_every=5,
    sampling=Sampling(annealing=QUICK),
)


def specimen() -> torch.Tensor:
    """Blobs without symmetry, nowhere negative."""
    axis = np.arange(BOX) - BOX // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    volume = np.zeros((BOX,) * 3)
    for place, height in (((3, 0, 0), 1.0), ((-2, 2, 0), 0.7), ((0, -3, 1), 1.3), ((0, 0, -3), 0.9)):
        apart = (x - place[0]) ** 2 + (y - place[1]) ** 2 + (z - place[2]) ** 2
        volume += height * np.exp(-apart / 4.0)
    return torch.from_numpy(volume.astype(np.float32))


def images_of(volume: torch.Tensor, count: int = 60, noise: float = 20.0, radius: int = 4) -> FourierImages:
    """Random views with transfer functions and white noise."""
    rng = np.random.default_rng(2)
    points = half_plane(radius, BOX)
    slices = FourierVolume.of(volume, radius).slices(random_rotations(count, rng), points).numpy()
    ctf = np.cos(0.1 * np.sum(points**2, axis=1) * rng.uniform(0.5, 1.5, (count, 1)))
    errors = rng.normal(size=(2, count, len(points))) * np.sqrt(noise / 2)
    errors[:, :, 0] *= np.array([[np.sqrt(2)], [0.0]])
    values = ctf * slices + errors[0] + 1j * errors[1]
    return FourierImages(
        points,
        values.astype(np.complex64),
        ctf.astype(np.float32),
        np.full((1, radius + 1), noise, np.float32),
        np.zeros(count, np.int32),
        BOX,
        1.0,
        radius,
    )


@pytest.fixture(autouse=True)
def _quick(one_thread):
    pass


@pytest.fixture(scope="module")
def images() -> FourierImages:
    return images_of(specimen())


def run(sagd: Sagd, iterations: int, state: SagState | None = None) -> SagState:
    state = state or sagd.init()
    while state.iteration < iterations:
        state = sagd.step(state)
    return state


def test_the_data_become_far_more_likely_and_the_map_stays_positive(images):
    sagd = Sagd(images, OPTIONS)
    state = run(sagd, 24)
    assert state.iterate.min() >= 0
    low, lattice = images.crop(3), sagd.lattice(3)
    found = marginal(low, sagd.final_volume(state), lattice, gradient=False).log_probability.sum()
    start = marginal(low, sagd.final_volume(sagd.init()), lattice, gradient=False).log_probability.sum()
    truth = marginal(low, specimen(), lattice, gradient=False).log_probability.sum()
    assert found > start + 0.8 * (truth - start)


def test_a_run_taken_up_again_goes_on_identically(images):
    """Across a change of radius, with importance sampling on both sides of it."""
    options = replace(OPTIONS, sampling=Sampling(annealing=QUICK, draws=1.0))
    first = Sagd(images, options)
    state = run(first, 13)
    assert state.work < 1
    again = state_from_arrays(SagState, dict(state_to_arrays(state)))
    ended, resumed = run(first, 20, state), run(Sagd(images, options), 20, again)
    assert torch.equal(ended.iterate, resumed.iterate)
    assert ended.lipschitz == resumed.lipschitz
    for a, b in zip(ended.memories, resumed.memories, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_seeds_and_trials_give_different_runs(images):
    """In the start, the mini-batches and their order."""
    runs = ((0, 0), (1, 0), (0, 1))
    sagds = [Sagd(images, replace(OPTIONS, seed=seed, trial=trial)) for seed, trial in runs]
    starts, states = [sagd.start() for sagd in sagds], [run(sagd, 1) for sagd in sagds]
    batches = [np.concatenate(sagd.batches) for sagd in sagds]
    orders = [[batch_of(k, 30, *one) for k in range(30)] for one in runs]
    for a, b in combinations(range(3), 2):
        assert not torch.equal(starts[a], starts[b])
        assert not torch.equal(states[a].iterate, states[b].iterate)
        assert not np.array_equal(batches[a], batches[b])
        assert orders[a] != orders[b]


def test_trials_draw_poses_of_their_own(images):
    """From the same memory of the same mini-batch."""
    sagd = Sagd(images, OPTIONS)
    batches = [np.arange(len(images))]
    samplings = [Sampling(draws=1.0, annealing=QUICK, trial=trial) for trial in (0, 0, 1)]
    objectives = [PoseObjective(images.crop(2), batches, sagd.lattice, one) for one in samplings]
    memory = objectives[0].evaluate(sagd.start(), 0, 30, ()).memory
    values = [objective.value(sagd.start(), 0, 35, memory) for objective in objectives]
    assert values[0] == values[1] != values[2]


def test_frequencies_rise_as_asked_and_no_further_than_the_images(images):
    paper = Sagd(replace(images, box=128, pixel_size=2.8, radius=60), SagdOptions())
    assert [paper.frequency(t) for t in (0, 149, 150, 4999)] == [0.02, 0.02, 0.025, 0.11]
    assert [paper.radius(t) for t in (0, 150, 4999)] == [7, 8, 39]
    small = Sagd(images, replace(OPTIONS, last_frequency=1.0))
    assert small.radius(1000) == 4


class FakeJob:
    """Runs stages without a folder."""

    def __init__(self):
        self.stages, self.said = [], []

    def solve(self, solver, iterations, *, stage):
        self.stages.append(stage)
        return run(solver, iterations), None

    def say(self, text):
        self.said.append(text)


def test_the_best_start_has_the_least_objective_and_can_be_gone_on_with(images, monkeypatch):
    monkeypatch.setattr(methods, "_TRIAL_ITERATIONS", 5)
    job = FakeJob()
    trials = [Sagd(images, replace(OPTIONS, seed=3, trial=trial)) for trial in range(3)]
    sagd, state = best_trial(job, trials)
    assert job.stages == ["trial-1", "trial-2", "trial-3"]
    objectives = [float(text) for text in job.said[0].partition(": ")[2].split(", ")]
    assert sagd is trials[objectives.index(min(objectives))]
    alone = run(Sagd(images, sagd.options), 5)
    assert torch.equal(alone.iterate, state.iterate)
    assert len(state.values) == min(5, len(sagd.batches))
    assert sagd.step(state).iteration == 6
    assert best_trial(job, trials[:1]) == (trials[0], None)


def test_the_quick_schedule_changes_the_schedule_alone():
    quick = SagdOptions(seed=5, prior=PriorName.UNIFORM).quick()
    assert (quick.raise_every, quick.sampling.annealing.period) == (40, 8)
    assert (quick.seed, quick.prior, quick.sampling.draws) == (5, PriorName.UNIFORM, 10.0)


def test_fewer_voxels_for_low_frequencies():
    assert working_box(5, 64) == 16
    assert working_box(13, 64) == 36
    assert working_box(39, 128) == 100
    assert working_box(30, 64) == 64
    assert gradient_bytes(50_000, 39, 128) == 250 * 4 * 100**3


def test_a_change_of_voxels_keeps_map_and_sum_of_gradients(images):
    state = run(Sagd(images, OPTIONS), 4)
    moved = change_box(state, 14)
    back = regrid_volume(moved.iterate, state.iterate.shape[0])
    assert float((back - state.iterate).norm() / state.iterate.norm()) < 0.25  # what positivity costs
    torch.testing.assert_close(
        moved.total, sum(g for g in moved.gradients if g.numel()), rtol=1e-3, atol=1e-3
    )
    assert change_box(state, state.iterate.shape[0]) is state


def test_gradients_on_other_voxels_are_those_of_the_objective_there(images):
    """A first-epoch gradient carried over equals, on what both hold, the gradient taken anew."""
    sagd = Sagd(images, OPTIONS)
    coarse, lattice = sagd.start(), sagd.lattice(2)
    fine = regrid_volume(coarse, 14)
    low = images.crop(2)
    slopes = [marginal(low, volume, lattice).gradient for volume in (coarse, fine)]
    zero = [torch.zeros_like(part) for part in (coarse, fine)]
    state = replace(sagd.init(), total=slopes[0], gradients=(slopes[0],), iterate=zero[0])
    moved = change_box(state, 14).total
    band = regrid_volume(slopes[1], coarse.shape[0])
    expected = regrid_volume(band, 14)
    assert float((moved - expected).norm() / expected.norm()) < 0.1


def test_every_image_is_in_one_mini_batch():
    batches = split_batches(45, 20, seed=3)
    assert [len(part) for part in batches] == [15, 15, 15]
    assert sorted(np.concatenate(batches)) == list(range(45))


def test_value_and_evaluation_agree_in_full_and_on_draws(images):
    sagd = Sagd(images, OPTIONS)
    sampling = Sampling(draws=1.0, annealing=QUICK)
    objective = PoseObjective(images.crop(2), sagd.batches, sagd.lattice, sampling)
    full = objective.evaluate(sagd.start(), 0, 30, ())
    assert full.work == 1
    assert objective.value(sagd.start(), 0, 30, ()) == pytest.approx(full.value, rel=1e-6)
    part = objective.evaluate(sagd.start(), 0, 35, full.memory)
    assert part.work < 1
    assert objective.value(sagd.start(), 0, 35, full.memory) == pytest.approx(part.value, rel=1e-6)
    assert part.value == pytest.approx(full.value, rel=0.1)


def test_draws_that_save_nothing_are_not_made(images):
    sagd = Sagd(images, OPTIONS)
    many = PoseObjective(images.crop(2), sagd.batches, sagd.lattice, Sampling(draws=1e3, annealing=QUICK))
    full = many.evaluate(sagd.start(), 0, 30, ())
    assert many.evaluate(sagd.start(), 0, 35, full.memory).work == 1
    never = PoseObjective(images.crop(2), sagd.batches, sagd.lattice, Sampling(importance=False))
    assert never.evaluate(sagd.start(), 0, 30, ()).memory == ()


@pytest.mark.parametrize("prior", list(PriorName))
def test_all_priors_run(images, prior):
    state = run(Sagd(images, replace(OPTIONS, prior=prior)), 3)
    assert torch.isfinite(state.iterate).all()


def test_spheres_are_the_same_in_every_box():
    coarse, fine = random_spheres(16, 5), random_spheres(64, 5)
    assert coarse.min() >= 0
    assert float((regrid_volume(fine, 16) - coarse).norm() / coarse.norm()) < 0.1
    assert not torch.equal(coarse, random_spheres(16, 6))
    assert not torch.equal(coarse, random_spheres(16, 5, 1))


def test_the_start_is_as_bright_as_the_images_ask_for():
    images = images_of(specimen(), count=300)
    assert power_scale(specimen(), images) == pytest.approx(1.0, rel=0.15)
    assert power_scale(2 * specimen(), images) == pytest.approx(0.5, rel=0.15)
    silent = replace(images, values=np.zeros_like(images.values))
    assert 0 < power_scale(specimen(), silent) < 0.2


def test_importance_sampling_takes_over_from_the_full_sum():
    lattice = random_lattice(60, 20, 9)
    images = noisy_images(lattice, 6, dtype=np.complex64, noise=200.0)
    objective = PoseObjective(
        images,
        [np.arange(6)],
        lambda radius: lattice,
        Sampling(annealing=Annealing(period=1), exhaustive_above=0.95),
    )
    volume = blob_volume(dtype=torch.float32)
    first = objective.evaluate(volume, 0, 40, ())
    second = objective.evaluate(volume, 0, 41, first.memory)
    third = objective.evaluate(volume, 0, 42, second.memory)
    assert first.work == 1
    assert third.work < 0.95
    assert third.value == pytest.approx(first.value, rel=0.02)


def test_the_lipschitz_constant_is_searched_again_where_the_radius_rises(images, monkeypatch):
    sagd = Sagd(images, OPTIONS)
    state = run(sagd, 8)
    found: list[bool] = []
    stepped = StochasticAverageGradient.step

    def step(self, given):
        found.append(given.searched)
        return stepped(self, given)

    monkeypatch.setattr(StochasticAverageGradient, "step", step)
    run(sagd, 10, state)
    assert found == [False, True]
