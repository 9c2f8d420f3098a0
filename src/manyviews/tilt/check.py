"""``manyviews tilt check``: what would be done, where every number comes from, and what it costs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from manyviews.errors import InputError
from manyviews.io.sizes import format_bytes
from manyviews.jobs.device import free_memory_bytes
from manyviews.operators.axis_groups import group_by_axis
from manyviews.parallel.layout import Layout
from manyviews.parallel.world import SingleWorld
from manyviews.runs.progress import format_seconds
from manyviews.tilt.cost.schedule import Schedule, make_schedule
from manyviews.tilt.ctf.apply import check_transfer, transfer_costs
from manyviews.tilt.ctf.transfer import ResolvedTransfer, resolve_transfer
from manyviews.tilt.options import ReconstructOptions, SeriesOptions
from manyviews.tilt.pixels.settle import settle_pixels
from manyviews.tilt.pixels.stored import open_weights
from manyviews.tilt.pixels.thickness import propose_thickness
from manyviews.tilt.plan import Plan, resolve_plan
from manyviews.tilt.series.choices import Choice
from manyviews.tilt.series.images import ImageSource
from manyviews.tilt.series.normalise import GreyLevels
from manyviews.tilt.series.resolve import ResolvedSeries, resolve_series
from manyviews.tilt.warnings import find_warnings

NO_THICKNESS = "no --thickness was given: memory and time are for a quarter of the width"


@dataclass(frozen=True)
class Checked:
    """What `check` found.

    What a reconstruction would do is ``plan``; how it is spread over ranks, with its memory, disk and time,
    ``schedule``; ``with_priors`` is that of ``--method admm`` beside ``cg``, where both fit. Without
    ``thickness_given`` the thickness is what the images
    show, or a quarter of the width. ``groups`` are
    direction of the tilt axis in degrees, number of views, and whether slices are turned; ``warnings`` are
    sentences; ``transfer`` says what is taken for the contrast transfer, line by line, ``pixels`` which
    pixels do not count and how thick the images show the specimen.
    """

    series: ResolvedSeries
    plan: Plan
    thickness_given: bool
    schedule: Schedule
    with_priors: Schedule | None
    groups: tuple[tuple[float, int, bool], ...]
    warnings: tuple[str, ...]
    transfer: tuple[str, ...] = ()
    pixels: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """All of it in words, for a terminal."""
        return [
            *_stack_lines(self.series),
            *_view_lines(self.series),
            *self._group_lines(),
            *(["", "contrast transfer", *(f"  {line}" for line in self.transfer)] if self.transfer else []),
            *(["", *self.pixels] if self.pixels else []),
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
        if NO_THICKNESS in self.warnings:
            size += " (no --thickness was given: a quarter of the width)"
        hidden = ("volume_shape", "pixel_size")
        values = [f"{name.replace('_', '-')} {value}" for name, value in record.items() if name not in hidden]
        return ["", f"volume: {size}", *_wrapped("plan: ", values)]

    def _cost_lines(self) -> list[str]:
        schedule, cost = self.schedule, self.schedule.estimate
        ranks = schedule.layout.ranks + schedule.idle_ranks
        each = " a rank" if ranks > 1 else ""
        limit = schedule.memory_limit_bytes
        if not self.thickness_given:
            limit = free_memory_bytes(self.plan.device, SingleWorld())
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
            *self._prior_lines(),
        ]

    def _prior_lines(self) -> list[str]:
        if self.with_priors is None:
            return []
        cost = self.with_priors.estimate
        return [
            "better, and slower: --method admm, with priors that held-out views choose, "
            f"about {format_seconds(cost.wall_seconds)} and {format_bytes(cost.memory_bytes)}"
        ]


def check(series: SeriesOptions, options: ReconstructOptions, ranks: int | None = None) -> Checked:
    """Resolve the geometry, read every image once, and plan a reconstruction without running it.

    Parameters
    ----------
    series, options
        As for `manyviews.tilt.reconstruct.reconstruct`; a thickness of 0 stands for what the
        images show, else for a quarter of the width.
    ranks
        Processes of this machine to plan for; None: as many as the layout needs, 1 without one.

    Raises
    ------
    InputError
        As a reconstruction would, also where memory does not suffice for the thickness that was given.
    """
    resolved = resolve_series(series)
    source = ImageSource(resolved, options.bin, options.invert_contrast, options.remove_outliers)
    given = options.thickness != 0 or resolved.thickness is not None
    proposal = None if given else propose_thickness(resolved, options, SingleWorld())
    if proposal is not None:
        resolved = proposal.centred(resolved)
        source = ImageSource(resolved, options.bin, options.invert_contrast, options.remove_outliers)
    elif not given:
        options = replace(options, thickness=max(options.bin, resolved.image_shape[1] // 4))
    plan = resolve_plan(options, source)
    transfer = resolve_transfer(options, resolved)
    lines, doubts = ((), ()) if transfer is None else check_transfer(transfer, source, plan)
    levels, outliers = GreyLevels.of(source)
    weights = open_weights(options.weights, resolved.stacks)
    settled = settle_pixels(
        source, replace(plan, mask_beads=False), weights, torch.device("cpu"), SingleWorld()
    )
    shape = plan.volume_shape
    groups = group_by_axis(source.binned_geometry, shape, source.shape[1:], plan.pixel_size)
    weighed = settled.pixels is not None or plan.mask_beads
    asked = _Asked(source, ranks, transfer, limited=given, weighed=weighed)
    return Checked(
        series=resolved,
        plan=plan,
        thickness_given=given,
        schedule=asked.schedule(options, plan),
        with_priors=asked.with_priors(options, plan),
        groups=tuple((group.axis_degrees, len(group.views), group.rotated) for group in groups),
        transfer=lines,
        pixels=(*(() if proposal is None else proposal.lines), *settled.lines),
        warnings=(
            *resolved.warnings,
            *doubts,
            *(() if given or proposal is not None else (NO_THICKNESS,)),
            *find_warnings(resolved, plan, series, levels if plan.normalise == "none" else None, outliers),
        ),
    )


@dataclass(frozen=True)
class _Asked:
    """What schedules are made for: ``ranks`` as of `check`, ``limited`` where memory may not suffice."""

    source: ImageSource
    ranks: int | None
    transfer: ResolvedTransfer | None
    limited: bool
    weighed: bool

    def schedule(self, options: ReconstructOptions, plan: Plan) -> Schedule:
        """The schedule of a plan."""
        ranks, source = self.ranks, self.source
        if ranks is None:
            ranks = 1 if options.layout is None else Layout.parse(options.layout).ranks
        if ranks < 1:
            raise InputError(f"{ranks} is too few", where="--ranks", fix="give a whole number from 1 on")
        free = free_memory_bytes(plan.device, SingleWorld(), ranks) if self.limited else sys.maxsize
        return make_schedule(
            plan,
            source.binned_geometry,
            sum(stack.stored_bytes for stack in source.series.stacks),
            ranks=ranks,
            ranks_per_host=ranks,
            layout=options.layout,
            memory_gib=options.memory if self.limited else None,
            available_bytes=free,
            weighed=self.weighed,
            transfer=transfer_costs(plan, self.transfer, source),
        )

    def with_priors(self, options: ReconstructOptions, plan: Plan) -> Schedule | None:
        """The same by ``admm``; None where ``cg`` was not asked for, on a GPU, or where it does not fit."""
        if plan.method != "cg" or plan.device != "cpu":
            return None
        other = replace(options, method="admm", damping=None, layout=None)
        try:
            return self.schedule(other, resolve_plan(other, self.source))
        except InputError:
            return None


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
    sources = {stack: Path(source).name for stack, source in series.sources("tilt angles").items()}
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
