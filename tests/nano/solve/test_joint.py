"""The parts of a level: noise, finer pixels, ranks, shifts to begin with, steps that lower the objective."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from manyviews.kernels.flow_rigid_cpu import rigid_flow
from manyviews.kernels.warp_cpu import pull_back
from manyviews.nano.flow.gauge import remove_shift_gauge
from manyviews.nano.flow.grid import Grid
from manyviews.nano.flow.windows import annealed_window
from manyviews.nano.scan.binning import binned, binned_center
from manyviews.nano.simulate import simulate_arrays
from manyviews.nano.simulate_options import SimulateOptions
from manyviews.nano.solve.joint import Joint, Motion, Regularity, first_state
from manyviews.nano.solve.levels import finer_flow, finer_volume, usual_levels
from manyviews.nano.solve.noise import noise_of
from manyviews.nano.solve.problem import LevelProblem
from manyviews.nano.solve.start import begin_shifts, mass_shifts
from manyviews.nano.solve.transpose import Transpose
from manyviews.operators.radon import Radon
from manyviews.parallel.world import SingleWorld
from manyviews.random import Stream, generator
from thread_world import run_ranks

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE, VIEWS = 24, 30
CENTER = 0.5 * (SIDE - 1)


@pytest.fixture(scope="module")
def scan():
    return simulate_arrays(
        SimulateOptions(size=(SIDE,), views=VIEWS, rotations=2, deformation_percent=6.0, noise_free=True)
    )


def problem_of(scan, data=None, world=None):
    data = scan.projections if data is None else data
    return LevelProblem.of(data, scan.theta_degrees, CENTER, world or SingleWorld())


def test_noise_is_read_beside_slopes(rng):
    z, x = np.mgrid[:40, :50]
    smooth = np.stack([0.3 * x + 0.1 * z + np.sin(x / 9), 5 - 0.2 * x * z / 40]).astype(np.float32)
    noisy = smooth + rng.normal(scale=0.2, size=smooth.shape).astype(np.float32)
    assert noise_of(noisy) == pytest.approx(0.2, rel=0.05)
    assert noise_of(smooth) < 0.01
    assert noise_of(noisy[:, :2]) == pytest.approx(0.2, rel=0.3)


def test_levels_leave_enough_pixels():
    assert [usual_levels(*shape) for shape in ((256, 256), (96, 96), (64, 64), (2, 640))] == [3, 2, 1, 1]


def test_a_window_shrinks_by_equal_factors():
    assert [annealed_window(64, 16, part) for part in (0, 0.5, 1, 2)] == pytest.approx([64, 32, 16, 16])
    assert annealed_window(8, 16, 0.5) == 8


def test_finer_volumes_project_to_finer_projections():
    """A blob: where it lies, and sums along rays, are those of the coarse one."""
    fine = 48
    along = np.arange(fine) - fine // 2
    z = np.arange(fine)
    blob = np.exp(
        -0.5 * (((z[:, None, None] - 20) / 6) ** 2 + ((along[:, None] - 5) / 6) ** 2 + ((along + 3) / 6) ** 2)
    ).astype(np.float32)
    theta = np.arange(6) * 30.0
    center = 22.3
    images = Radon(theta, fine, fine, center).forward(torch.from_numpy(blob)).numpy()
    coarse = np.zeros((fine // 2,) * 3, np.float32)
    half = np.arange(fine // 2) - fine // 4
    coarse[:] = 2 * np.exp(
        -0.5
        * (
            ((2 * np.arange(fine // 2)[:, None, None] + 0.5 - 20) / 6) ** 2
            + ((2 * half[:, None] - 5) / 6) ** 2
            + ((2 * half + 3) / 6) ** 2
        )
    )
    small = Radon(theta, fine // 2, fine // 2, binned_center(center, 2)).forward(torch.from_numpy(coarse))
    np.testing.assert_allclose(small.numpy(), binned(images, 2), atol=0.02 * images.max())
    found = finer_volume(torch.from_numpy(coarse), fine, fine).numpy()
    np.testing.assert_allclose(found, blob, atol=0.04)


def test_a_finer_flow_is_twice_as_long():
    z, x = np.mgrid[:8, :10].astype(np.float32)
    flow = np.stack([0.1 * x, 0.2 * z])[None]
    fine = finer_flow(torch.from_numpy(flow), 16, 20).numpy()
    at = (np.arange(20) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(fine[0, 0, 5, 2:-2], 0.2 * at[2:-2], atol=1e-6)


@pytest.mark.parametrize("ranks", [2, 3])
def test_rows_and_views_change_places(ranks):
    images = torch.arange(7 * 5 * 4, dtype=torch.float32).reshape(7, 5, 4)

    def there_and_back(world):
        lies = Transpose(world, 7, 5, 4)
        views = lies.to_views(images[:, lies.own_rows])
        assert torch.equal(views, images[lies.own_views])
        assert torch.equal(lies.to_rows(views), images[:, lies.own_rows])
        return torch.equal(lies.gather_views(views), images)

    assert all(run_ranks(ranks, there_and_back))


@pytest.mark.parametrize("variation", [False, True])
def test_every_step_lowers_the_objective(scan, variation):
    problem = problem_of(scan)
    still = torch.from_numpy(scan.flow)
    regularity = Regularity(variation=0.02, penalty=1.0) if variation else Regularity(damping=0.1)
    state = first_state(problem, still, variation=variation)
    solver = Joint(problem, state, None, regularity, 3, "none")
    objectives = []
    for _ in range(6):
        state = solver.step(state)
        objectives.append(state.objective)
    falls = np.diff(objectives)
    assert (falls[: 5 if not variation else 2] <= 1e-9).all()
    assert state.relative_misfit < 0.06


def test_the_true_flow_gives_the_specimen_and_one_found_lowers_the_misfit(scan):
    """With the flow that was simulated a volume is as good as one of projections that rest."""
    problem = problem_of(scan)

    def solved(problem, flow, motion=None):
        state = first_state(problem, flow, variation=False)
        solver = Joint(problem, state, motion, Regularity(damping=0.05), 3, "none")
        for _ in range(8):
            state = solver.step(state)
        return state

    apart = [
        np.linalg.norm(state.iterate.numpy() - scan.truth) / np.linalg.norm(scan.truth)
        for state in (
            solved(problem, torch.from_numpy(scan.flow)),
            solved(problem_of(scan, scan.still), None),
            solved(problem, None),
        )
    ]
    assert apart[0] < 1.15 * apart[1]
    assert apart[2] > 1.3 * apart[1]
    zero = torch.zeros((VIEWS, 2, SIDE, SIDE))
    moved = solved(problem, zero, Motion(Grid(damping=0.1), lambda iteration: 16.0))
    assert moved.relative_misfit < 0.6 * solved(problem, None).relative_misfit


def test_ranks_take_the_same_steps(scan):
    def work(world):
        problem = problem_of(scan, world=world)
        state = first_state(problem, torch.from_numpy(scan.flow), variation=True)
        solver = Joint(problem, state, None, Regularity(variation=0.02, penalty=1.0), 3)
        for _ in range(3):
            state = solver.step(state)
        return problem.ranks.gather_rows(state.iterate).numpy()

    alone = work(SingleWorld())
    for found in run_ranks(3, work):
        np.testing.assert_allclose(found, alone, atol=1e-5 * np.abs(alone).max())


def test_shifts_to_begin_with_are_found_by_the_mass(scan):
    """Far shifts, no opposite views: profiles and middles of the mass tell, and the best guess is taken."""
    theta = np.linspace(-70.0, 70.0, VIEWS)
    volume = np.zeros((SIDE, SIDE, SIDE), np.float32)
    volume[8:14, 9:14, 8:15] = 1.0
    volume[10:17, 12:16, 11:13] += 0.5
    images = Radon(theta, SIDE, SIDE, CENTER).forward(torch.from_numpy(volume)).numpy()
    truth = generator(3, Stream.TEST).uniform(-3, 3, (VIEWS, 2))
    motion = np.concatenate([truth, np.zeros((VIEWS, 1))], axis=1)
    data = pull_back(np.ascontiguousarray(images), rigid_flow(motion, SIDE, SIDE))
    apart, _ = remove_shift_gauge(mass_shifts(data, theta, CENTER) - truth, theta)
    assert np.sqrt(np.mean(apart**2)) < 0.5
    begun = begin_shifts(data, LevelProblem.of(data, theta, CENTER, SingleWorld()))
    assert begun.by == "the middle of the mass"
    still = begin_shifts(images, LevelProblem.of(images, theta, CENTER, SingleWorld()))
    assert still.by == "none"
