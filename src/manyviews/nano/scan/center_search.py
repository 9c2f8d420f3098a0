"""The centre by search: that about which slices come out sharpest.

A slice about a wrong centre has every edge twice or as an arc, and what is positive becomes negative beside
it: the sum of absolute values grows (Donath et al., J. Opt. Soc. Am. A 23 (2006) 1048). All views count, also
where none is opposite to another. Slices about all centres are made at once, by non-uniform Fourier
transforms.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manyviews.nano.scan.center_pairs import Estimate, Read, level_background, lowest_point

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_BANDS, _BAND_ROWS = 6, 4  # so many slices, each the mean of so many rows
_COARSE_SIDE, _FINE_SIDE = 160, 640
_MOST_VIEWS = 360  # of half a turn
_LARGEST_GAP_DEGREES = 20.0
_DISK = 0.48
_AT_ONCE = 64


def largest_gap_degrees(theta_degrees: Float64) -> float:
    """The largest range of directions, of half a turn, that no view has."""
    directions = np.sort(np.mod(theta_degrees, 180.0))
    return float(np.diff(np.r_[directions, directions[0] + 180.0]).max())


def center_by_search(
    read: Read, shape: tuple[int, int, int], theta_degrees: Float64, search: tuple[float, float]
) -> Estimate | None:
    """The sharpest centre within ``search``; None where directions are missing over more than 20 degrees."""
    if len(theta_degrees) < 3 or largest_gap_degrees(theta_degrees) > _LARGEST_GAP_DEGREES:
        return None
    halves = [_thinned(views, theta_degrees, _MOST_VIEWS) for views in half_turns(theta_degrees)]
    lines = [_band_sinograms(read, shape, views) for views in halves]
    coarse, fine = (-(-shape[2] // side) for side in (_COARSE_SIDE, _FINE_SIDE))
    # binning, step and reach of each stage about the best of the one before, in pixels
    stages = [(coarse, float(coarse), np.inf), (coarse, coarse / 4, 1.5 * coarse)]
    if fine < coarse:
        stages.append((fine, fine / 4, coarse / 2))
    best, on_border = sum(search) / 2, False
    for stage, (factor, step, reach) in enumerate(stages):
        low, high = max(search[0], best - reach), min(search[1], best + reach)
        centers = np.arange(low, high + step / 2, step)
        blur = np.zeros(len(centers))
        for views, half in zip(halves, lines, strict=True):
            some = _thinned(np.arange(len(views)), theta_degrees[views], 1 + 5 * shape[2] // (4 * factor))
            blur += _blur(_coarser(half[:, some], factor), theta_degrees[views[some]], centers, factor)
        best, is_end = lowest_point(centers, blur)
        on_border = on_border or (is_end and stage == 0)
    return Estimate(float(np.clip(best, *search)), len(lines[0]), on_border=on_border)


def half_turns(theta_degrees: Float64) -> list[Int64]:
    """Views of half a turn and, where they suffice, those of the other half, in the order of acquisition.

    Slices are made of each by itself: about a wrong centre the faults of one half are covered by those of the
    other in slices of both, and nothing becomes negative.
    """
    directions = np.mod(theta_degrees, 360.0)
    best: tuple[float, int, list[Int64]] = (np.inf, 0, [])
    for start in range(0, 360, 15):
        is_first = np.mod(directions - start, 360.0) <= 180.0
        first, second = np.flatnonzero(is_first), np.flatnonzero(~is_first)
        if len(first) < 3:
            continue
        gap = largest_gap_degrees(theta_degrees[first])
        if (gap, -len(first)) < best[:2]:
            both = len(second) > 2 and largest_gap_degrees(theta_degrees[second]) <= _LARGEST_GAP_DEGREES
            best = gap, -len(first), [first, second] if both else [first]
    return best[2] if best[0] <= _LARGEST_GAP_DEGREES else [np.arange(len(theta_degrees))]


def _thinned(views: Int64, theta: Float64, most: int) -> Int64:
    """At most so many views, about evenly spaced in direction."""
    order = views[np.argsort(np.mod(theta[views], 180.0), kind="stable")]
    kept = np.unique(np.linspace(0, len(order) - 1, most).round().astype(np.int64))
    return np.sort(order[kept])


def _band_sinograms(read: Read, shape: tuple[int, int, int], views: Int64) -> Float64:
    """``(band, view, column)`` in double precision, with a level background."""
    rows = shape[1]
    height = min(rows, _BAND_ROWS)
    firsts = np.unique(
        np.linspace(0.1 * (rows - height), 0.9 * (rows - height), _BANDS).round().astype(np.int64)
    )
    bands = [
        read(views, slice(first, first + height)).mean(axis=1, dtype=np.float64) for first in firsts.tolist()
    ]
    return level_background(np.stack(bands))


def _coarser(lines: Float64, factor: int) -> Float64:
    width = lines.shape[-1] // factor
    return np.asarray(lines[..., : width * factor].reshape(*lines.shape[:-1], width, factor).mean(-1))


def _blur(lines: Float64, theta: Float64, centers: Float64, factor: int) -> Float64:
    """``(center,)`` the sum of absolute values of the slices of all bands; centres count unbinned pixels."""
    side = lines.shape[-1]
    place = np.arange(side) - side // 2
    disk = place[:, None] ** 2 + place**2 <= (_DISK * side) ** 2
    binned = (centers + 0.5) / factor - 0.5
    return sum(
        np.concatenate(
            [
                np.abs(_slices(line, theta, binned[start : start + _AT_ONCE])[:, disk]).mean(
                    1, dtype=np.float64
                )
                for start in range(0, len(binned), _AT_ONCE)
            ]
        )
        for line in lines
    )  # type: ignore[return-value]


def _slices(line: Float64, theta: Float64, centers: Float64) -> NDArray[np.float32]:
    """``(center, y, x)`` filtered back-projections of one slice about each centre.

    The filter is a ramp, a frequency ``k`` of the direction ``theta`` lies at ``k (cos, sin)``, and the
    centre is a phase.
    """
    import finufft
    import scipy.fft

    side = line.shape[-1]
    size = scipy.fft.next_fast_len(2 * side, real=True)
    frequency = scipy.fft.rfftfreq(size)[1:]
    spectrum = scipy.fft.rfft(line, size, axis=-1)[:, 1:] * frequency * _weights(theta)[:, None]
    phases = np.exp(2j * np.pi * frequency * centers[:, None])
    strengths = (spectrum * phases[:, None]).reshape(len(centers), -1).astype(np.complex64)
    angles = np.deg2rad(theta)[:, None]
    x, y = (
        (2 * np.pi * turned(angles) * frequency).ravel().astype(np.float32) for turned in (np.cos, np.sin)
    )
    made = finufft.nufft2d1(y, x, strengths, (side, side), eps=1e-3, isign=1, nthreads=1, upsampfac=1.25)
    return np.asarray(made.reshape(len(centers), side, side).real)


def _weights(theta: Float64) -> Float64:
    """``(view,)`` the range of directions that each view stands for, however they are spaced."""
    directions = np.mod(theta, 180.0)
    order = np.argsort(directions, kind="stable")
    ordered = directions[order]
    gaps = np.diff(np.r_[ordered[-1] - 180.0, ordered, ordered[0] + 180.0])
    weights = np.empty(len(theta))
    weights[order] = (gaps[:-1] + gaps[1:]) / 2
    return weights
