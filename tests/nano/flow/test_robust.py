"""Views that do not fit, jumps, and windows."""

from __future__ import annotations

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.nano.flow.robust import find_jumps, view_weights
from manyviews.nano.flow.windows import WindowSchedule, level_schedules


@pytest.mark.parametrize("kind", ["huber", "student"])
def test_bad_views_lose_weight_and_are_listed(rng, kind):
    misfit = 100 * np.exp(0.1 * rng.standard_normal(60))
    misfit[[7, 8, 9]] *= 100
    misfit[30] = np.nan
    found = view_weights(misfit, kind=kind)
    assert found.bad == [7, 8, 9, 30]
    assert found.weights[30] == 0
    assert found.weights[[7, 8, 9]].max() < 0.1
    assert np.median(found.weights) == 1
    assert np.all(found.weights[misfit < 100] == 1)  # better than the median costs nothing


def test_huber_and_student_are_their_formulas():
    """Logarithms of the roots -1, 0, 1, ..., spread 1.4826: a score of three spreads above."""
    root = np.array([-1.0, 0.0, 1.0, 0.0, -1.0, 1.0, 3 * 1.4826])
    huber = view_weights(np.exp(2 * root), kind="huber")
    np.testing.assert_allclose(huber.scores[-1], 3)
    np.testing.assert_allclose(huber.weights[-1], 2 / 3)
    np.testing.assert_allclose(view_weights(np.exp(2 * root), kind="student").weights[-1], 5 / 13)
    np.testing.assert_array_equal(view_weights(np.exp(2 * root), kind="none").weights, 1)


def test_residuals_count_beside_what_there_is(rng):
    size = np.exp(3 * rng.standard_normal(50))
    assert view_weights(0.01 * size, size).bad == []
    with pytest.raises(InputError, match="no weights are named 'tukey'"):
        view_weights(size, kind="tukey")
    with pytest.raises(InputError, match="no view has a residual that is a number"):
        view_weights(np.full(4, np.nan))


def test_jumps_are_where_the_image_stays_away(rng):
    shifts = np.cumsum(0.05 * rng.standard_normal((100, 2)), axis=0) + 0.1 * rng.standard_normal((100, 2))
    assert find_jumps(shifts) == []
    shifts[40:, 0] += 6
    shifts[71:, 1] -= 4
    shifts[55] += 9  # one view alone has not jumped: the next one is back
    assert find_jumps(shifts) == [40, 71]
    assert find_jumps(shifts[:2]) == []


def test_windows_shrink_and_levels_go_on():
    schedule = WindowSchedule(64)
    assert [schedule.window(i) for i in (0, 1, 25, 26, 40)] == [64, 62, 14, 12, 12]
    levels = level_schedules(256, (96, 48, 24))
    assert [level.start for level in levels] == [256, 128, 64]
    assert levels[1].window(48) == 32
