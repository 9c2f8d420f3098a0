"""First shifts, before any reconstruction: neighbouring views laid over each other.

A view is brought to the geometry of its neighbour through the plane of the specimen, which stretches it
across the axis by the ratio of the cosines of their tilts. Shifts of pairs are then explained by one shift a
view; views whose pairs fit nothing are told apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from manyviews.alignment.masked_correlation import masked_peak
from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry
from manyviews.tilt.align.frames import LevelImages

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

_NEIGHBOURS = 3  # on either side
_LEAST_SCORE = 5.0  # of a peak that is more than chance
_LEAST_CORRELATION = 0.15
_LEAST_OVERLAP = 0.3
_BORDER = 3  # pixels of an image's edge
_ROUNDS = 15
_FAR_OFF = 3.0  # pixels, beyond which a pair does not agree with the others
_MOST_APART = 0.5  # of the views, that may have no place


@dataclass(frozen=True)
class Pairs:
    """Shifts of neighbours: ``shift (m, 2)`` is the second's against the first, in the plane of the specimen.

    In pixels, ``(x, y)``; ``good (m,)`` says which peaks are more than chance.
    """

    first: Int64
    second: Int64
    shift: Float64
    good: Bool


@dataclass(frozen=True)
class Coarse:
    """``geometry`` after the shifts, and which views ``(view,)`` have found their place."""

    geometry: TiltGeometry
    placed: Bool


def coarse_alignment(level: LevelImages, geometry: TiltGeometry, stack: int) -> Coarse:
    """Shift the views of one series onto each other; all in pixels of the level.

    Raises
    ------
    InputError
        If neighbours do not overlap.
    """
    pairs = measure_pairs(level.without_slow(), geometry)
    placed = _largest_part(pairs, len(geometry))
    if placed.mean() < 1.0 - _MOST_APART or len(geometry) < 2:
        raise InputError(*_no_overlap(geometry, placed, stack))
    shifts, placed = shifts_of_pairs(pairs, placed)
    matrices = geometry.matrices.copy()
    for matrix, shift in zip(matrices, shifts, strict=True):
        matrix[:2, 3] += matrix[:2, :2] @ shift
    return Coarse(replace(geometry, matrices=matrices), placed)


def measure_pairs(level: LevelImages, geometry: TiltGeometry) -> Pairs:
    """Every view against the next few in the order of their tilts."""
    order = np.argsort(geometry.tilt_degrees, kind="stable")
    first, second, shifts, good = [], [], [], []
    for step in range(1, _NEIGHBOURS + 1):
        for one, other in zip(order[:-step], order[step:], strict=True):
            if level.blank[one] or level.blank[other]:
                continue
            # the lower tilt is stretched least
            low, high = sorted((int(one), int(other)), key=lambda view: -abs(geometry.matrices[view, 2, 2]))
            shift, is_good = _measure(level, geometry, low, high)
            first.append(low)
            second.append(high)
            shifts.append(shift)
            good.append(is_good)
    return Pairs(
        np.array(first, np.int64), np.array(second, np.int64),
        np.array(shifts, np.float64).reshape(-1, 2), np.array(good, bool),
    )  # fmt: skip


def _measure(level: LevelImages, geometry: TiltGeometry, one: int, other: int) -> tuple[Float64, bool]:
    """How far the second view lies from the first, in the plane of the specimen, and whether that is sure."""
    to_one, to_other = geometry.matrices[one], geometry.matrices[other]
    linear = to_other[:2, :2] @ np.linalg.inv(to_one[:2, :2])
    moved, mask = _through_plane(level.images[other], linear, to_one[:2, 3], to_other[:2, 3])
    own = np.zeros(level.shape, np.float32)
    own[_BORDER:-_BORDER, _BORDER:-_BORDER] = 1.0
    peak = masked_peak(level.images[one], moved, own, mask, least_overlap=_LEAST_OVERLAP)
    # what brings the second to the first is minus its shift against it
    in_plane = -np.linalg.solve(to_one[:2, :2], np.array(peak.shift))
    return in_plane, peak.score > _LEAST_SCORE and peak.correlation > _LEAST_CORRELATION


def _through_plane(
    image: Float32, linear: Float64, own_shift: Float64, other_shift: Float64
) -> tuple[Float32, Float32]:
    """An image as another view would see it if the specimen were thin, and where it is known."""
    middle = np.array(image.shape) // 2
    matrix = linear[::-1, ::-1]
    start = middle + other_shift[::-1] - matrix @ (middle + own_shift[::-1])
    moved = scipy.ndimage.affine_transform(image, matrix, start, order=1, output=np.float32)
    inside = np.zeros(image.shape, np.float32)
    inside[_BORDER:-_BORDER, _BORDER:-_BORDER] = 1.0
    mask = scipy.ndimage.affine_transform(inside, matrix, start, order=1, output=np.float32)
    return moved, mask


def _largest_part(pairs: Pairs, views: int) -> Bool:
    """The views that are linked by good pairs, most of them."""
    ends = pairs.first[pairs.good], pairs.second[pairs.good]
    links = coo_array((np.ones(len(ends[0])), ends), shape=(views, views))
    _, labels = connected_components(links, directed=False)
    return np.asarray(labels == np.argmax(np.bincount(labels)))


def shifts_of_pairs(pairs: Pairs, placed: Bool) -> tuple[Float64, Bool]:
    """``(view, 2)`` one shift a view, with mean zero, and which views have a place.

    By least squares with weights that fall where pairs do not agree with the others (Geman and McClure). A
    view half of whose pairs disagree has no place, and gets the shift of those around it.
    """
    views = len(placed)
    used = pairs.good & placed[pairs.first] & placed[pairs.second]
    first, second, measured = pairs.first[used], pairs.second[used], pairs.shift[used]
    rows = np.arange(len(first))
    matrix = np.zeros((len(first), views))
    matrix[rows, first], matrix[rows, second] = -1.0, 1.0
    weights = np.ones(len(first))
    shifts, rest = np.zeros((views, 2)), np.zeros(len(first))
    for round_ in range(_ROUNDS):
        root = np.sqrt(weights)[:, None]
        shifts[:] = np.linalg.lstsq(root * matrix, root * measured, rcond=1e-9)[0]
        difference = matrix @ shifts - measured
        rest = np.hypot(difference[:, 0], difference[:, 1])
        scale = max(_FAR_OFF, 20.0 * 0.7**round_)
        weights = np.maximum(1.0 / (1.0 + (rest / scale) ** 2) ** 2, 1e-6)
    agrees = (rest < 2 * _FAR_OFF).astype(float)
    total = np.bincount(first, minlength=views) + np.bincount(second, minlength=views)
    fitting = np.bincount(first, agrees, views) + np.bincount(second, agrees, views)
    found = placed & (fitting >= 0.5 * total) & (fitting >= 1)
    if found.any():
        known = np.flatnonzero(found)
        for axis in range(2):
            shifts[:, axis] = np.interp(np.arange(views), known, shifts[known, axis])
        shifts -= shifts[known].mean(axis=0)
    return shifts, found


def _no_overlap(geometry: TiltGeometry, placed: Bool, stack: int) -> tuple[str]:
    """Where the series falls apart."""
    order = np.argsort(geometry.tilt_degrees, kind="stable")
    edge = next((k for k in range(len(order) - 1) if placed[order[k]] != placed[order[k + 1]]), 0)
    one, other = order[edge], order[min(edge + 1, len(order) - 1)]
    return (
        f"stack {stack + 1}: neighbouring views do not overlap or show nothing in common, such as sections "
        f"{geometry.sections[one] + 1} and {geometry.sections[other] + 1} "
        f"({geometry.tilt_degrees[one]:g} and {geometry.tilt_degrees[other]:g} degrees)",
    )
