"""``manyviews tilt check``: what would be done, where every number comes from, and what it costs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry
from manyviews.io.sizes import format_bytes
from manyviews.operators.axis_groups import group_by_axis
from manyviews.parallel.layout import Layout
from manyviews.runs.memory import available_memory_bytes
from manyviews.runs.progress import format_seconds
from manyviews.tilt.cost.schedule import Schedule, make_schedule
from manyviews.tilt.options import ReconstructOptions, SeriesOptions
from manyviews.tilt.plan import Plan, resolve_plan
from manyviews.tilt.series.images import ImageSource
from manyviews.tilt.series.resolve import Choice, ResolvedSeries, resolve_series

Float64 = NDArray[np.float64]

_LARGEST_GAP_DEGREES = 40.0
_NEAR_AXES_DEGREES = 10.0
_SAME_TILT_DEGREES = 0.01
_FEWEST_VIEWS = 20
_THINNEST = 1 / 20
_LARGEST_DRIFT = 0.2
_LEAST_LEVEL = 0.1  # of the contrast; a mean below it is about zero
_ASPECT_TOLERANCE = 0.001
_LOW_TILT_DEGREES = 15.0


@dataclass(frozen=True)
class GreyLevels:
    """Mean and standard deviation of every image, ``(view,)``."""

    mean: Float64
    spread: Float64

    @classmethod
    def of(cls, source: ImageSource) -> GreyLevels:
        """Read every image once."""
        figures = np.empty((2, source.shape[0]))
        for view in range(source.shape[0]):
            image = source.read([view])[0]
            figures[:, view] = image.mean(dtype=np.float64), image.std(dtype=np.float64)
        return cls(figures[0], figures[1])

    @property
    def scale(self) -> float:
        """What a drift is relative to: the level, or the contrast where images are about zero."""
        level, contrast = abs(float(np.median(self.mean))), float(np.median(self.spread))
        return level if level > _LEAST_LEVEL * contrast else contrast


@dataclass(frozen=True)
class Checked:
    """What `check` found.

    What a reconstruction would do is ``plan``; how it is spread over ranks, with its memory, disk and time,
    ``schedule``. Without ``thickness_given`` the thickness is a quarter of the width. ``groups`` are
    direction of the tilt axis in degrees, number of views, and whether slices are turned; ``warnings`` are
    sentences.
    """

    series: ResolvedSeries
    plan: Plan
    thickness_given: bool
    schedule: Schedule
    groups: tuple[tuple[float, int, bool], ...]
    warnings: tuple[str, ...]

    def lines(self) -> list[str]:
        """All of it in words, for a terminal."""
        return [
            *_stack_lines(self.series),
            *_view_lines(self.series),
            *self._group_lines(),
            *self._plan_lines(),
            *self._cost_lines(),
            *([f"warning: {text}" for text in self.warnings] or ["no warnings"]),
        ]

    def _group_lines(self) -> list[str]:
        lines = ["", f"{len(self.groups)} tilt {'axis' if len(self.groups) == 1 else 'axes'} in the specimen"]
        for axis, count, rotated in self.groups[:20]:
            how = "slices are turned in their plane" if rotated else "along the voxels"
            lines.append(f"  {axis:9.3f} degrees  {count} view{'s' if count > 1 else ''}, {how}")
        if len(self.groups) > 20:
            turned = sum(group[2] for group in self.groups)
            lines.append(f"  ... {turned} of {len(self.groups)} need a turn of the slices")
        return lines

    def _plan_lines(self) -> list[str]:
        depth, height, width = self.plan.volume_shape
        record = self.plan.record()
        size = f"{width} x {height} x {depth} voxels of {self.plan.pixel_size:g} A"
        if not self.thickness_given:
            size += " (no --thickness was given: a quarter of the width)"
        hidden = ("volume_shape", "pixel_size")
        values = [f"{name.replace('_', '-')} {value}" for name, value in record.items() if name not in hidden]
        return ["", f"volume: {size}", *_wrapped("plan: ", values)]

    def _cost_lines(self) -> list[str]:
        schedule, cost = self.schedule, self.schedule.estimate
        ranks = schedule.layout.ranks + schedule.idle_ranks
        each = " a rank" if ranks > 1 else ""
        limit = schedule.memory_limit_bytes if self.thickness_given else available_memory_bytes()
        allowed = "" if limit is None else f" of {format_bytes(limit)} that may be used"
        parts = [f"{name} {format_bytes(size)}" for name, size in cost.parts.items()]
        on_gpu = self.plan.device != "cpu"
        time = f"about {format_seconds(cost.wall_seconds)}"
        scratch = "scratch files and checkpoints" if schedule.streamed else "checkpoints"
        return [
            *(schedule.lines() if ranks > 1 or schedule.streamed else []),
            f"memory: about {format_bytes(cost.memory_bytes)}{each}{allowed}",
            *_wrapped("        ", parts),
            f"time: {'not estimated on a GPU' if on_gpu else time}",
            f"disk: up to {format_bytes(schedule.disk_bytes)}, {scratch} included",
        ]


def check(series: SeriesOptions, options: ReconstructOptions, ranks: int | None = None) -> Checked:
    """Resolve the geometry, read every image once, and plan a reconstruction without running it.

    Parameters
    ----------
    series, options
        As for `manyviews.tilt.reconstruct.reconstruct`; a thickness of 0 stands for a quarter of the width.
    ranks
        Processes of this machine to plan for; None: as many as the layout needs, 1 without one.

    Raises
    ------
    InputError
        As a reconstruction would, also where memory does not suffice for the thickness that was given.
    """
    resolved = resolve_series(series)
    source = ImageSource(resolved, options.bin, options.invert_contrast)
    given = options.thickness != 0
    if not given:
        options = replace(options, thickness=max(options.bin, resolved.image_shape[1] // 4))
    plan = resolve_plan(options, source)
    shape = plan.volume_shape
    groups = group_by_axis(source.binned_geometry, shape, source.shape[1:], plan.pixel_size)
    return Checked(
        series=resolved,
        plan=plan,
        thickness_given=given,
        schedule=_schedule(options, plan, source, ranks, limited=given),
        groups=tuple((group.axis_degrees, len(group.views), group.rotated) for group in groups),
        warnings=(*resolved.warnings, *_warnings(resolved, plan, series, source, thickness_given=given)),
    )


def _schedule(
    options: ReconstructOptions, plan: Plan, source: ImageSource, ranks: int | None, *, limited: bool
) -> Schedule:
    if ranks is None:
        ranks = 1 if options.layout is None else Layout.parse(options.layout).ranks
    if ranks < 1:
        raise InputError(f"{ranks} is too few", where="--ranks", fix="give a whole number from 1 on")
    return make_schedule(
        plan,
        source.binned_geometry,
        sum(stack.path.stat().st_size for stack in source.series.stacks),
        ranks=ranks,
        ranks_per_host=ranks,
        layout=options.layout,
        memory_gib=options.memory if limited else None,
        available_bytes=None if limited else sys.maxsize,
    )


# --- words ---


def _stack_lines(series: ResolvedSeries) -> list[str]:
    lines = []
    for number, stack in enumerate(series.stacks):
        sections, rows, columns = stack.shape
        header = stack.header
        lines += [
            f"stack {number + 1}: {stack.path}",
            f"  {sections} sections of {columns} x {rows} pixels, mode {header.mode} ({header.dtype.name})",
            *(line for choice in series.choices if choice.stack == number for line in _choice_lines(choice)),
        ]
        if series.excluded[number]:
            lines.append(f"  left out: section {_number_list(series.excluded[number])}")
    return lines


def _choice_lines(choice: Choice) -> Iterator[str]:
    unit = {"pixel size": " A", "axis angle": " degrees"}.get(choice.field, "")
    yield f"  {choice.field}: {choice.value}{unit}, from {choice.source}"
    for other in choice.overruled:
        yield f"    overruled: {other}"


def _number_list(numbers: Sequence[int]) -> str:
    """Numbers from 0 as the user counts them, from 1."""
    return ", ".join(str(number + 1) for number in numbers)


def _view_lines(series: ResolvedSeries) -> list[str]:
    geometry = series.geometry
    sources = {
        choice.stack: Path(choice.source).name for choice in series.choices if choice.field == "tilt angles"
    }
    header = " view  stack  section     tilt     axis   shift x   shift y  source"
    lines = ["", "views, counted from 1; degrees, and angstrom in the image as stored", header]
    for view in range(len(geometry)):
        stack = int(geometry.series[view])
        x, y = geometry.matrices[view, :2, 3]
        angles = f"{geometry.tilt_degrees[view]:7.2f}  {geometry.axis_degrees[view]:7.2f}"
        place = f"{view + 1:5d}  {stack + 1:5d}  {geometry.sections[view] + 1:7d}"
        lines.append(f"{place}  {angles}  {x:8.2f}  {y:8.2f}  {sources.get(stack, '')}")
    return lines


def _wrapped(start: str, items: Sequence[str], width: int = 100) -> list[str]:
    import textwrap

    text = ", ".join(item.replace(" ", "\0") for item in items)  # an item stays on one line
    indent = " " * len(start)
    lines = textwrap.wrap(text, width, initial_indent=start, subsequent_indent=indent, break_on_hyphens=False)
    return [line.replace("\0", " ") for line in lines]


# --- warnings ---


def _warnings(
    series: ResolvedSeries,
    plan: Plan,
    options: SeriesOptions,
    source: ImageSource,
    *,
    thickness_given: bool,
) -> list[str]:
    geometry = series.geometry
    found = [
        *_size_warnings(plan, thickness_given=thickness_given),
        *_aspect_warnings(series),
        *_near_axes(geometry, same_is_known=not options.axis_angle),
    ]
    for number in range(len(series.stacks)):
        tilts = geometry.tilt_degrees[geometry.series == number]
        found += [f"stack {number + 1}: {text}" for text in _tilt_warnings(tilts)]
    if len(geometry) < _FEWEST_VIEWS:
        found.append(f"only {len(geometry)} view{'s' if len(geometry) > 1 else ''}: expect streaks")
    if plan.normalise == "none":
        found += _drift_warnings(geometry, GreyLevels.of(source))
    return found


def _size_warnings(plan: Plan, *, thickness_given: bool) -> Iterator[str]:
    depth, _, width = plan.volume_shape
    if not thickness_given:
        yield "no --thickness was given: memory and time are for a quarter of the width"
    if depth < _THINNEST * width:
        yield f"the volume is {depth} voxels thick and {width} wide: is --thickness in unbinned pixels?"


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
