"""Counts to projections: darks, flats, the beam beside the specimen, and minus the logarithm, in this order.

``transmission = (counts - dark) / (flat - dark)``, of which minus the logarithm is the sum along the ray.
What is no positive number has no logarithm: such pixels, and those where the flats are no brighter than the
darks, take the value of the nearest pixel that is good, and are counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.frames import Frames
from manyviews.nano.scan.options import ScanOptions
from manyviews.nano.scan.scan import Scan
from manyviews.nano.scan.views import listed

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_LEAST_BEAM = 0.01  # of the median: less is no beam
_MOST_DEAD = 0.2
_MOST_BAD = 0.5  # of a view: more is no view
_BLOCK_BYTES = 1 << 26
_REACH = 3
_AROUND = range(-_REACH, _REACH + 1)
# The pixels around one, the nearest first.
_NEAR = sorted(
    ((row, column) for row in _AROUND for column in _AROUND if 0 < row**2 + column**2 <= _REACH**2),
    key=lambda place: (place[0] ** 2 + place[1] ** 2, place),
)
_LOOKED_AT, _OFFSET_VIEWS = 16, 128
# Without flats: air is near 1 in the transmission, and nothing is far below 0.
_AIR_FROM, _AIR_TO, _LEAST_TRANSMISSION = 0.7, 1.4, -0.1


@dataclass
class Repairs:
    """How many pixels had no value of their own, counted on the way, and in how many views."""

    pixels: int = 0
    views: int = 0
    largest_share: float = 0.0
    worst_view: int = 0

    def count(self, bad: Int64, views: Int64, pixels: int) -> None:
        """``bad (view,)`` pixels of a block of views, of ``pixels`` each."""
        self.pixels += int(bad.sum())
        self.views += int((bad > 0).sum())
        worst = int(np.argmax(bad))
        if bad[worst] / pixels > self.largest_share:
            self.largest_share, self.worst_view = float(bad[worst] / pixels), int(views[worst])


@dataclass(frozen=True)
class Correction:
    """What is done to the images of a scan in rows ``rows``; see `make_correction`.

    ``dark`` and ``beam`` (flat less dark) are ``(row, column)`` or None, ``dead (row, column)`` where there
    is no beam. ``offset`` is subtracted where there are no darks.
    """

    scan: Scan
    rows: slice
    dark: Float32 | None
    beam: Float32 | None
    dead: NDArray[np.bool_]
    offset: float
    minus_log: bool
    air: int
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(view, row, column)`` of what it makes."""
        return (self.scan.shape[0], self.rows.stop - self.rows.start, self.scan.shape[2])

    def read(self, views: Int64, rows: slice | None = None, repairs: Repairs | None = None) -> Float32:
        """Projections ``(k, row, column)`` of the given views; ``rows`` counts within ``self.rows``.

        `InputError` if more than half of a view's pixels have no value.
        """
        first, last, _ = (rows or slice(None)).indices(self.shape[1])
        part = slice(first, last)
        wanted = slice(self.rows.start + first, self.rows.start + last)
        images = self.scan.projections.read(views, wanted).astype(np.float32)
        self._normalise(images, part)
        bad = ~(images > 0) if self.minus_log else ~np.isfinite(images)
        bad |= ~np.isfinite(images)
        own = bad & ~self.dead[part]
        counts = own.sum(axis=(1, 2))
        self._refuse_blank(counts, views, images[0].size)
        if repairs is not None:
            repairs.count(counts, views, images[0].size)
        fill(images, bad | self.dead[part])
        if self.minus_log:
            np.log(images, out=images)
            np.negative(images, out=images)
        return images

    def _normalise(self, images: Float32, part: slice) -> None:
        if self.dark is not None:
            images -= self.dark[part]
        elif self.offset:
            images -= np.float32(self.offset)
        if self.beam is not None:
            images /= self.beam[part]
        if self.air:
            images /= self._beside(images)

    def _beside(self, images: Float32) -> Float32:
        """``(view, 1, column)`` the beam across a view: a line between its means at either side."""
        width = images.shape[2]
        sides = [images[:, :, edge] for edge in (slice(0, self.air), slice(width - self.air, width))]
        left, right = (np.nanmedian(side, axis=(1, 2)).astype(np.float64) for side in sides)
        if not ((left > 0) & (right > 0)).all():
            raise InputError(
                "there is no beam beside the specimen in some view",
                where="--air",
                fix="give fewer columns, or 0",
            )
        across = np.linspace(0.0, 1.0, width)
        line = left[:, None] * (1 - across) + right[:, None] * across
        return line[:, None].astype(np.float32)

    def _refuse_blank(self, counts: Int64, views: Int64, pixels: int) -> None:
        blank = views[counts > _MOST_BAD * pixels]
        if len(blank):
            places = self.scan.views[blank]
            raise InputError(
                f"more than half of the pixels are not above the darks in view {listed(places)}"
                if self.minus_log
                else f"more than half of the pixels are not finite in view {listed(places)}",
                path=self.scan.path,
                fix=f"leave blank views out with --exclude {places[0] + 1}",
            )


