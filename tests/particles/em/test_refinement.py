"""The solver on small data: determinism, states, symmetry, halves; ranks that are threads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from em_example import BOX, example

from manyviews.kernels import pose_scores_torch, pose_sums_torch
from manyviews.metrics.fsc import agreed_radius, fsc
from manyviews.parallel.lanes import own_particles
from manyviews.parallel.world import SingleWorld
from manyviews.particles.em import expectation, maximisation
from manyviews.particles.em import plan as em_plan
from manyviews.particles.em.plan import EmPlan
from manyviews.particles.em.problem import EmProblem
from manyviews.particles.em.refinement import Refinement
from manyviews.particles.em.starts import RandomStarts
from manyviews.particles.em.state import RefinementState, StartsState
from manyviews.runs.state import state_from_arrays, state_to_arrays
from thread_world import run_ranks

COUNT = 64
PLAN = EmPlan(COUNT, starts=2, refinements=3, batch=30, filled=0.8, most_radius=5, final_passes=1)


@pytest.fixture(autouse=True)
def _quick(one_thread, monkeypatch):
    monkeypatch.setattr(em_plan, "_START_ITERATIONS", 5)


@pytest.fixture(scope="module")
def images():
    return example(COUNT, groups=2).images.crop(5)


def problem(images, plan=PLAN, world=None, **options):
    numbers = np.arange(COUNT)
    world = world or SingleWorld()
    numbers = numbers[own_particles(numbers, world)]
    given = {"shift_sigma": 0.6, "seed": 1, "world": world, **options}
    return EmProblem(images.select(numbers), numbers, plan, **given)


def starts(made, iterations=None, state=None):
    solver = RandomStarts(made)
    state = solver.init() if state is None else state
    last = made.plan.starts * made.plan.start_iterations
    while state.iteration < (last if iterations is None else iterations):
        state = solver.step(state)
    return state


def run(made, iterations=None, state=None):
    """Both stages; ``state`` is one of either to go on from."""
    if not isinstance(state, RefinementState):
        solver = Refinement(made, starts(made, state=state))
        state = solver.init()
    else:
        solver = Refinement(made, None)
    while state.iteration < (made.plan.iterations if iterations is None else iterations):
        state = solver.step(state)
    return state


@pytest.fixture(scope="module")
def whole(images):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(em_plan, "_START_ITERATIONS", 5)
        return run(problem(images))


def assert_equal(one, other) -> None:
    for name, value in state_to_arrays(one).items():
        theirs = state_to_arrays(other)[name]
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, theirs, err_msg=name)
        elif name not in {"log_likelihood", "searched"} and not name.startswith("start_scores"):
            assert value == theirs, name


def test_a_whole_run(images, whole):
    tried = starts(problem(images))
    assert len(tried.finished) == len(tried.start_scores) == 2
    assert tried.measures()["starts_done"] == 2
    assert whole.iterate.shape == (BOX,) * 3
    assert whole.iterate.min() >= 0
    samples = whole.samples
    np.testing.assert_allclose(np.bincount(samples.image, samples.weights), np.ones(COUNT), rtol=1e-5)
    measures = whole.measures()
    assert measures["radius"] == 5
    assert measures["poses_an_image"] > 0
    assert len(whole.correlation) == 6


def test_refinement_goes_on_with_the_start_that_explains_most(images):
    said = []
    state = starts(problem(images, say=said.append))
    assert torch.equal(state.iterate, state.finished[int(np.argmax(state.start_scores))])
    assert not torch.equal(*state.finished)
    assert [text.startswith(f"start {n} of 2: log likelihood") for n, text in enumerate(said, 1)] == [
        True,
        True,
    ]


def test_seeds_give_other_starts_and_the_same_seed_the_same(images, whole):
    first, other = (RandomStarts(problem(images, seed=seed)).init() for seed in (1, 2))
    assert not torch.equal(first.iterate, other.iterate)
    assert_equal(starts(problem(images), 7), starts(problem(images), 7))


@pytest.mark.parametrize("iteration", [1, 6, 12, 13])
def test_a_state_taken_up_again_goes_on_identically(images, whole, iteration):
    made = problem(images)
    early = iteration <= 2 * PLAN.start_iterations
    state = starts(made, iteration) if early else run(made, iteration)
    kind = StartsState if early else RefinementState
    again = state_from_arrays(kind, dict(state_to_arrays(state)))
    assert_equal(run(made, state=again), whole)


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_find_the_same_to_the_last_bit(images, whole, size):
    for state in run_ranks(size, lambda world: run(problem(images, world=world))):
        assert_equal(state, whole)
        assert state.log_likelihood == pytest.approx(whole.log_likelihood, rel=1e-9)


def test_independent_halves_know_each_other_at_low_frequency_only(monkeypatch):
    monkeypatch.setattr(em_plan, "_LAST_WAVES", 4.0)
    images = example(COUNT).images
    plan = replace(PLAN, starts=1, most_radius=8)
    made = problem(images, plan, independent=True)
    state = run(made, plan.start_iterations + 1)
    assert state.radius > plan.last_start_radius
    curve = fsc(*(half.numpy() for half in state.halves), 1.0).correlation
    assert curve[1 : plan.last_start_radius].min() > 0.98
    assert curve[state.radius] < curve[1 : plan.last_start_radius].min()
    # whatever the odd images are, the even ones are found where they were
    odd = np.arange(COUNT) % 2 == 1
    other = replace(images, values=np.where(odd[:, None], images.values[::-1], images.values))
    both = made, problem(other, plan, independent=True)
    found, again = (Refinement(one, None).step(state).samples for one in both)
    even, same = found.select(found.image % 2 == 0), again.select(again.image % 2 == 0)
    np.testing.assert_array_equal(even.rotations, same.rotations)
    odd_found, odd_again = found.select(found.image % 2 == 1), again.select(again.image % 2 == 1)
    assert not np.array_equal(odd_found.rotations, odd_again.rotations)


def test_symmetry_is_imposed_on_the_refinement(images):
    half_turn = np.diag([-1.0, -1.0, 1.0])
    said: list[str] = []
    plan = replace(PLAN, starts=1)
    made = problem(images, plan, symmetry=np.stack([np.eye(3), half_turn]), say=said.append)
    state = run(made, plan.start_iterations + 1)
    assert any("correlation" in text for text in said)
    turned = torch.roll(torch.flip(state.iterate, (1, 2)), (1, 1), (1, 2))
    inner = slice(1, None)  # an even box has no mirror image of its first plane
    difference = (turned - state.iterate)[:, inner, inner].norm() / state.iterate.norm()
    assert float(difference) < 0.03


def test_the_torch_kernels_take_the_same_way(images, whole, monkeypatch):
    """What runs on a GPU, on the CPU: the same radius and scores, and nearly the same map."""
    state = starts(problem(images), 1)
    monkeypatch.setattr(expectation, "pose_scores", lambda device: pose_scores_torch)
    monkeypatch.setattr(expectation, "native", lambda tensor: tensor)
    monkeypatch.setattr(maximisation, "pose_sums", lambda device: pose_sums_torch)
    monkeypatch.setattr(maximisation, "native", lambda tensor: tensor)
    other = starts(problem(images), 1)
    assert float((other.iterate - state.iterate).norm() / state.iterate.norm()) < 0.02
    assert other.log_likelihood == pytest.approx(state.log_likelihood, rel=1e-4)
    ended = run(problem(images))
    assert ended.log_likelihood == pytest.approx(whole.log_likelihood, rel=0.1)


@pytest.mark.cuda
def test_a_gpu_takes_the_same_way(images, whole):
    state, other = starts(problem(images), 1), starts(problem(images, device="cuda"), 1)
    assert float((other.iterate - state.iterate).norm() / state.iterate.norm()) < 0.02
    assert run(problem(images, device="cuda")).log_likelihood == pytest.approx(whole.log_likelihood, rel=0.1)


def test_where_halves_cease_to_agree():
    assert agreed_radius([1.0, 0.9, 0.2, 0.1, 0.9]) == 2
    assert agreed_radius([0.0, 0.9, 0.9]) == 2
    assert agreed_radius([1.0, 0.0]) == 0
    assert agreed_radius([]) == 0


def test_lanes_belong_to_ranks():
    class Fake:
        def __init__(self, rank, size):
            self.rank, self.size = rank, size

    numbers = np.arange(100)
    for size in (1, 2, 3, 5, 8):
        owners = sum(own_particles(numbers, Fake(rank, size)).astype(int) for rank in range(size))
        assert np.all(owners == 1)
