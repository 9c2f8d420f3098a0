"""From a scan to what a reconstruction takes: projections, angles and the centre."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.io.scratch import ScratchFolder
from manyviews.nano.scan.binning import binned, binned_center, unbinned_center
from manyviews.nano.scan.center import FoundCenter, check_center, find_center
from manyviews.nano.scan.normalise import Correction, Repairs, blocks, make_correction
from manyviews.nano.scan.options import ScanOptions
from manyviews.nano.scan.scan import Scan
from manyviews.nano.scan.stripes import line_warnings, remove_stripes

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Tell = Callable[[str, int, int], None]

_BINNED_ROWS = 64


@dataclass(frozen=True)
class Prepared:
    """What a reconstruction takes.

    Attributes
    ----------
    projections
        float32 ``(view, z, x)``: sums along rays, binned, perhaps in a file.
    theta_degrees
        ``(view,)`` in the order of acquisition.
    center
        Column of the rotation axis in binned pixels, counted from 0.
    center_unbinned
        The same in pixels of the detector.
    pixel_size_nm
        Of the binned pixels, or None.
    binning, first_row
        As asked for: ``first_row`` is the first row of the detector that is used.
    views
        ``(view,)`` places, from 0, among all projections of the scan.
    is_return
        ``(view,)`` whether a view repeats an earlier one at the end.
    found
        How the centre was found; None where it was given.
    repairs
        Pixels that had no value.
    notes, warnings
        What was taken from where; what the user should look at.
    """

    projections: Float32
    theta_degrees: Float64
    center: float
    center_unbinned: float
    pixel_size_nm: float | None
    binning: int
    first_row: int
    views: Int64
    is_return: NDArray[np.bool_]
    found: FoundCenter | None
    repairs: Repairs
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def prepare(
    scan: Scan,
    options: ScanOptions,
    scratch: ScratchFolder | None = None,
    *,
    threads: int = 1,
    tell: Tell | None = None,
) -> Prepared:
    """Read all views once and make projections of them; with ``scratch`` they live in files.

    ``tell`` is called with what is done, how much of it, and how much there is. `InputError` as of
    `make_correction` and `Correction.read`, or if the centre is outside the detector.
    """
    correction = check_and_correct(scan, options)
    repairs = Repairs()
    whole = _read(correction, options, scratch, repairs, tell)
    looked = look(correction, options, whole)
    found = looked.found
    projections = _without_stripes(whole, scan, options, scratch, threads)
    unbinned = options.center if found is None else unbinned_center(found.center, _read_binning(options))
    assert unbinned is not None
    by = "--center" if found is None else found.by
    pixel_size = scan.pixel_size_nm
    return Prepared(
        projections=projections,
        theta_degrees=scan.theta_degrees,
        center=binned_center(unbinned, options.binning),
        center_unbinned=unbinned,
        pixel_size_nm=None if pixel_size is None else pixel_size * options.binning,
        binning=options.binning,
        first_row=correction.rows.start,
        views=scan.views,
        is_return=scan.is_return,
        found=found,
        repairs=repairs,
        notes=(
            *scan.notes,
            *correction.notes,
            *(() if found is None else found.notes),
            f"centre: {unbinned:.2f}, by {by}",
        ),
        warnings=(
            *scan.warnings,
            *correction.warnings,
            *repair_warnings(repairs, scan, correction),
            *looked.warnings,
        ),
    )


def check_and_correct(scan: Scan, options: ScanOptions) -> Correction:
    """`make_correction`, and `InputError` if a centre that was given is not on the detector."""
    if options.center is not None:
        check_center(options.center, scan.shape[2])
    return make_correction(scan, options)


def prepared_shape(scan: Scan, options: ScanOptions, rows: slice) -> tuple[int, int, int]:
    """``(view, z, x)`` of the projections."""
    views, _, columns = scan.shape
    return views, (rows.stop - rows.start) // options.binning, columns // options.binning


def needed_bytes(scan: Scan, options: ScanOptions, rows: slice) -> int:
    """What the projections take, and before they are binned those with stripes."""
    views, z, x = prepared_shape(scan, options, rows)
    whole = (
        views * (rows.stop - rows.start) * scan.shape[2] if _read_binning(options) != options.binning else 0
    )
    return 4 * (views * z * x + whole)


def _read_binning(options: ScanOptions) -> int:
    """How views are binned as they are read: stripes are a column wide, and binning would make them faint."""
    return 1 if options.stripes != "none" else options.binning


def _allocate(shape: tuple[int, int, int], scratch: ScratchFolder | None) -> Float32:
    return np.empty(shape, np.float32) if scratch is None else np.asarray(scratch.allocate(shape, np.float32))


def _read(
    correction: Correction,
    options: ScanOptions,
    scratch: ScratchFolder | None,
    repairs: Repairs,
    tell: Tell | None,
) -> Float32:
    """All views, corrected; binned unless stripes are to be removed first."""
    factor = _read_binning(options)
    views, rows, columns = correction.shape
    projections = _allocate((views, rows // factor, columns // factor), scratch)
    for block in blocks(correction.shape, correction.scan.projections.dtype):
        projections[block] = binned(correction.read(block, repairs=repairs), factor)
        if tell is not None:
            tell("reading", int(block[-1]) + 1, views)
    return projections


@dataclass(frozen=True)
class Looked:
    """What a look at some projections tells: where the axis is, or None if that was given, and of stripes."""

    found: FoundCenter | None
    warnings: tuple[str, ...]


def look(correction: Correction, options: ScanOptions, made: Float32 | None = None) -> Looked:
    """Find the centre and stripes: in projections ``made`` already, else in the few that are read for it.

    Both are looked for before stripes are removed: that moves the centre by half a pixel and more.
    """
    factor = _read_binning(options)
    scan = correction.scan

    def read(views: Int64, rows: slice) -> Float32:
        if made is not None:
            return made[views, rows]
        unbinned = slice(rows.start * factor, rows.stop * factor)
        return binned(correction.read(views, unbinned), factor)

    views, rows, columns = correction.shape
    shape = (views, rows // factor, columns // factor)
    width = options.center_search_width
    found = (
        find_center(read, shape, scan.theta_degrees, search_width=width, factor=factor)
        if options.center is None
        else None
    )
    warnings = line_warnings(read, shape, options)
    return Looked(found, (*(() if found is None else found.warnings), *warnings))


def _without_stripes(
    projections: Float32, scan: Scan, options: ScanOptions, scratch: ScratchFolder | None, threads: int
) -> Float32:
    """Without stripes, and binned."""
    if options.stripes == "none":
        return projections
    remove_stripes(projections, scan.theta_degrees, options.stripes, threads)
    factor = options.binning
    if factor == 1:
        return projections
    views, rows, columns = projections.shape
    made = _allocate((views, rows // factor, columns // factor), scratch)
    for first in range(0, made.shape[1], _BINNED_ROWS):
        last = min(first + _BINNED_ROWS, made.shape[1])
        made[:, first:last] = binned(projections[:, first * factor : last * factor], factor)
    return made


def repair_warnings(repairs: Repairs, scan: Scan, correction: Correction, looked_at: int = 0) -> list[str]:
    """What is told of pixels without a value; ``looked_at`` is how many views, all of them if 0."""
    if not repairs.pixels:
        return []
    why = "are not above the darks" if correction.minus_log else "are not finite"
    views, rows, columns = correction.shape
    share = 100 * repairs.pixels / ((looked_at or views) * rows * columns)
    among = f" of {looked_at} looked at" if looked_at else ""
    worst = int(scan.views[repairs.worst_view]) + 1
    return [
        f"{repairs.pixels} pixels ({share:.2g} %) in {repairs.views} views{among} {why} and take the"
        f" values of their"
        f" neighbours; most of them, {100 * repairs.largest_share:.2g} %, in view {worst}"
    ]