def make_correction(scan: Scan, options: ScanOptions) -> Correction:
    """What the images of a scan need; flats and darks are read.

    Raises
    ------
    InputError
        If flats are no brighter than darks, there are no flats and the images are no transmission, or there
        are no such rows.
    """
    rows = chosen_rows(scan, options)
    width = scan.shape[2]
    if 2 * options.air > width:
        raise InputError(
            f"{options.air} is more than half of the {width} columns", where="--air", fix="give fewer"
        )
    dark = None if scan.darks is None else mean_image(scan.darks, rows)
    notes: list[str] = []
    warnings: list[str] = []
    beam, dead = None, np.zeros((rows.stop - rows.start, width), bool)
    if scan.flats is not None:
        flat = mean_image(scan.flats, rows)
        beam, dead = _beam(flat, dark, scan)
        if dark is None:
            warnings.append("there are no darks: 0 is taken for no beam")
        if dead.any():
            warnings.append(
                f"{int(dead.sum())} pixels have no beam (the flats are no brighter than the darks):"
                f" they take the"
                " values of their neighbours"
            )
    minus_log, offset = options.minus_log, 0.0
    if scan.flats is None and minus_log:
        minus_log, told = _is_transmission(scan, rows)
        warnings.append(told)
    if scan.flats is None and dark is None and not minus_log:
        offset = _offset(scan, rows)
        if offset:
            notes.append(f"grey values begin at {offset:g}, which is subtracted as their offset")
    return Correction(
        scan, rows, dark, beam, dead, offset, minus_log, options.air, tuple(notes), tuple(warnings)
    )


def chosen_rows(scan: Scan, options: ScanOptions) -> slice:
    """The rows that are used; `InputError` if there are no such rows, or fewer than one binned."""
    rows = scan.shape[1]
    if options.rows and len(options.rows) != 2:
        raise InputError(
            "takes two numbers", where="--rows", fix="give the first row and the one after the last"
        )
    first, last = options.rows or (0, rows)
    if not 0 <= first < last <= rows:
        raise InputError(
            f"rows {first} to {last} are not among the {rows} of the detector",
            where="--rows",
            fix=f"give two numbers from 0 to {rows}, the smaller one first",
        )
    if min(last - first, scan.shape[2]) < options.binning:
        raise InputError(
            f"{options.binning} is more than the {last - first} rows or {scan.shape[2]} columns",
            where="--binning",
            fix="bin less",
        )
    return slice(first, last)


def mean_image(images: Frames, rows: slice) -> Float32:
    """``(row, column)`` the mean of flats or darks; `InputError` if a pixel has no finite mean."""
    total = np.zeros((rows.stop - rows.start, images.shape[2]))
    for views in blocks(images.shape, images.dtype):
        total += images.read(views, rows).sum(axis=0, dtype=np.float64)
    mean = total / images.shape[0]
    if not np.isfinite(mean).all():
        raise InputError("flats or darks hold values that are not finite", path=images.files[0])
    return mean.astype(np.float32)


