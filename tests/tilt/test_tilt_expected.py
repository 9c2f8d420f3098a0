"""What a reconstruction is expected to take, phase by phase and step by step."""

from types import SimpleNamespace

import pytest

from manyviews.tilt.cost.estimate import Estimate, Pace
from manyviews.tilt.expected import BEGINNING, LOOKING, STAGE, expected_phases, filling, iteration_work
from manyviews.tilt.pixels.fill import FILL_ITERATIONS, FILL_STAGE

PACE = Pace(looking=3.0, beginning=4.0, iteration=2.0, correction=5.0, projection=1.5, filling=0.7)
ESTIMATE = Estimate(0, 0.0, pace=PACE)


def plan(**changed):
    known = {"method": "cg", "refresh": 5, "iterations": 15, "prior": "none", "damping_by_frequency": True}
    return SimpleNamespace(**{**known, **changed})


def test_phases_are_in_their_order_and_count_all():
    found = expected_phases(plan(), ESTIMATE)
    assert list(found) == [LOOKING, FILL_STAGE, BEGINNING, STAGE, f"after {STAGE}"]
    assert sum(one.work for one in found.values()) == 3.0 + 4.0 + 15 * 2.0 + 1.5
    filled = {**found, **filling(ESTIMATE)}
    assert list(filled) == list(found)  # what was expected first stays in its place
    assert filled[FILL_STAGE].work == pytest.approx(FILL_ITERATIONS * 0.7)


@pytest.mark.parametrize("iterations", [15, 17, 5])
def test_corrected_iterations_take_longer_and_all_are_counted(iterations):
    work = iteration_work(plan(iterations=iterations), ESTIMATE)
    steps = [work(SimpleNamespace(iteration=number)) for number in range(1, iterations + 1)]
    quick = 2.0 - 5.0 * (iterations // 5) / iterations
    assert [step.step for step in steps[:5]] == pytest.approx([quick] * 4 + [quick + 5.0])
    for number, step in enumerate(steps):
        assert step.left == pytest.approx(sum(later.step for later in steps[number + 1 :]))


def test_corrections_that_grow_rare_are_counted():
    work = iteration_work(plan(refresh=None), ESTIMATE)
    steps = [work(SimpleNamespace(iteration=number)) for number in range(1, 16)]
    assert [number for number, step in enumerate(steps, 1) if step.step > 5.0] == [2, 4, 8]
    assert steps[0].left == pytest.approx(sum(step.step for step in steps[1:]))
    assert iteration_work(plan(refresh=None, iterations=1), ESTIMATE) is None


def test_iterations_that_are_alike_are_counted_by_their_number():
    assert iteration_work(plan(method="sirt"), ESTIMATE) is None
    assert iteration_work(plan(refresh=0), ESTIMATE) is None
