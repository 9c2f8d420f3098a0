"""From the options that a user gave to the plan of a run, every default resolved."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from manyviews.errors import InputError
from manyviews.io.ome_zarr import require_zarr
from manyviews.nano.motion.reconstruct import MotionOptions
from manyviews.nano.reconstruct_options import (
    AUTO,
    MOVING,
    PRINTED,
    SPACE,
    VARIATION,
    Method,
    ReconstructOptions,
    with_method,
)
from manyviews.nano.scan.binning import binned_center
from manyviews.nano.scan.options import ScanOptions
from manyviews.nano.solve.levels import Level, usual_levels
from manyviews.options import check_options, foreign_options

_WITHOUT_VARIATION: dict[Method, Method] = {
    "oftv": "of",
    "spacetv": "space",
    "pcgtv": "pcg",
    "oftv-printed": "of-printed",
}
_MACHINE = ("device", "threads", "memory", "scratch")
_WITH_MOTION, _WITHOUT, _PRINTED = 24, 8, 64
_FEWEST_ITERATIONS = 6
_FEWEST_COLUMNS, _FEWEST_VIEWS, _FEWEST_SLICES = 8, 6, 4
# Of motion in space: at the coarsest level, at others, and of the volume without and with variation.
_SPACE_FIRST, _SPACE_NEXT, _SPACE_VOLUME, _SPACE_VARIATION = 4, 3, 2, 8


@dataclass(frozen=True)
class Plan:
    """What a run does.

    ``shape`` is ``(view, z, x)`` of the projections; ``iterations`` are of each level, the coarsest first,
    none for a method without, and ``binnings`` their pixels; ``window`` in pixels of the finest level.
    """

    options: ReconstructOptions
    scan: ScanOptions
    shape: tuple[int, int, int]
    iterations: tuple[int, ...]
    binnings: tuple[int, ...]
    window: float

    @property
    def choosing(self) -> bool:
        """Whether flows or motion in space is still to be chosen."""
        return self.options.method == AUTO

    @property
    def space(self) -> bool:
        """Whether a motion of the specimen in space is found."""
        return self.options.method in SPACE

    @property
    def moving(self) -> bool:
        """Whether motion is found by reprojection."""
        return self.options.method in MOVING

    @property
    def aligning(self) -> bool:
        """Whether whole views are aligned to their volume before anything else is found."""
        return self.space or (self.moving and not self.printed)

    @property
    def printed(self) -> bool:
        """Whether the paper's splitting is used."""
        return self.options.method in PRINTED

    @property
    def variation(self) -> bool:
        """Whether total variation is weighed in."""
        return self.options.method in VARIATION and self.options.tv > 0

    @property
    def mass(self) -> bool:
        """Whether motion keeps mass."""
        return self.options.warp == "mass"

    def without_variation(self) -> Plan:
        """The same method less total variation: halves that share edges it makes would agree too well."""
        method = _WITHOUT_VARIATION.get(self.options.method, self.options.method)
        plan = replace(self, options=replace(self.options, method=method, tv=1.0))
        if not self.space or len(self.options.iterations) > 1:
            return plan
        return replace(plan, iterations=_space_iterations(plan.options, len(self.binnings)))

    def chosen(self, method: Method) -> Plan:
        """The plan of one of the methods that `auto` chooses from."""
        return resolve_plan(self.scan, with_method(self.options, method), self.shape)

    def levels(self, center: float) -> tuple[Level, ...]:
        """The levels, for a centre in pixels of the finest; the number of views does not count."""
        views, rows, columns = self.shape
        return tuple(
            Level(number, b, (views, rows // b, columns // b), binned_center(center, b), iterations)
            for number, (b, iterations) in enumerate(zip(self.binnings, self.iterations, strict=True), 1)
        )

    def record(self) -> dict[str, Any]:
        """For ``run.toml``: what changes the result."""
        method = self.options.method
        # what any of the methods that are chosen from has, counts
        others = set() if method == AUTO else foreign_options(ReconstructOptions, method)
        left_out = {*_MACHINE, *others}
        how = {name: value for name, value in asdict(self.options).items() if name not in left_out}
        resolved = {
            "iterations": list(self.iterations),
            "levels": len(self.iterations),
            "window": self.window,
        }
        return {**asdict(self.scan), **how, **resolved}


def resolve_plan(scan: ScanOptions, options: ReconstructOptions, shape: tuple[int, int, int]) -> Plan:
    """Resolve every default for projections ``(view, z, x)``; `InputError` if options make no sense."""
    check_options(options)
    views, rows, columns = shape
    if options.device == "cuda":
        raise InputError(
            "nano reconstruct computes on the CPU", where="--device", fix="give --device cpu, or leave it out"
        )
    if columns < _FEWEST_COLUMNS or rows < 1 or views < _FEWEST_VIEWS:
        raise InputError(
            f"{views} views of {columns} x {rows} pixels are too little for a reconstruction",
            fix=f"give {_FEWEST_VIEWS} views of {_FEWEST_COLUMNS} columns at least, or less --binning",
        )
    if options.ome_zarr:
        require_zarr()
    window = options.window or float(columns)
    if options.method in SPACE:
        binnings = space_binnings(rows, columns)
        _require_views(views, halves=options.halves)
        return Plan(options, scan, shape, _space_iterations(options, len(binnings)), binnings, window)
    iterations = _iterations(options, _level_count(options, rows, columns))
    binnings = tuple(2**level for level in reversed(range(len(iterations))))
    return Plan(options, scan, shape, iterations, binnings, window)


def space_binnings(rows: int, columns: int) -> tuple[int, ...]:
    """Of levels at which motion in space is fitted, and 1; `InputError` if there are too few pixels for it.

    With all its pixels motion is fitted only where there are too few for anything else.
    """
    factors = MotionOptions().factors(columns)
    coarse = [factor for factor in factors[:-1] if factor > 1] or [1]
    usable = [factor for factor in coarse if rows // factor >= _FEWEST_SLICES]
    if not usable:
        raise InputError(
            f"{rows} rows are too few to find a motion in space: {rows // coarse[-1]} are left where pixels "
            f"are binned by {coarse[-1]}",
            where="--method",
            fix="give oftv, or more rows",
        )
    return (*usable, 1)


def _require_views(views: int, *, halves: bool) -> None:
    degree = MotionOptions().degree
    if views // (2 if halves else 1) <= degree:
        raise InputError(
            f"{views} views{', shared by two halves,' if halves else ''} do not tell a motion in space",
            where="--method",
            fix="give oftv, or more views" + (", or --no-halves" if halves else ""),
        )


def _space_iterations(options: ReconstructOptions, levels: int) -> tuple[int, ...]:
    given = options.iterations
    if len(given) > 1:
        return _one_a_level(given, levels)
    volume = _SPACE_VARIATION if options.method in VARIATION and options.tv > 0 else _SPACE_VOLUME
    first, others = (given[0], given[0]) if given else (_SPACE_FIRST, _SPACE_NEXT)
    return (first, *(others for _ in range(levels - 2)), volume)


def _level_count(options: ReconstructOptions, rows: int, columns: int) -> int:
    if options.method not in MOVING:
        return 1
    several = len(options.iterations) if len(options.iterations) > 1 else None
    given = options.levels or several
    count = usual_levels(rows, columns) if given is None else given
    if columns >> (count - 1) < _FEWEST_COLUMNS or rows >> (count - 1) < 1:
        raise InputError(
            f"{count} levels leave {columns >> (count - 1)} x {rows >> (count - 1)} pixels at the coarsest",
            where="--levels",
            fix="give fewer",
        )
    return count


def _iterations(options: ReconstructOptions, levels: int) -> tuple[int, ...]:
    if options.method == "fbp":
        return ()
    given = options.iterations
    if len(given) > 1:
        return _one_a_level(given, levels)
    usual = _PRINTED if options.method in PRINTED else _WITH_MOTION if options.method in MOVING else _WITHOUT
    first = given[0] if given else usual
    fewest = min(first, _FEWEST_ITERATIONS)
    return tuple(max(fewest, first >> level) for level in range(levels))


def _one_a_level(given: tuple[int, ...], levels: int) -> tuple[int, ...]:
    if len(given) != levels:
        raise InputError(
            f"{len(given)} numbers are not those of {levels} level{'s' if levels > 1 else ''}",
            where="--iterations",
            fix="give one number, or one for each level",
        )
    return given