def blocks(shape: tuple[int, int, int], dtype: np.dtype[Any], size_bytes: int = _BLOCK_BYTES) -> list[Int64]:
    """Views in blocks of about so many bytes, as float32 or as stored, whichever is more."""
    one = max(1, shape[1] * shape[2] * max(dtype.itemsize, 4))
    count = max(1, size_bytes // one)
    return [np.arange(first, min(first + count, shape[0])) for first in range(0, shape[0], count)]


def _beam(flat: Float32, dark: Float32 | None, scan: Scan) -> tuple[Float32, NDArray[np.bool_]]:
    """Flat less dark, 1 where there is none, and where that is."""
    beam = flat if dark is None else flat - dark
    level = float(np.median(beam))
    dead = beam <= _LEAST_BEAM * max(level, 0.0)
    if level <= 0 or dead.mean() > _MOST_DEAD:
        raise InputError(
            f"the flats are no brighter than the darks in {100 * float(dead.mean()):.0f} % of the pixels",
            path=scan.path,
            fix="check that --flats and --darks are not exchanged",
        )
    return np.where(dead, np.float32(1.0), beam), dead


def fill(images: Float32, bad: NDArray[np.bool_]) -> None:
    """Give pixels ``bad (view, row, column)`` the value of the nearest good one in the image, in place."""
    views, rows, columns = np.nonzero(bad)
    for row, column in _NEAR:  # nearly all have a good one near; the nearest of all takes longer to find
        if not len(views):
            return
        r = np.clip(rows + row, 0, images.shape[1] - 1)
        c = np.clip(columns + column, 0, images.shape[2] - 1)
        good = ~bad[views, r, c] & (r == rows + row) & (c == columns + column)
        images[views[good], rows[good], columns[good]] = images[views[good], r[good], c[good]]
        views, rows, columns = views[~good], rows[~good], columns[~good]
    _fill_holes(images, bad, np.unique(views))


def _fill_holes(images: Float32, bad: NDArray[np.bool_], views: Int64) -> None:
    """The same for some views, whose holes are wide."""
    from scipy.ndimage import distance_transform_edt

    for view in views.tolist():
        nearest = distance_transform_edt(bad[view], return_distances=False, return_indices=True)
        places = tuple(axis[bad[view]] for axis in nearest)
        images[view][bad[view]] = images[view][places]


def _sample(scan: Scan, rows: slice, most: int = _LOOKED_AT) -> Float32:
    """A few images spread over the scan."""
    views = np.unique(np.linspace(0, scan.shape[0] - 1, most).round().astype(np.int64))
    return scan.projections.read(views, rows).astype(np.float32)


def _is_transmission(scan: Scan, rows: slice) -> tuple[bool, str]:
    """Whether images without flats are transmission, of which the logarithm is taken, and what is told of it.

    `InputError` if they may be counts, which mean nothing without flats.
    """
    images = _sample(scan, rows)
    finite = images[np.isfinite(images)]
    if finite.size and scan.projections.dtype.kind == "f":
        low, air = np.percentile(finite, [0.1, 99.0])
        if low > _LEAST_TRANSMISSION and _AIR_FROM < air < _AIR_TO and np.median(finite) > 0:
            return True, (
                f"there are no flats, and the brightest pixels are at {air:.3g}: the images are taken to be"
                " transmission; give --no-minus-log if they are sums along rays"
            )
    if scan.kind.startswith("MRC"):
        return False, (
            "there are no flats: the images are taken to be sums along rays, without a logarithm; give"
            " --flats if"
            " they are counts of a beam that is absorbed"
        )
    raise InputError(
        "there are no flats, so counts cannot become projections",
        path=scan.path,
        fix="give --flats, or --no-minus-log if the images are sums along rays",
    )


def _offset(scan: Scan, rows: slice) -> float:
    """What integer grey values begin at where they go below zero; 0 for all others.

    Some microscopes store unsigned numbers as signed ones, less 32,768 or so.
    """
    if scan.projections.dtype.kind != "i":
        return 0.0
    lowest = float(_sample(scan, rows, _OFFSET_VIEWS).min())
    return lowest if lowest < 0 else 0.0
