"""Which particles count, and the half that each belongs to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.subtomogram_table import SubtomogramTable
from manyviews.io.tables import write_table
from manyviews.jobs.run import Job
from manyviews.subtomo.duplicates import DUPLICATES_FILE, Duplicates, copies_of, find_duplicates
from manyviews.subtomo.halves import (
    Halves,
    along_filament,
    halves_by_groups,
    halves_by_position,
    halves_of_table,
    shared_noise,
)
from manyviews.subtomo.inputs import Subtomograms
from manyviews.subtomo.load import Faulty
from manyviews.subtomo.plan import Plan
from manyviews.subtomo.report import ASIDE_FILE

Int64 = NDArray[np.int64]

_LEAST_IN_A_HALF = 1
_SHOWN = 3


@dataclass(frozen=True)
class Selection:
    """The particles that count, ``K`` of all.

    Attributes
    ----------
    places
        ``(K,)`` their places in the table, ascending.
    own
        ``(k,)`` those of this process, as places among the K.
    halves
        ``(K,)`` 1 or 2.
    faulty
        Those that cannot be used.
    duplicates
        Which lie too near to others; None where nobody asked.
    warnings
        Sentences for the user.
    """

    places: Int64
    own: Int64
    halves: Int64
    faulty: tuple[Faulty, ...]
    duplicates: Duplicates | None
    warnings: tuple[str, ...]


def select_subtomograms(
    job: Job, given: Subtomograms, plan: Plan, kept: Int64, faulty: list[Faulty]
) -> tuple[Selection, NDArray[np.bool_]]:
    """Leave out what cannot be used and what was picked twice; deal the rest into halves.

    ``kept`` are the particles of this process that were read, as places in the table; ``faulty`` those that
    were not. All ranks make this call.

    Returns
    -------
    tuple
        The selection, and which of ``kept`` are in it.
    """
    table = given.table
    gathered = job.world.gather([[one.number, one.reason] for one in faulty])
    bad = sorted((Faulty(int(number), str(reason)) for part in gathered for number, reason in part),
                 key=lambda one: one.number)  # fmt: skip
    usable = np.ones(len(table), dtype=bool)
    usable[[one.number for one in bad]] = False
    duplicates = _duplicates(table, plan)
    if duplicates is not None:
        usable &= duplicates.kept
    places = np.flatnonzero(usable)
    if len(places) < 2 * _LEAST_IN_A_HALF:
        why = f"; subtomogram {bad[0].number + 1}: {bad[0].reason}" if bad else ""
        raise InputError(f"no more than {len(places)} of {len(table)} subtomograms can be used{why}")
    chosen = table.select(places)
    halves = _halves(chosen, plan)
    place = np.full(len(table), -1)
    place[places] = np.arange(len(places))
    inside = place[kept] >= 0
    warnings = (*_told(bad, len(table)), *halves.warnings, *_shared(chosen, halves.half, plan))
    if duplicates is not None and duplicates.warning():
        warnings = (*warnings, duplicates.warning())
    return Selection(
        places, place[kept][inside], halves.half, tuple(bad), duplicates, warnings
    ), inside


def write_selection(job: Job, chosen: Selection) -> None:
    """List what was left out."""
    if chosen.faulty:
        rows = ((one.number + 1, one.reason) for one in chosen.faulty)
        write_table(job.folder / ASIDE_FILE, ("particle", "reason"), rows)
    if chosen.duplicates is not None and not chosen.duplicates.kept.all():
        chosen.duplicates.write(job.folder / DUPLICATES_FILE)


def _told(bad: list[Faulty], count: int) -> tuple[str, ...]:
    if not bad:
        return ()
    first = "; ".join(f"subtomogram {one.number + 1}: {one.reason}" for one in bad[:_SHOWN])
    more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    return (f"{len(bad)} of {count} subtomograms cannot be used and are set aside ({ASIDE_FILE}): {first}{more}",)


def _tomogram(table: SubtomogramTable) -> Int64:
    return np.zeros(len(table), np.int64) if table.tomogram_index is None else table.tomogram_index


def _duplicates(table: SubtomogramTable, plan: Plan) -> Duplicates | None:
    distance = plan.options.min_distance
    if distance <= 0:
        return None
    if table.coordinates is None:
        raise InputError(
            "the table does not tell where the particles lie", where="--min-distance", fix="leave it out"
        )
    return find_duplicates(table.coordinates - table.shifts, _tomogram(table), distance, table.score)


def _halves(table: SubtomogramTable, plan: Plan) -> Halves:
    by, seed = plan.options.halves, plan.options.seed
    tomogram = _tomogram(table)
    positions = None if table.coordinates is None else table.coordinates - table.shifts
    of = np.arange(len(table))
    if positions is not None:
        of = copies_of(positions, tomogram, plan.pixel_size)  # nearer than a voxel: one particle twice
    if by == "table":
        return halves_of_table(table.half, of)
    if by == "particle":
        return halves_by_groups(by, np.arange(len(table)), of, seed)
    if by == "tomogram":
        return halves_by_groups(by, table.tomogram_index, of, seed)
    groups = table.parent if by == "parent" else table.filament
    if groups is not None:
        groups = np.unique(np.column_stack([tomogram, groups]), axis=0, return_inverse=True)[1].ravel()
    if by != "position":
        return halves_by_groups(by, groups, of, seed)
    if groups is None or positions is None:
        raise InputError(
            "the table does not tell filaments and positions", where="--halves position",
            fix="give --halves particle",
        )  # fmt: skip
    stretch = plan.box * plan.pixel_size
    return halves_by_position(groups, along_filament(positions, groups), stretch, of, seed)


def _shared(table: SubtomogramTable, half: Int64, plan: Plan) -> tuple[str, ...]:
    if table.coordinates is None:
        return ()
    positions = table.coordinates - table.shifts
    told = shared_noise(positions, _tomogram(table), half, plan.box * plan.pixel_size)
    return (told,) if told else ()
