"""The order of work: starts, their judging, refinement."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyviews.particles.em.plan import EmPlan
from manyviews.particles.images.fourier_resample import working_box

PLANS = st.builds(
    EmPlan,
    particles=st.integers(50, 100_000),
    starts=st.integers(1, 6),
    refinements=st.integers(1, 20),
    batch=st.integers(1, 500),
    filled=st.floats(0.1, 1.0),
    most_radius=st.integers(4, 200),
)


@given(PLANS)
def test_every_start_is_run_and_scored_and_then_one_is_refined(plan):
    tasks = [plan.task(done) for done in range(plan.iterations)]
    kinds = [task.kind for task in tasks]
    assert kinds.count("score") == plan.starts
    assert kinds.count("refine") == plan.refinements
    assert kinds == sorted(kinds, key=lambda kind: kind == "refine")
    for start in range(plan.starts):
        own = [task for task in tasks if task.kind != "refine" and task.start == start]
        assert [task.index for task in own] == list(range(plan.start_iterations))
        assert [task.kind for task in own] == ["start"] * (plan.start_iterations - 1) + ["score"]
    assert [task.index for task in tasks if task.kind == "refine"] == list(range(plan.refinements))


@given(PLANS)
def test_frequencies_never_fall_in_a_start(plan):
    radii = [plan.start_radius(index) for index in range(plan.start_iterations - 1)]
    assert radii == sorted(radii)
    assert radii[0] == plan.first_radius
    assert radii[-1] == plan.last_start_radius <= plan.most_radius


@given(PLANS)
def test_a_first_batch_stands_alone_and_later_ones_weigh_ever_less(plan):
    shares = [plan.share(index) for index in range(plan.start_iterations - 1)]
    assert shares[0] == 1
    assert shares[1:] == sorted(shares[1:], reverse=True)
    assert 0 < shares[-1] < shares[1] < 1


@given(PLANS, st.integers(4, 200))
def test_refining_batches_grow_to_all_particles(plan, radius):
    sizes = [plan.refine_size(index, radius) for index in range(plan.refinements)]
    assert all(1 <= size <= plan.particles for size in sizes)
    assert sizes == sorted(sizes)
    assert all(size == plan.particles for size in sizes[-plan.final_passes :])
    assert plan.refine_size(0, radius) <= plan.refine_size(0, radius + 1)
    assert plan.looks_everywhere(0)


@given(PLANS, st.integers(3, 200), st.integers(0, 200))
def test_refinement_goes_no_further_than_the_halves_agree(plan, radius, agreed):
    found = plan.next_radius(radius, agreed)
    assert plan.last_start_radius <= found <= plan.most_radius
    assert found <= max(plan.last_start_radius, agreed + 3)
    assert plan.next_radius(radius, agreed) <= plan.next_radius(radius, agreed + 1)


@given(PLANS, st.integers(3, 100), st.integers(16, 256))
def test_a_map_has_voxels_for_its_frequencies(plan, radius, box):
    voxels = working_box(radius, box)
    assert voxels <= box
    assert voxels == box or voxels > 2 * radius


def test_numbers_of_a_usual_run():
    plan = EmPlan(2000, starts=3, refinements=8, batch=200, filled=0.8, most_radius=31)
    assert (plan.first_radius, plan.last_start_radius) == (5, 8)
    assert plan.iterations == 3 * plan.start_iterations + 8
    assert plan.refine_size(0, 8) == 2000
    assert np.unique([plan.start_radius(i) for i in range(plan.start_iterations - 1)]).tolist() == [
        5,
        6,
        7,
        8,
    ]
    with pytest.raises(AttributeError):
        plan.starts = 2
