"""Which priors are tried and taken, for curves of errors that are known."""

import numpy as np
import pytest

from manyviews.tilt.prior.trials import USUAL, WEAK, Freedom, Trial, best_of, next_trial, takes_bound

ALL = Freedom(strength=True, bound=True)
STRENGTH = Freedom(strength=True, bound=False, non_negative=True)
BOUND = Freedom(strength=False, bound=True)
WITHOUT = 2.0
WITH_SMOOTH = Freedom(strength=True, bound=True, smooth=True)


def tried_by(freedom, error):
    """All trials where ``error (trial)`` is what each leaves of six views, which differ among themselves."""
    tried, errors = [], np.zeros((0, 6))
    views = 1.0 + 0.1 * np.arange(6)
    while (trial := next_trial(freedom, tried, errors)) is not None:
        tried.append(trial)
        errors = np.concatenate([errors, error(trial) * views[None]])
    return tried, errors


def valley(lowest, bound_gain=0.0):
    """A parabola in the exponent, ``bound_gain`` lower with the bound."""
    return lambda trial: 1.0 + 0.05 * (trial.exponent - lowest) ** 2 - bound_gain * trial.non_negative


@pytest.mark.parametrize("lowest", [-4.3, -2.0, -0.4, 0.0, 0.3, 1.0, 3.6])
def test_the_bottom_of_a_valley_is_found_from_both_sides(lowest):
    for freedom in (ALL, STRENGTH):
        tried, errors = tried_by(freedom, valley(lowest))
        assert best_of(freedom, tried, errors, WITHOUT).exponent == pytest.approx(lowest, abs=1e-9)
        assert len(tried) == len(set(tried)) <= 12


@pytest.mark.parametrize("slope", [-0.1, 0.1])
def test_a_slope_without_end_is_not_followed_for_ever(slope):
    tried, _ = tried_by(STRENGTH, lambda trial: 2.0 + slope * trial.exponent)
    assert len(tried) < 12


@pytest.mark.parametrize(("gain", "taken"), [(0.2, True), (0.0, False), (-0.2, False)])
def test_the_bound_is_taken_where_it_predicts_better(gain, taken):
    tried, errors = tried_by(ALL, valley(1.0, bound_gain=gain))
    assert tried[:2] == [Trial(WEAK, False), Trial(WEAK, True)]
    assert takes_bound(ALL, errors) is taken
    assert {trial.non_negative for trial in tried[2:]} == {taken}
    assert tried[best_of(ALL, tried, errors, WITHOUT).trial].non_negative is taken


def test_a_gain_within_its_standard_error_is_none():
    errors = np.array([[1.0, 1.0, 1.0, 1.0], [0.7, 1.2, 0.8, 1.25]])
    assert not takes_bound(ALL, errors)
    assert takes_bound(ALL, np.array([[1.0, 1.0, 1.0, 1.0], [0.9, 0.91, 0.92, 0.9]]))


def test_what_the_user_gave_is_not_tried_otherwise():
    tried, errors = tried_by(STRENGTH, valley(0.0))
    assert tried[0] == Trial(USUAL, True)
    assert takes_bound(STRENGTH, errors)
    assert all(trial.non_negative for trial in tried)
    tried, errors = tried_by(BOUND, valley(3.0, bound_gain=0.1))
    assert tried == [Trial(USUAL, False), Trial(USUAL, True)]
    best = best_of(BOUND, tried, errors, WITHOUT)
    assert (best.trial, best.exponent) == (1, USUAL)


def with_smooth(error, bound_gain=0.1):
    """A valley of total variation whose least error is 1, beside the smooth prior with an ``error``."""

    def left(trial):
        found = error if trial.smooth else 1.0 + 0.05 * trial.exponent**2
        return found - bound_gain * trial.non_negative

    return left


def test_the_smooth_prior_decides_the_bound_and_is_tried_first():
    tried, errors = tried_by(WITH_SMOOTH, with_smooth(0.9))
    assert tried[:3] == [Trial(USUAL, False, True), Trial(USUAL, True, True), Trial(USUAL, True)]
    assert all(trial.non_negative for trial in tried[1:])
    best = best_of(WITH_SMOOTH, tried, errors, WITHOUT)
    assert best.smooth
    assert tried[best.trial] == Trial(USUAL, True, True)
    tried, _ = tried_by(WITH_SMOOTH, with_smooth(0.9, bound_gain=-0.1))
    assert not any(trial.non_negative for trial in tried[2:])


@pytest.mark.parametrize(("error", "times"), [(0.9, 2), (1.02, 3), (1.2, 2)])
def test_the_smooth_prior_is_tried_again_where_it_is_behind_by_little(error, times):
    tried, errors = tried_by(WITH_SMOOTH, with_smooth(error))
    assert sum(trial.smooth for trial in tried) == times
    # 1.02 is ahead by a fiftieth of what both gain over no prior, 1.2 by a fifth
    assert best_of(WITH_SMOOTH, tried, errors, WITHOUT).smooth is (error < 1.1)


def test_the_smooth_prior_of_a_bound_that_was_given_is_tried_once():
    freedom = Freedom(strength=True, bound=False, non_negative=True, smooth=True)
    tried, _ = tried_by(freedom, with_smooth(0.9))
    assert tried[:2] == [Trial(USUAL, True, True), Trial(USUAL, True)]
