"""Particles that are in a table more than once, and halves of the particles that keep them together.

A copy in the other half agrees with the first in its noise too, so that the halves seem to agree to where
there is nothing but noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.io.particle_table import ParticleTable
from manyviews.metrics.halves import together
from manyviews.metrics.neighbours import first_of_group, near_pairs

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

KINDS = ("", "the same image of the same stack", "the same pixels", "the same place of a micrograph")
_SAME_IMAGE, _SAME_PIXELS, _SAME_PLACE = range(1, len(KINDS))
_NEAR = 0.2  # of the particle's diameter
_MOST_AT_A_PLACE = 4  # particles, on average
_SAME_SIGNS = 0.05  # of the sums' root mean square: what rounding to small whole numbers makes
_MICROGRAPH = ("rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY")
_MICROGRAPH_PIXELS = ("rlnMicrographPixelSize", "rlnMicrographOriginalPixelSize")


@dataclass(frozen=True)
class Copies:
    """Of each particle ``(N,)`` the first that it is a copy of, itself mostly, and why, one of `KINDS`.

    ``warnings`` are sentences on what was not believed.
    """

    of: Int64
    kind: Int64
    warnings: tuple[str, ...] = ()

    @property
    def rows(self) -> Int64:
        """The particles that are copies of an earlier one."""
        return np.flatnonzero(self.of != np.arange(len(self.of)))


def find_copies(table: ParticleTable, diameter: float, looked: Int64, signs: Float64) -> Copies:
    """Particles with the same image, the same pixels, or from the same place of a micrograph.

    Parameters
    ----------
    diameter
        Of the particle, angstrom: a fifth of it apart is the same place.
    looked, signs
        ``(n,)`` the particles whose pixels are known, and ``(n, k)`` sums that tell images apart
        (`manyviews.particles.images.look.Look`).
    """
    count = len(table)
    placed, warnings = _believable(_same_place(table, diameter), count)
    found = (_same_image(table), looked[near_pairs(signs, _tolerance(signs))], placed)
    kind = np.full(count, len(KINDS))
    for number, pairs in enumerate(found, start=1):
        np.minimum.at(kind, pairs.ravel(), number)
    return Copies(
        first_of_group(np.concatenate(found), count), np.where(kind == len(KINDS), 0, kind), warnings
    )


def _believable(pairs: Int64, count: int) -> tuple[Int64, tuple[str, ...]]:
    """Pairs from one place, unless there are hardly any places: then the coordinates are made up."""
    if len(np.unique(first_of_group(pairs, count))) * _MOST_AT_A_PLACE >= count:
        return pairs, ()
    told = (
        f"{len(np.unique(pairs))} particles lie on one another by their coordinates (rlnCoordinateX, "
        "rlnCoordinateY), which are not believed"
    )
    return pairs[:0], (told,)


def _same_image(table: ParticleTable) -> Int64:
    """``(pairs, 2)`` particles that are the same section of the same stack."""
    order = np.lexsort((np.arange(len(table)), table.section, table.stack_index))
    same = (np.diff(table.section[order]) == 0) & (np.diff(table.stack_index[order]) == 0)
    return np.stack([order[:-1][same], order[1:][same]], axis=1)


def _tolerance(signs: Float64) -> float:
    return (
        _SAME_SIGNS * float(np.sqrt(np.mean(np.sum(signs**2, axis=1) / signs.shape[1])))
        if len(signs)
        else 0.0
    )


def _same_place(table: ParticleTable, diameter: float) -> Int64:
    """``(pairs, 2)`` particles of one micrograph that are less than a part of the diameter apart."""
    if not all(label in table.extra for label in _MICROGRAPH):
        return np.zeros((0, 2), np.int64)
    names, *columns = (table.extra[label] for label in _MICROGRAPH)
    places = np.array([[_number(text) for text in column] for column in columns]).T
    places *= _micrograph_pixels(table)[:, None]
    if table.shifts is not None:
        places = places - table.shifts  # what centres the image is where its particle is not
    known = np.flatnonzero(np.isfinite(places).all(axis=1))
    _, micrograph = np.unique(np.array(names)[known], return_inverse=True)
    near = _NEAR * diameter
    points = np.column_stack([places[known], 2 * near * micrograph.ravel()])  # apart from one to the next
    return known[near_pairs(points, near)]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _micrograph_pixels(table: ParticleTable) -> Float64:
    """``(N,)`` pixel size of the micrographs in angstrom, that of the images where nothing tells it."""
    sizes = table.per_particle("pixel_size")
    for group, optics in enumerate(table.optics):
        extra = dict(optics.extra)
        told = [_number(extra[label]) for label in _MICROGRAPH_PIXELS if label in extra]
        known = [size for size in told if size > 0]
        if known:
            sizes[table.optics_index == group] = known[0]
    return sizes


def places_in_halves(of: Int64, rows: Int64, halves: Int64 | None = None) -> Int64:
    """Numbers for particles, the even and the odd of which are halves that keep copies together.

    Every particle whose row has the right parity keeps it as its number, so that a run with copies, or
    without some rows, goes nearly the way of one with all of them. There may be numbers that nobody has.

    Parameters
    ----------
    of
        ``(K,)`` the first particle that each is a copy of, itself mostly.
    rows
        ``(K,)`` their rows in the whole table, ascending.
    halves
        ``(K,)`` 0 or 1, the half that each should be in; left out: even and odd rows.
    """
    half = rows % 2 if halves is None else halves
    wanted = together(half, of)
    numbers = np.where(wanted == rows % 2, rows, -1)
    for number in range(2):
        movers = np.flatnonzero((numbers < 0) & (wanted == number))
        free = np.setdiff1d(np.arange(number, int(rows[-1]) + 1 + 2 * len(movers), 2), numbers)
        numbers[movers] = free[: len(movers)]
    return numbers
