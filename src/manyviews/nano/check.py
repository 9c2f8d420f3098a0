"""Look at a scan before it is reconstructed: what is there, what would be done, and what it will take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from manyviews.errors import InputError
from manyviews.io.sizes import format_bytes
from manyviews.nano.estimate import Cost, estimate_cost, require_room, room_for_choice
from manyviews.nano.plan import Plan, resolve_plan
from manyviews.nano.reconstruct_options import ReconstructOptions
from manyviews.nano.scan.center import FoundCenter
from manyviews.nano.scan.center_search import largest_gap_degrees
from manyviews.nano.scan.normalise import Correction, Repairs
from manyviews.nano.scan.opposite import angular_step_degrees, opposite_pairs, return_pairs
from manyviews.nano.scan.options import ScanOptions
from manyviews.nano.scan.prepare import check_and_correct, look, needed_bytes, prepared_shape, repair_warnings
from manyviews.nano.scan.scan import Scan, open_scan
from manyviews.parallel.world import SingleWorld
from manyviews.runs.memory import available_memory_bytes

_SAMPLE = 24


@dataclass(frozen=True)
class Checked:
    """What `check` found.

    ``found`` is the centre, None where it was given; ``levels`` are the lowest, median and highest value of
    the images that were looked at, as stored, and ``projected`` the same of their projections. ``shape`` is
    ``(view, z, x)`` of what a reconstruction takes, ``plan`` what was planned, ``cost`` what it takes, and
    ``in_files`` whether memory is so small that arrays have to lie in files.
    """

    scan: Scan
    options: ScanOptions
    correction: Correction
    found: FoundCenter | None
    looked_at: int
    levels: tuple[float, float, float]
    projected: tuple[float, float, float]
    shape: tuple[int, int, int]
    plan: Plan
    cost: Cost
    in_files: bool
    warnings: tuple[str, ...]

    def lines(self) -> list[str]:
        """All of it in words, for a terminal."""
        return [
            *_scan_lines(self.scan),
            *_angle_lines(self.scan),
            *(f"note: {note}" for note in (*self.scan.notes, *self.correction.notes)),
            *self._plan_lines(),
            *([f"warning: {text}" for text in self.warnings] or ["no warnings"]),
        ]

    def _plan_lines(self) -> Iterator[str]:
        options, views = self.options, self.looked_at
        low, middle, high = self.levels
        yield f"values: {low:.5g} to {high:.5g}, median {middle:.5g}, in {views} views"
        yield f"steps: {', '.join(_steps(self.correction, options))}"
        low, middle, high = self.projected
        yield f"projections: {low:.4g} to {high:.4g}, median {middle:.4g}"
        if self.found is None:
            yield f"centre: {options.center:g}, as given"
        else:
            yield from self.found.notes
            center = (self.found.center + 0.5) * _looked_binning(options) - 0.5
            yield f"centre: {center:.2f}, by {self.found.by}"
        count, z, x = self.shape
        yield f"reconstructed from: {count} views of {x} x {z} pixels{_pixel_words(self.scan, options)}"
        yield from method_lines(self.plan)
        yield from self.cost.lines(self.in_files)
        free = available_memory_bytes()
        if free is not None:
            yield f"free memory: {format_bytes(free)}"


def method_lines(plan: Plan) -> Iterator[str]:
    """Which method, and its iterations; where it will be chosen, both."""
    if not plan.choosing:
        yield f"method: {_method_words(plan)}"
        return
    try:
        space = plan.chosen("spacetv")
    except InputError as error:
        yield f"method: {_method_words(plan.chosen('oftv'))}"
        yield f"note: motion in space will not be tried: {error.what}"
        return
    yield f"method: {_method_words(plan.chosen('oftv'))};"
    yield f"  or {_method_words(space)}: whichever explains binned projections better"


def _method_words(plan: Plan) -> str:
    steps = " + ".join(map(str, plan.iterations))
    return plan.options.method + (f", {steps} iterations, the coarsest level first" if steps else "")


def check(options: ScanOptions, how: ReconstructOptions | None = None) -> Checked:
    """Open a scan and look at some of its views, as a reconstruction would take them; ``how`` left out: the
    usual way.

    `InputError` as of `manyviews.nano.scan.prepare.prepare`, where the views that are looked at tell.
    """
    scan = open_scan(options.scan, options)
    correction = check_and_correct(scan, options)
    shape = prepared_shape(scan, options, correction.rows)
    plan = resolve_plan(options, how or ReconstructOptions(), shape)
    needed = needed_bytes(scan, options, correction.rows)
    flows_alone = room_for_choice(plan, SingleWorld(), needed) if plan.choosing else ""
    plan = plan.chosen("oftv") if flows_alone else plan
    cost = estimate_cost(plan, 1, needed)
    in_files, too_small = _place(cost, plan.options)
    views = np.unique(np.linspace(0, scan.shape[0] - 1, _SAMPLE).round().astype(np.int64))
    repairs = Repairs()
    stored = scan.projections.read(views, correction.rows)
    made = correction.read(views, repairs=repairs)
    looked = look(correction, options)
    seen = repair_warnings(repairs, scan, correction, looked_at=len(views))
    return Checked(
        scan=scan,
        options=options,
        correction=correction,
        found=looked.found,
        looked_at=len(views),
        levels=_levels(stored.astype(np.float64)),
        projected=_levels(made.astype(np.float64)),
        shape=shape,
        plan=plan,
        cost=cost,
        in_files=in_files,
        warnings=(
            *scan.warnings,
            *correction.warnings,
            *seen,
            *looked.warnings,
            *((flows_alone,) if flows_alone else ()),
            *too_small,
        ),
    )


def _place(cost: Cost, how: ReconstructOptions) -> tuple[bool, tuple[str, ...]]:
    """Whether arrays have to lie in files, and what is to be told if not even that is enough."""
    try:
        return require_room(cost, how, SingleWorld()), ()
    except InputError as error:
        return False, (f"a run would be refused: {error.what}",)


def find_scan_center(options: ScanOptions) -> tuple[Correction, FoundCenter]:
    """The centre of a scan by both ways, in pixels of the detector, and what was done to the images for it.

    ``--center`` and ``--binning`` count for nothing. `InputError` as of `check`.
    """
    options = replace(options, center=None, binning=1)
    correction = check_and_correct(open_scan(options.scan, options), options)
    found = look(correction, options).found
    assert found is not None  # none was given
    return correction, found


def _looked_binning(options: ScanOptions) -> int:
    return options.binning if options.stripes == "none" else 1


def _levels(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, float, float]:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 0.0, 0.0
    return float(finite.min()), float(np.median(finite)), float(finite.max())


def _scan_lines(scan: Scan) -> Iterator[str]:
    views, rows, columns = scan.shape
    yield f"scan: {scan.path}, {scan.kind}"
    yield f"projections: {views} of {columns} x {rows} pixels, {scan.projections.dtype.name}"
    for name, images in (("flats", scan.flats), ("darks", scan.darks)):
        yield f"{name}: {images.shape[0] if images is not None else 'none'}"


def _angle_lines(scan: Scan) -> Iterator[str]:
    theta = scan.theta_degrees
    steps = np.diff(theta)
    turns = float(np.ptp(theta)) / 360.0
    order = "one way" if (steps > 0).all() or (steps < 0).all() else "to and fro, in the order of acquisition"
    yield (
        f"angles: {len(theta)} from {theta[0]:.6g} to {theta[-1]:.6g} degrees, {order}, {turns:.3g} turns"
        if turns > 1.01
        else f"angles: {len(theta)} from {theta[0]:.6g} to {theta[-1]:.6g} degrees, {order}"
    )
    opposite, again = len(opposite_pairs(theta)[0]), len(return_pairs(theta)[0])
    yield (
        f"directions: {angular_step_degrees(theta):.4g} degrees apart, the largest gap"
        f" {largest_gap_degrees(theta):.4g}; {opposite} pairs of opposite views, {again} of the same"
        f" direction"
    )
    if scan.is_return.any():
        yield f"return views: {int(scan.is_return.sum())} at the end"


def _steps(correction: Correction, options: ScanOptions) -> Iterator[str]:
    if correction.dark is not None:
        yield "subtract darks"
    elif correction.offset:
        yield f"subtract {correction.offset:g}"
    if correction.beam is not None:
        yield "divide by flats"
    if options.air:
        yield f"divide by the air in {options.air} columns at either side"
    if correction.minus_log:
        yield "take minus the logarithm"
    if options.stripes != "none":
        yield f"remove stripes ({options.stripes})"
    if options.binning > 1:
        yield f"bin by {options.binning}"
    if correction.dark is None and correction.beam is None and not correction.minus_log:
        yield "take values as sums along rays"


def _pixel_words(scan: Scan, options: ScanOptions) -> str:
    return "" if scan.pixel_size_nm is None else f" of {scan.pixel_size_nm * options.binning:.5g} nm"
