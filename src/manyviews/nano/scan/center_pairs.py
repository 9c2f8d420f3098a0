"""The centre from views of opposite sides: each is the other's mirror, and the axis is in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.nano.scan.opposite import angular_step_degrees, opposite_pairs

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Read = Callable[[Int64, slice], Float32]
"""Rows of some projections ``(view, row, column)``."""

_MOST_PAIRS = 32
_MOST_ROWS = 128
_NEAR_STEPS, _NEAR_DEGREES, _FARTHEST_DEGREES = 3.2, 4.0, 10.0
_NEAREST_DEGREES = 0.5
_LEAST_SHARED, _MUCH_LESS = 0.125, 0.5  # of the width, at either side of the centre; of the cost
_AIR = 0.03  # of the width: what is taken for background at either side


@dataclass(frozen=True)
class Estimate:
    """A centre in pixels from 0: ``spread`` is the median deviation of its parts, 0 where there is one.

    ``parts`` is how many pairs or slices it rests on, ``degrees_off`` how far from opposite the nearest pair
    is, ``match`` the correlation of a pair, and ``on_border`` whether the best lies at the end of what was
    searched or beyond.
    """

    center: float
    parts: int
    spread: float = 0.0
    degrees_off: float = 0.0
    match: float = 1.0
    on_border: bool = False


def center_by_pairs(
    read: Read, shape: tuple[int, int, int], theta_degrees: Float64, search: tuple[float, float]
) -> Estimate | None:
    """The median over opposite pairs; None where no views are opposite, nor nearly.

    ``search`` is the range of centres. A pair that is ``d`` degrees from opposite gives a centre that is
    off in proportion to ``d``, so where no pair is exactly opposite the line through the nearest is
    followed to
    ``d = 0``.
    """
    pairs, off = opposite_pairs(theta_degrees)
    is_near = not len(pairs)
    if is_near:
        step = angular_step_degrees(theta_degrees)
        within = min(_NEAR_STEPS * step, max(_NEAR_DEGREES, 2.2 * step), _FARTHEST_DEGREES)
        pairs, off = opposite_pairs(theta_degrees, within)
        best = np.argsort(np.abs(off), kind="stable")[:_MOST_PAIRS]
    else:
        best = np.unique(
            np.linspace(0, len(pairs) - 1, min(len(pairs), _MOST_PAIRS)).round().astype(np.int64)
        )
    pairs, off = pairs[best], off[best]
    if not len(pairs) or (is_near and np.ptp(off) < 1e-6 and abs(off[0]) > _NEAREST_DEGREES):
        return None  # a line needs two points
    found = [_center_of_pair(read, shape, pair, search) for pair in pairs]
    centers, borders, matches = (np.array(values) for values in zip(*found, strict=True))
    good = ~borders if not borders.all() else borders
    if is_near:
        center, spread = _at_zero(off[good], centers[good])
    else:
        center = float(np.median(centers[good]))
        spread = float(np.median(np.abs(centers[good] - center)))
    nearest = float(np.abs(off).min()) if is_near else 0.0
    return Estimate(
        center=center,
        parts=int(good.sum()),
        spread=spread,
        degrees_off=nearest,
        match=float(np.median(matches[good])),
        on_border=bool(2 * borders.sum() > len(borders)),
    )


def _at_zero(off: Float64, centers: Float64) -> tuple[float, float]:
    """The line through centres at so many degrees from opposite, followed to none."""
    if np.ptp(off) < 1e-6:
        return float(np.median(centers)), float(np.median(np.abs(centers - np.median(centers))))
    slope, center = np.polyfit(off, centers, 1)
    return float(center), float(np.median(np.abs(centers - center - slope * off)))


def _center_of_pair(
    read: Read, shape: tuple[int, int, int], pair: Int64, search: tuple[float, float]
) -> tuple[float, bool, float]:
    """The centre about which two views mirror each other best, whether on the border, and how alike they are.

    Where they are much more alike about a centre beyond the search, it is that one, which counts as on the
    border.
    """
    views = level_background(_row_means(read(pair, slice(0, shape[1]))))
    centers, cost = mirror_cost(views[0], views[1])
    inside = (centers >= search[0] - 1e-9) & (centers <= search[1] + 1e-9)
    shared = np.minimum(centers, shape[2] - 1 - centers) >= _LEAST_SHARED * shape[2]
    least = float(cost[inside].min())
    if cost[shared].min() < _MUCH_LESS * least:
        return lowest_point(centers[shared], cost[shared])[0], True, 1.0 - float(cost[shared].min())
    return *lowest_point(centers[inside], cost[inside]), 1.0 - least


def _row_means(views: Float32) -> Float64:
    """``(view, row, column)`` with neighbouring rows averaged, so that there are not too many."""
    rows = views.shape[1]
    edges = np.unique(np.linspace(0, rows, min(rows, _MOST_ROWS) + 1).round().astype(np.int64))
    sums = np.add.reduceat(views, edges[:-1], axis=1, dtype=np.float64)
    return np.asarray(sums / np.diff(edges)[:, None])


def level_background(lines: Float64) -> Float64:
    """Lines ``(..., column)`` less the straight line between the means of their ends.

    Beams drift and tilt, and a slope changes its sign in the mirror.
    """
    width = lines.shape[-1]
    ends = max(1, round(_AIR * width))
    left, right = lines[..., :ends].mean(-1, keepdims=True), lines[..., -ends:].mean(-1, keepdims=True)
    return np.asarray(lines - left - (right - left) * np.linspace(0.0, 1.0, width))


def mirror_cost(first: Float64, second: Float64) -> tuple[Float64, Float64]:
    """How unlike ``first`` ``(row, column)`` is to the mirror of ``second`` about every centre.

    Centres ``(2 n - 1,)`` are half a pixel apart, from 0 to ``n - 1``. The cost is the sum of squared
    differences over what both views see, divided by their variance there, so that air beside the specimen
    is no match.
    """
    import scipy.fft

    width = first.shape[-1]
    size = scipy.fft.next_fast_len(2 * width - 1, real=True)
    ones = np.ones((1, width))

    def convolved(a: Float64, b: Float64) -> Float64:
        product = scipy.fft.rfft(a, size, axis=-1) * scipy.fft.rfft(b, size, axis=-1)
        return np.asarray(scipy.fft.irfft(product, size, axis=-1)[..., : 2 * width - 1])

    count = 2 * np.maximum(np.rint(convolved(ones, ones)), 1.0)
    squares = convolved(first**2, ones) + convolved(ones, second**2)
    mean = (convolved(first, ones) + convolved(ones, second)) / count
    difference = (squares - 2 * convolved(first, second)).sum(0)
    variance = (squares - count * mean**2).sum(0)
    cost = difference / np.maximum(variance, max(1e-9 * float(variance.max()), 1e-300))
    return np.arange(2 * width - 1) / 2.0, cost


def lowest_point(places: Float64, cost: Float64) -> tuple[float, bool]:
    """Where evenly spaced ``cost`` is least, by a parabola through three points, and whether it is at an
    end.
    """
    at = int(np.argmin(cost))
    if at in (0, len(cost) - 1):
        return float(places[at]), True
    before, here, after = cost[at - 1 : at + 2].tolist()
    bend = before - 2 * here + after
    step = float(places[1] - places[0])
    return float(places[at] + (0.5 * step * (before - after) / bend if bend > 0 else 0.0)), False
