"""Which priors are tried one after the other, and which of them is taken.

Strengths are powers of two of a usual one. First a weak one without and with the bound at zero, from the same
start: where the bound predicts held-out views better by more than a standard error, it is taken. Then
strengths are doubled or halved until the best has a worse one on both sides.
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
# Of the mean of the views that the bound has to gain.
_STANDARD_ERRORS = 1.0


@dataclass(frozen=True)
class Trial:
    """A prior: its strength is the usual one times ``2 ** exponent``."""

    exponent: int
    non_negative: bool


@dataclass(frozen=True)
class Freedom:
    """What is to be chosen; ``non_negative`` is what was asked for."""

    strength: bool
    bound: bool
    non_negative: bool = False


def next_trial(freedom: Freedom, tried: Sequence[Trial], errors: Float64) -> Trial | None:
    """What to try next, None where nothing is left; ``errors (trial, view)`` are those of ``tried``."""
    if freedom.bound and len(tried) < _OF_THE_BOUND:
        return Trial(WEAK if freedom.strength else USUAL, len(tried) == 1)
    if not freedom.strength:
        return None if freedom.bound or tried else Trial(USUAL, freedom.non_negative)
    bound = takes_bound(freedom, errors)
    means = _means(tried, errors, bound)
    if len(tried) >= _MOST_TRIALS:
        return None
    if means.keys() <= {WEAK}:
        return Trial(USUAL, bound)
    best = min(means, key=lambda exponent: means[exponent])
    for near in (best + 1, best - 1):
        if near not in means and _LOWEST <= near <= _HIGHEST:
            return Trial(near, bound)
    return None


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


def best_of(freedom: Freedom, tried: Sequence[Trial], errors: Float64) -> Best:
    """The least error, between neighbouring strengths by the parabola through three."""
    bound = takes_bound(freedom, errors)
    means = _means(tried, errors, bound)
    best = min(means, key=lambda exponent: means[exponent])
    trial = next(n for n, one in enumerate(tried) if one == Trial(best, bound))
    if best - 1 not in means or best + 1 not in means:
        return Best(trial, float(best))
    below, middle, above = means[best - 1], means[best], means[best + 1]
    bend = below - 2.0 * middle + above
    away = 0.5 * (below - above) / bend if bend > 0.0 else 0.0
    return Best(trial, best + min(0.5, max(-0.5, away)))


def _means(tried: Sequence[Trial], errors: Float64, bound: bool) -> dict[int, float]:
    pairs = zip(tried, errors, strict=True)
    return {trial.exponent: float(row.mean()) for trial, row in pairs if trial.non_negative == bound}
