"""What looks wrong in a series: told by `manyviews.tilt.check`, and again by every reconstruction."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from manyviews.geometry.views import TiltGeometry
from manyviews.tilt.options import SeriesOptions
from manyviews.tilt.plan import Plan
from manyviews.tilt.series.field import outside_warnings
from manyviews.tilt.series.normalise import GreyLevels
from manyviews.tilt.series.outliers import Outliers
from manyviews.tilt.series.resolve import ResolvedSeries

Float64 = NDArray[np.float64]

_LARGEST_GAP_DEGREES = 40.0
_NEAR_AXES_DEGREES = 10.0
_SAME_TILT_DEGREES = 0.01
_FEWEST_VIEWS = 20
_THINNEST = 1 / 20
_LARGEST_DRIFT = 0.2
_ASPECT_TOLERANCE = 0.001
_LOW_TILT_DEGREES = 15.0
_QUARTER_TURN = 90.0


def find_warnings(
    series: ResolvedSeries,
    plan: Plan,
    options: SeriesOptions,
    levels: GreyLevels | None,
    outliers: Outliers,
) -> list[str]:
    """What a user should know of a series, beside what was said when it was resolved.

    ``levels`` are the grey levels of the images; None where they are normalised. ``outliers`` are their hot
    pixels and X-rays.
    """
    geometry = series.geometry
    found = [
        *_size_warnings(plan),
        *_aspect_warnings(series),
        *_field_warnings(series, plan),
        *_near_axes(geometry, same_is_known=not options.axis_angle),
    ]
    for number in range(len(series.stacks)):
        tilts = geometry.tilt_degrees[geometry.series == number]
        found += [f"stack {number + 1}: {text}" for text in _tilt_warnings(tilts)]
    if len(geometry) < _FEWEST_VIEWS:
        found.append(f"only {len(geometry)} view{'s' if len(geometry) > 1 else ''}: expect streaks")
    if levels is not None:
        found += _drift_warnings(geometry, levels)
    found += outliers.warnings(geometry, removed=plan.remove_outliers)
    return found


def _size_warnings(plan: Plan) -> Iterator[str]:
    depth, _, width = plan.volume_shape
    if depth < _THINNEST * width:
        yield f"the volume is {depth} voxels thick and {width} wide: is --thickness in unbinned pixels?"


def _field_warnings(series: ResolvedSeries, plan: Plan) -> list[str]:
    _, height, width = plan.volume_shape
    field = height * plan.bin, width * plan.bin
    return outside_warnings(series.geometry, series.image_shape, field, series.pixel_size)


def _aspect_warnings(series: ResolvedSeries) -> Iterator[str]:
    for number, stack in enumerate(series.stacks):
        if stack.pixel_size is not None:
            x, y, _ = stack.pixel_size
            if abs(x - y) > _ASPECT_TOLERANCE * x:
                yield f"stack {number + 1}: the header says pixels are {x:g} A wide and {y:g} A high"


def _near_axes(geometry: TiltGeometry, *, same_is_known: bool) -> Iterator[str]:
    numbers = np.unique(geometry.series)
    axes = [float(geometry.axis_degrees[geometry.series == number][0]) for number in numbers]
    for second, axis in enumerate(axes):
        for first in range(second):
            apart = abs((axis - axes[first] + 90.0) % 180.0 - 90.0)
            if apart < _NEAR_AXES_DEGREES and not (same_is_known and apart < _SAME_TILT_DEGREES):
                yield (
                    f"the tilt axes of stacks {numbers[first] + 1} and {numbers[second] + 1} are only "
                    f"{apart:.3g} degrees apart: check --axis-angle"
                )


def _tilt_warnings(tilts: Float64) -> Iterator[str]:
    low, high = float(tilts.min()), float(tilts.max())
    if low == high and len(tilts) > 1:
        yield f"all tilt angles are {low:g}: no volume can be made of these"
        return
    if max(high, -low) > _QUARTER_TURN:
        yield f"tilts from {low:g} to {high:g} go beyond +-90 degrees: they are followed as they are"
    gap = max(90.0 - high, 90.0 + low)
    if gap > _LARGEST_GAP_DEGREES:
        yield f"tilts from {low:g} to {high:g} leave a missing wedge of {180.0 - (high - low):g} degrees"
    steps = np.diff(tilts)
    if (np.diff(np.sort(tilts)) < _SAME_TILT_DEGREES).any():
        yield "some tilt angles occur twice"
    elif not ((steps > 0).all() or (steps < 0).all()):
        yield "tilt angles neither rise nor fall all along: are they in the order of the sections?"


def _drift_warnings(geometry: TiltGeometry, levels: GreyLevels) -> Iterator[str]:
    scale = levels.scale
    if scale == 0.0:
        yield "all images are blank"
        return
    numbers = np.unique(geometry.series)
    middle = []
    for number in numbers:
        mine = geometry.series == number
        tilts, mean = geometry.tilt_degrees[mine], levels.mean[mine]
        low = np.abs(tilts) <= max(_LOW_TILT_DEGREES, float(np.abs(tilts).min()))
        middle.append(float(np.median(mean[low])))
        drift = abs(_odd_trend(tilts, mean)) / scale
        if drift > _LARGEST_DRIFT:
            yield (
                f"stack {number + 1}: grey levels drift by {100 * drift:.0f} % from one end to the other: "
                "consider --normalise background or statistics"
            )
    difference = float(np.ptp(middle)) / scale
    if difference > _LARGEST_DRIFT:
        yield (
            f"grey levels differ by {100 * difference:.0f} % between stacks: "
            "consider --normalise background or statistics"
        )


def _odd_trend(tilts: Float64, mean: Float64) -> float:
    """Change of the mean from the lowest to the highest tilt, less what the thickness alone does.

    A slab is 1 / cos(tilt) thick along the beam, the same on both sides of zero.
    """
    if len(tilts) < 4 or np.ptp(tilts) == 0.0:
        return 0.0
    path = 1.0 / np.maximum(np.cos(np.deg2rad(tilts)), 0.1)
    terms = np.stack([np.ones_like(tilts), path, tilts], axis=1)
    slope = np.linalg.lstsq(terms, mean, rcond=None)[0][2]
    return float(slope * np.ptp(tilts))
