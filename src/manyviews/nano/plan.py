"""From the options that a user gave to the plan of a run, every default resolved."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from manyviews.errors import InputError
from manyviews.nano.reconstruct_options import (
    MOVING,
    PRINTED,
    VARIATION,
    Method,
    ReconstructOptions,
)
from manyviews.nano.scan.binning import binned_center
from manyviews.nano.scan.options import ScanOptions
from manyviews.nano.solve.levels import Level, usual_levels
from manyviews.options import check_options

_WITHOUT_VARIATION: dict[Method, Method] = {"oftv": "of", "pcgtv": "pcg", "oftv-printed": "of-printed"}
_MACHINE = ("device", "threads", "memory", "scratch")
_WITH_MOTION, _WITHOUT, _PRINTED = 24, 8, 64
_FEWEST_ITERATIONS = 6
_FEWEST_COLUMNS, _FEWEST_VIEWS = 8, 6


@dataclass(frozen=True)
class Plan:
    """What a run does.

    ``shape`` is ``(view, z, x)`` of the projections; ``iterations`` are of each level, the coarsest first,
    none for a method without; ``window`` in pixels of the finest level.
    """

    options: ReconstructOptions
    scan: ScanOptions
    shape: tuple[int, int, int]
    iterations: tuple[int, ...]
    window: float

    @property
    def moving(self) -> bool:
        """Whether motion is found by reprojection."""
        return self.options.method in MOVING

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
        return replace(self, options=replace(self.options, method=method, tv=1.0))

    def levels(self, center: float) -> tuple[Level, ...]:
        """The levels, for a centre in pixels of the finest; the number of views does not count."""
        views, rows, columns = self.shape
        count = len(self.iterations)
        made = []
        for number, iterations in enumerate(self.iterations, 1):
            b = 2 ** (count - number)
            made.append(
                Level(number, b, (views, rows // b, columns // b), binned_center(center, b), iterations)
            )
        return tuple(made)

    def record(self) -> dict[str, Any]:
        """For ``run.toml``: what changes the result."""
        how = {name: value for name, value in asdict(self.options).items() if name not in _MACHINE}
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
    iterations = _iterations(options, _level_count(options, rows, columns))
    return Plan(options, scan, shape, iterations, options.window or float(columns))


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
    if len(given) > 1 and len(given) != levels:
        raise InputError(
            f"{len(given)} numbers are not those of {levels} level{'s' if levels > 1 else ''}",
            where="--iterations",
            fix="give one number, or one for each level",
        )
    if len(given) > 1:
        return given
    usual = _PRINTED if options.method in PRINTED else _WITH_MOTION if options.method in MOVING else _WITHOUT
    first = given[0] if given else usual
    fewest = min(first, _FEWEST_ITERATIONS)
    return tuple(max(fewest, first >> level) for level in range(levels))
