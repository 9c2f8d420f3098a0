"""Halves and duplicates of a table of subtomograms."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.subtomogram_table import SubtomogramTable
from manyviews.subtomo.align_options import HalvesBy
from manyviews.subtomo.duplicates import Duplicates, copies_of, find_duplicates
from manyviews.subtomo.halves import (
    Halves,
    along_filament,
    halves_by_groups,
    halves_by_position,
    halves_of_table,
    shared_noise,
)

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_TRACK = "rlnHelicalTrackLengthAngst"
_ONE_PLACE = "the table has all particles at one place, taken for not told: copies are not kept together"


def positions_of(table: SubtomogramTable) -> Float64 | None:
    """``(N, 3)`` angstrom, where the particles are; None where the table does not tell.

    Tables that must have columns for it (Dynamo, motive lists) hold one place for all where it is not known.
    """
    place = table.coordinates
    if place is not None and len(place) > 1 and (place == place[0]).all():
        return None
    return table.positions


def duplicates_of(table: SubtomogramTable, min_distance: float, score: Float64 | None = None) -> Duplicates:
    """Particles within ``min_distance`` angstrom of a better one; ``score`` is the table's if left out.

    `InputError` if the table does not tell where the particles are.
    """
    positions = positions_of(table)
    if positions is None:
        raise InputError(
            "the table does not tell where in the tomograms the particles are",
            where="--min-distance",
            fix="leave it out, or give a table with coordinates",
        )
    return find_duplicates(positions, _tomogram(table), min_distance, table.score if score is None else score)


def make_halves(
    table: SubtomogramTable,
    by: HalvesBy,
    *,
    min_distance: float = 0.0,
    stretch: float | None = None,
    box_side: float | None = None,
    seed: int = 0,
) -> Halves:
    """Halves of the particles of a table.

    Parameters
    ----------
    by
        ``particle``; ``filament``, ``tomogram`` or ``parent``, none of which is cut; ``position``, alternate
        stretches along each filament; ``table``, those that the table gives.
    min_distance
        Angstrom: particles nearer than that are copies, which are in one half; 0: none are.
    stretch
        Length of a stretch in angstrom; None: each filament is cut in its middle.
    box_side
        Of the subtomograms, angstrom, to warn where boxes of both halves overlap; None: no warning.
    seed
        Of the run.

    Raises
    ------
    InputError
        If the table does not tell what is asked for, or the particles cannot be halved so.
    """
    positions, tomogram = positions_of(table), _tomogram(table)
    of = np.arange(len(table))
    if positions is not None:
        of = copies_of(positions, tomogram, min_distance)
    if by == "table":
        made = halves_of_table(table.half, of)
    elif by == "position":
        filament = _groups(table, "filament")
        if filament is None:  # refused in the words of that
            return halves_by_groups("filament", None, of, seed)
        made = halves_by_position(filament, _track(table, filament), stretch, of, seed)
    else:
        made = halves_by_groups(by, _groups(table, by), of, seed)
    if positions is None and table.positions is not None:
        return Halves(made.half, (*made.warnings, _ONE_PLACE))
    if positions is None or box_side is None:
        return made
    told = shared_noise(positions, tomogram, made.half, box_side)
    return Halves(made.half, (*made.warnings, told)) if told else made


def _tomogram(table: SubtomogramTable) -> Int64:
    return np.zeros(len(table), np.int64) if table.tomogram_index is None else table.tomogram_index


def _groups(table: SubtomogramTable, by: str) -> Int64 | None:
    """``(N,)`` a number for each group in all tomograms; what is in none is a group of its own."""
    each = np.arange(len(table))
    if by == "particle":
        return each
    if by == "tomogram":
        return table.tomogram_index
    number = table.filament if by == "filament" else table.parent
    if number is None:
        return None
    alone = np.where(number == 0, each + 1, 0)
    _, group = np.unique(np.stack([_tomogram(table), number, alone]), axis=1, return_inverse=True)
    return np.asarray(group.ravel(), dtype=np.int64)


def _track(table: SubtomogramTable, filament: Int64) -> Float64:
    """Angstrom along the filament, as the table tells it, else from the positions."""
    texts = table.extra.get(_TRACK)
    if texts is not None:
        told = np.array([_number(text) for text in texts])
        if np.isfinite(told).all():
            return told
    if table.positions is None:
        raise InputError(
            f"the table tells neither {_TRACK} nor where in the tomograms the particles are",
            where="--halves position",
            fix="give --halves filament, or a table that tells it",
        )
    return along_filament(table.positions, filament)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
