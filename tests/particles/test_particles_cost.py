"""What iterations are expected to take, and that the expectation follows the solvers' own rules."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyviews.metrics.fsc import agreed_radius
from manyviews.particles.cost import (
    halves_steps,
    halves_work,
    refinement_steps,
    refinement_work,
    start_seconds,
    starts_work,
)
from manyviews.particles.em.plan import EmPlan
from manyviews.particles.estimate import estimate_cost, estimate_refinement, estimate_solve, sums_bytes
from manyviews.particles.options import AbinitioOptions, RefineOptions
from manyviews.particles.plan import resolve_plan
from manyviews.particles.refine.plan import PATIENCE, resolve_refinement
from manyviews.particles.refine.solver import HalvesRefinement

COUNT, BOX, PIXEL = 2000, 64, 5.0


@pytest.fixture(scope="module")
def plan():
    return resolve_plan(AbinitioOptions(diameter=280, starts=2), COUNT, BOX, PIXEL)


@pytest.fixture(scope="module")
def refinement():
    return resolve_refinement(RefineOptions(diameter=280), COUNT, BOX, PIXEL)


def correlation(agreed: int, radius: int) -> list[float]:
    """Of halves that agree so far."""
    found = [1.0] * (agreed + 1) + [0.0] * (radius - agreed)
    assert agreed_radius(found) == agreed
    return found


def state(iteration: int, radius: int, agreed: int, **more: object) -> SimpleNamespace:
    return SimpleNamespace(
        iteration=iteration, radius=radius, correlation=correlation(agreed, radius), **more
    )


@settings(max_examples=50, deadline=None)
@given(st.integers(8, 31), st.integers(2, 31))
def test_the_radius_of_a_pass_is_the_solvers(radius, agreed):
    plan = resolve_refinement(RefineOptions(diameter=280), COUNT, BOX, PIXEL)
    agreed = min(agreed, radius)
    solver = SimpleNamespace(
        start_radius=plan.start_radius, problem=SimpleNamespace(plan=EmPlan(1, 0, 1, 1, 0.8, plan.radius))
    )
    expected = HalvesRefinement.next_radius(solver, state(3, radius, agreed))  # type: ignore[arg-type]
    assert plan.next_radius(radius, agreed) == expected


def test_passes_end_as_the_solver_settles(refinement):
    steps = list(halves_steps(refinement, 20))
    assert steps[0].radius == refinement.start_radius
    agreeing = [step for step in steps if min(step.radius, 20) == 20]
    assert len(agreeing) == PATIENCE + 1  # the first that comes so far, and those in which it rises no more
    assert HalvesRefinement.settled(None, SimpleNamespace(stalled=PATIENCE))  # type: ignore[arg-type]
    assert not HalvesRefinement.settled(None, SimpleNamespace(stalled=PATIENCE - 1))  # type: ignore[arg-type]
    few = replace(refinement, options=replace(refinement.options, iterations=2))
    assert len(list(halves_steps(few, 20))) == 2


def test_work_of_the_starts_adds_up_and_later_frequencies_take_longer(plan):
    each, work = plan.em.start_iterations, starts_work(plan)
    total = 2 * sum(start_seconds(plan, index) for index in range(each))
    done = 0.0
    for iteration in (1, 30, each, each + 1, 2 * each):
        told = work(SimpleNamespace(iteration=iteration))
        done = total - told.left
        assert 0 < told.step <= done + 1e-12
    assert told.left == 0
    assert work(SimpleNamespace(iteration=each - 1)).step > 2 * work(SimpleNamespace(iteration=1)).step


def test_work_of_the_refinement_follows_what_was_reached(plan):
    first = plan.em.starts * plan.em.start_iterations
    steps = list(refinement_steps(plan, 20))
    assert len(steps) == plan.em.refinements
    work = refinement_work(plan, 20)
    told = work(state(first + 1, steps[0].radius, steps[0].radius))
    assert told.step == pytest.approx(steps[0].seconds)
    assert told.left == pytest.approx(sum(step.seconds for step in steps[1:]))
    stuck = work(state(first + 1, steps[0].radius, 4))
    assert stuck.left < 0.8 * told.left  # what did not agree is not expected to
    assert work(state(first + plan.em.refinements, 20, 18)).left == 0


def test_work_of_the_halves_is_less_where_they_agree_no_further(refinement):
    work = halves_work(refinement, 20)
    growing = work(state(3, 13, 13, everywhere=0.0, stalled=0))
    stuck = work(state(3, 13, 10, everywhere=0.0, stalled=1))
    assert stuck.left < 0.5 * growing.left
    assert stuck.step == growing.step
    assert work(state(3, 13, 13, everywhere=1.0, stalled=0)).step > 2 * growing.step
    assert work(state(5, 13, 10, everywhere=0.0, stalled=PATIENCE)).left == 0


def test_both_take_as_much_as_one_after_the_other(plan, refinement):
    first, then = estimate_cost(plan, 20), estimate_refinement(refinement, 20)
    both = estimate_solve(plan, refinement, 20)
    assert max(first.seconds, then.seconds) < both.seconds < first.seconds + then.seconds
    assert both.stages == (*first.stages, *then.stages)
    assert list(both.of_phases()) == [
        "starts", "refinement", "after refinement", "halves", "after halves", "finishing",
    ]  # fmt: skip
    assert both.working_bytes >= max(first.working_bytes, then.working_bytes)
    shared = both.memory_bytes(4)
    assert both.working_bytes < shared < both.memory_bytes(1)
    assert both.wall_seconds(4) == pytest.approx(both.seconds / 3.4)
    told = both.told(2, 2)
    assert "of memory in each rank" in told
    assert "on 4 threads" in told
    assert " and about" not in both.told(1, on_gpu=True)
    unknown = resolve_plan(AbinitioOptions(method="sagd"), COUNT, BOX, PIXEL)
    assert estimate_solve(unknown, refinement, 20).seconds is None


def test_lanes_that_are_made_at_once_take_memory():
    sizes = [sums_bytes(30, threads) for threads in (1, 2, 4, 64)]
    assert sizes == sorted(sizes)
    assert sizes[2] == sizes[3]  # half of the lanes belong to a half of the images
    np.testing.assert_allclose(sums_bytes(60, 1) / sums_bytes(30, 1), 8, rtol=0.1)
