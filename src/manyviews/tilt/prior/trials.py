"""Which priors are tried one after the other, and which of them is taken.

First the smooth prior (damping by frequency, `manyviews.tilt.solve.damping`) without and with the bound at
zero, from the same start: where the bound predicts held-out views better by more than a standard error, it is
taken. Then total variation, whose strengths are powers of two of a usual one: they are doubled or halved
until the best has a worse one on both sides. At last, where total variation is ahead by little, the smooth
prior once more, so that both have had as many iterations. Where there is no smooth prior, a weak total
variation decides the bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

WEAK, USUAL = -2, 0
_LOWEST, _HIGHEST = -6, 6
_MOST_TRIALS = 12
_OF_THE_BOUND = 2
# How far, as a share, the smooth prior may be behind after its first trial and be tried again.
_BEHIND = 0.05
# What total variation has to gain over no prior, in gains of the smooth prior: it has a strength to be
# fitted, and where both are about as good to held-out views the smooth one was better against the truth.
_LEAST_LEAD = 1.125
# Of the mean of the views that the bound has to gain.
_STANDARD_ERRORS = 1.0


@dataclass(frozen=True)
class Trial:
    """A prior: total variation of the usual strength times ``2 ** exponent``, or the smooth one."""

    exponent: int
    non_negative: bool
    smooth: bool = False


@dataclass(frozen=True)
class Freedom:
    """What is to be chosen; ``non_negative`` is what was asked for, ``smooth``: that prior is a candidate."""

    strength: bool
    bound: bool
    non_negative: bool = False
    smooth: bool = False


def next_trial(freedom: Freedom, tried: Sequence[Trial], errors: Float64) -> Trial | None:
    """What to try next, None where nothing is left; ``errors (trial, view)`` are those of ``tried``."""
    if freedom.bound and len(tried) < _OF_THE_BOUND:
        exponent = WEAK if freedom.strength and not freedom.smooth else USUAL
        return Trial(exponent, len(tried) == 1, freedom.smooth)
    if not freedom.strength:
        return None if freedom.bound or tried else Trial(USUAL, freedom.non_negative)
    bound = takes_bound(freedom, errors)
    if freedom.smooth and not tried:
        return Trial(USUAL, bound, smooth=True)
    return None if len(tried) >= _MOST_TRIALS else _next_strength(tried, errors, bound)


def _next_strength(tried: Sequence[Trial], errors: Float64, bound: bool) -> Trial | None:
    means = _means(tried, errors, bound)
    if means.keys() <= {WEAK}:
        return Trial(USUAL, bound)
    best = min(means, key=lambda exponent: means[exponent])
    for near in (best + 1, best - 1):
        if near not in means and _LOWEST <= near <= _HIGHEST:
            return Trial(near, bound)
    smooth = _of_smooth(tried, errors, bound)
    again = len(smooth) == 1 and means[best] < smooth[0] < (1.0 + _BEHIND) * means[best]
    return Trial(USUAL, bound, smooth=True) if again else None


def takes_bound(freedom: Freedom, errors: Float64) -> bool:
    """Whether voxels are kept at zero or above: where it is asked for, or the data speak for it."""
    if not freedom.bound:
        return freedom.non_negative
    without, within = errors[:_OF_THE_BOUND]
    gain = np.log(without / within)  # shares: views differ in what fits them at all
    return bool(gain.mean() > _STANDARD_ERRORS * standard_error(gain))


def standard_error(values: Float64) -> float:
    """Of the mean of ``(view,)``; infinite for a single one."""
    return float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.inf


@dataclass(frozen=True)
class Best:
    """The prior with the least error: which trial, and its exponent between those that were tried."""

    trial: int
    exponent: float
    smooth: bool = False


def best_of(freedom: Freedom, tried: Sequence[Trial], errors: Float64, without: float) -> Best:
    """The least error of held-out views, between neighbouring strengths by the parabola through three.

    ``without`` is what is left without a prior; the smooth prior is taken where total variation is ahead by
    little.
    """
    bound = takes_bound(freedom, errors)
    means = _means(tried, errors, bound)
    best = min(means, key=lambda exponent: means[exponent])
    smooth = _of_smooth(tried, errors, bound)
    if smooth and _LEAST_LEAD * (without - min(smooth)) >= without - means[best]:
        number = min(_numbers(tried, bound, smooth=True), key=lambda n: float(errors[n].mean()))
        return Best(number, float(USUAL), smooth=True)
    trial = next(n for n in _numbers(tried, bound) if tried[n].exponent == best)
    if best - 1 not in means or best + 1 not in means:
        return Best(trial, float(best))
    below, middle, above = means[best - 1], means[best], means[best + 1]
    bend = below - 2.0 * middle + above
    away = 0.5 * (below - above) / bend if bend > 0.0 else 0.0
    return Best(trial, best + min(0.5, max(-0.5, away)))


def _means(tried: Sequence[Trial], errors: Float64, bound: bool) -> dict[int, float]:
    """Of total variation, by exponent."""
    return {tried[n].exponent: float(errors[n].mean()) for n in _numbers(tried, bound)}


def _of_smooth(tried: Sequence[Trial], errors: Float64, bound: bool) -> list[float]:
    return [float(errors[n].mean()) for n in _numbers(tried, bound, smooth=True)]


def _numbers(tried: Sequence[Trial], bound: bool, *, smooth: bool = False) -> list[int]:
    return [n for n, trial in enumerate(tried) if trial.non_negative == bound and trial.smooth == smooth]
