"""What an alignment will do, resolved before it starts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from manyviews.errors import InputError
from manyviews.io.sizes import format_bytes
from manyviews.jobs.memory import room_for_data
from manyviews.options import check_options
from manyviews.parallel.world import SingleWorld
from manyviews.tilt.align.options import AlignOptions
from manyviews.tilt.series.resolve import ResolvedSeries

Shape3 = tuple[int, int, int]

_LEAST_SIDE = 32  # of the coarsest images
_WHOLE_SIDE, _MOST_SIDE = 192, 512  # sides that are not binned, and that the finest images have at most
_COARSE_SIDE = 64  # of the images that neighbours are compared in, at least
_CHECKED_SIDE = 64  # of those in which views are compared with the volume of the others, at least
_FEWEST_VIEWS = 3
# by level, from coarse to fine: steps, and how much thicker and wider than the specimen the volume is
_STEPS = (6, 10, 6, 4)
_THICKER = (2.0, 1.5, 1.25, 1.15)
_WIDER = 1.1
_LEAST_SLICES = 4
# float32 arrays of the size of all frames that a step holds at once, beside those of slopes
_FRAME_ARRAYS = 8


@dataclass(frozen=True)
class LevelPlan:
    """One binning: ``volume_shape (z, y, x)``, and how many steps at most."""

    bin: int
    volume_shape: Shape3
    steps: int


@dataclass(frozen=True)
class AlignPlan:
    """Options with nothing left open; ``levels`` go from coarse to fine, lengths are unbinned pixels."""

    thickness: int
    levels: tuple[LevelPlan, ...]
    coarse_bin: int
    axis_search: float
    keep_axis: bool
    rotation: str
    keep_views: bool
    remove_outliers: bool
    aligned_stacks: bool
    pixel_size: float

    def check_level(self, side: int) -> LevelPlan:
        """Where views are compared with the volume of the others; ``side`` of images that are not binned."""
        fitting = [one for one in self.levels if side // one.bin >= _CHECKED_SIDE]
        return max(fitting, key=lambda one: one.bin, default=self.levels[-1])

    def record(self) -> dict[str, Any]:
        """The plan for ``run.toml``."""
        return {
            **asdict(self),
            "levels": [{**asdict(level), "volume_shape": list(level.volume_shape)} for level in self.levels],
        }


def resolve_align_plan(options: AlignOptions, series: ResolvedSeries) -> AlignPlan:
    """Fill in what the user left open and refuse what cannot be.

    Raises
    ------
    InputError
        Naming the option.
    """
    check_options(options)
    thickness = options.thickness or series.thickness
    if not thickness:
        raise InputError(
            "the thickness of the specimen is not known",
            where="--thickness",
            fix="give it in unbinned pixels, with some room above and below",
        )
    if options.device == "cuda":
        raise InputError("tilt align runs on the CPU", where="--device", fix="leave --device out")
    _check_views(series)
    side = min(series.image_shape)
    finest = options.bin or _finest_bin(side)
    if side // finest < _LEAST_SIDE:
        raise InputError(
            f"images of {side // finest} pixels a side after binning by {finest} are too small to align",
            where="--bin",
            fix=f"give images of {_LEAST_SIDE} pixels or more, or a smaller --bin",
        )
    bins = [finest]
    while side // (2 * bins[0]) >= _LEAST_SIDE and len(bins) < 6:
        bins.insert(0, 2 * bins[0])
    plan = AlignPlan(
        thickness=thickness,
        levels=tuple(_level(bin, number, len(bins), thickness, series) for number, bin in enumerate(bins)),
        coarse_bin=max((bin for bin in bins if side // bin >= _COARSE_SIDE), default=finest),
        axis_search=0.0 if options.keep_axis else options.axis_search,
        keep_axis=options.keep_axis,
        rotation=options.rotation,
        keep_views=options.keep_views,
        remove_outliers=options.remove_outliers,
        aligned_stacks=options.aligned_stacks,
        pixel_size=series.pixel_size,
    )
    _check_memory(plan, options, series)
    return plan


def _finest_bin(side: int) -> int:
    if side < _WHOLE_SIDE:
        return 1
    found = 2
    while side // found > _MOST_SIDE:
        found *= 2
    return found


def _level(bin: int, number: int, count: int, thickness: int, series: ResolvedSeries) -> LevelPlan:
    place = min(number, len(_STEPS) - 1)
    if number == count - 1:
        place = max(place, 2)
    rows, columns = series.field_shape
    depth = max(_LEAST_SLICES, round(_THICKER[place] * thickness / bin))
    return LevelPlan(bin, (depth, round(_WIDER * rows / bin), round(_WIDER * columns / bin)), _STEPS[place])


def _check_views(series: ResolvedSeries) -> None:
    for number, stack in enumerate(series.stacks):
        views = int((series.geometry.series == number).sum())
        if views < _FEWEST_VIEWS:
            raise InputError(f"{views} views are too few to be aligned", path=stack.path)


def _check_memory(plan: AlignPlan, options: AlignOptions, series: ResolvedSeries) -> None:
    """Refuse at once what does not fit."""
    finest = plan.levels[-1]
    pixels = prod(side / finest.bin for side in series.image_shape) * 1.3
    columns = 3 + (2 if len(series.stacks) > 1 else 1)
    need = 4.0 * len(series.geometry) * pixels * (_FRAME_ARRAYS + columns) + 40.0 * prod(finest.volume_shape)
    room = room_for_data(options.memory, SingleWorld())
    if room is not None and need > room:
        raise InputError(
            f"aligning images binned by {finest.bin} takes {format_bytes(need)} of memory, and "
            f"{format_bytes(room)} are free",
            where="--bin",
            fix=f"give --bin {2 * finest.bin}",
        )
