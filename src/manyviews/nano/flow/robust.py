"""Views that do not fit: weights by how large their residual is, and jumps between one view and the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError

Float64 = NDArray[np.float64]

_NORMAL = 1.4826  # standard deviations of a normal distribution in a median absolute deviation
HUBER = 2.0
FREEDOM = 4.0
BAD = 5.0
"""Standard deviations beyond which a view is listed as bad."""


@dataclass(frozen=True)
class ViewWeights:
    """``weights (n,)`` from 0 to 1; ``scores (n,)`` how far a residual is above the median, in deviations."""

    weights: Float64
    scores: Float64

    @property
    def bad(self) -> list[int]:
        """The views that are listed, in the order of acquisition."""
        return [int(n) for n in np.flatnonzero(self.scores > BAD)]


def view_weights(misfit: Float64, size: Float64 | None = None, *, kind: str = "huber") -> ViewWeights:
    """Weights of views from their residuals ``misfit (n,)``, sums of squares.

    Residuals are compared as logarithms of their root, after division by ``size (n,)``, the sums of
    squares of the data (None: as they are); their spread is the median absolute deviation. Only what fits
    worse than the median loses weight: with ``huber`` ``min(1, 2 / t)``, with ``student`` ``(4 + 1) / (4
    + t^2)``, at most 1, with ``none`` nothing. A view whose residual is not finite has weight 0.
    `InputError` for another kind.
    """
    relative = misfit if size is None else misfit / np.maximum(size, np.finfo(float).tiny)
    root = 0.5 * np.log(np.maximum(relative, np.finfo(float).tiny))
    known = np.isfinite(root)
    if not known.any():
        raise InputError("no view has a residual that is a number")
    middle = np.median(root[known])
    spread = max(_NORMAL * float(np.median(np.abs(root[known] - middle))), 1e-2)
    scores = np.where(known, (root - middle) / spread, np.inf)
    above = np.maximum(scores, 0.0)
    if kind == "huber":
        weights = np.minimum(1.0, HUBER / np.maximum(above, HUBER))
    elif kind == "student":
        weights = np.minimum(1.0, (FREEDOM + 1) / (FREEDOM + above**2))
    elif kind == "none":
        weights = np.where(known, 1.0, 0.0)
    else:
        raise InputError(f"no weights are named {kind!r}", fix="take huber, student or none")
    return ViewWeights(np.where(known, weights, 0.0), scores)


def find_jumps(shifts: Float64, *, reach: int = 4, least_pixels: float = 1.0) -> list[int]:
    """The views before which the whole image jumped, of ``shifts (n, 2)`` in the order of acquisition.

    The medians of ``reach`` views before and after differ by more than five times what they do elsewhere,
    and by more than ``least_pixels``; of neighbours that do, the one that moved most.
    """
    count = len(shifts)
    step = np.zeros(count)
    for n in range(2, count - 1):
        before, after = shifts[max(0, n - reach) : n], shifts[n : n + reach]
        step[n] = float(np.max(np.abs(np.median(after, axis=0) - np.median(before, axis=0))))
    usual = _NORMAL * float(np.median(step[2 : count - 1])) if count > 3 else 0.0
    high = step > max(least_pixels, BAD * usual)
    runs = np.split(np.flatnonzero(high), np.flatnonzero(np.diff(np.flatnonzero(high)) > 1) + 1)
    single = np.abs(np.diff(shifts, axis=0, prepend=shifts[:1])).max(axis=1)
    return [int(run[np.argmax(single[run])]) for run in runs if len(run)]
