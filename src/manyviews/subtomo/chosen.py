"""Which particles count, and the half that each belongs to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.geometry.poses import euler_to_matrices
from manyviews.io.tables import write_table
from manyviews.jobs.run import Job
from manyviews.parallel.world import World
from manyviews.subtomo.candidates.priors import OrientationPriors
from manyviews.subtomo.duplicates import DUPLICATES_FILE, Duplicates
from manyviews.subtomo.inputs import Subtomograms
from manyviews.subtomo.load import Faulty
from manyviews.subtomo.plan import Plan
from manyviews.subtomo.report import ASIDE_FILE
from manyviews.subtomo.selection import duplicates_of, make_halves

Int64 = NDArray[np.int64]

_LEAST_IN_A_HALF = 1
_SHOWN = 3
_PRIOR_SIGMA = 10.0  # degrees, of priors without one


@dataclass(frozen=True)
class Chosen:
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


def choose_subtomograms(
    world: World, given: Subtomograms, plan: Plan, kept: Int64, faulty: list[Faulty]
) -> tuple[Chosen, NDArray[np.bool_]]:
    """Leave out what cannot be used and what was picked twice; deal the rest into halves.

    ``kept`` are the particles of this process that were read, as places in the table; ``faulty`` those that
    were not. All ranks make this call.

    Returns
    -------
    tuple
        Those that count, and which of ``kept`` are in it.
    """
    table = given.table
    gathered = world.gather([(str(one.number), one.reason) for one in faulty])
    bad = sorted((Faulty(int(number), str(reason)) for part in gathered for number, reason in part),
                 key=lambda one: one.number)  # fmt: skip
    usable = np.ones(len(table), dtype=bool)
    usable[[one.number for one in bad]] = False
    distance = plan.options.min_distance
    duplicates = duplicates_of(table, distance) if distance > 0 else None
    if duplicates is not None:
        usable &= duplicates.kept
    places = np.flatnonzero(usable)
    if len(places) < 2 * _LEAST_IN_A_HALF:
        why = f"; subtomogram {bad[0].number + 1}: {bad[0].reason}" if bad else ""
        raise InputError(f"no more than {len(places)} of {len(table)} subtomograms can be used{why}")
    chosen = table.select(places)
    halves = make_halves(
        chosen,
        plan.options.halves,
        min_distance=plan.pixel_size,  # nearer than a voxel: one particle twice
        box_side=plan.box * plan.pixel_size,
        seed=plan.options.seed,
    )
    place = np.full(len(table), -1)
    place[places] = np.arange(len(places))
    inside = place[kept] >= 0
    warnings = (*_told(bad, len(table)), *halves.warnings)
    if duplicates is not None and duplicates.warning():
        warnings = (*warnings, duplicates.warning())
    return Chosen(places, place[kept][inside], halves.half, tuple(bad), duplicates, warnings), inside


def chosen_priors(given: Subtomograms, chosen: Chosen, plan: Plan) -> OrientationPriors | None:
    """What the table expects of the orientations of this process's particles; None where it says nothing."""
    table, options = given.table, plan.options
    if table.prior_angles is None or options.ignore_priors or not np.isfinite(table.prior_angles).any():
        return None
    rows = chosen.places[chosen.own]
    angles = table.prior_angles[rows]
    told = np.full(angles.shape, np.nan) if table.prior_sigmas is None else table.prior_sigmas[rows]
    if options.prior_sigma is not None:
        return OrientationPriors(angles, np.full(angles.shape, options.prior_sigma))
    # 0 is RELION's way of saying that a prior is not used
    sigmas = np.where(np.isfinite(told) & (told > 0), told, _PRIOR_SIGMA)
    return OrientationPriors(angles, sigmas)


def known_poses(
    given: Subtomograms, chosen: Chosen, plan: Plan
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Rotations and shifts in voxels that the table gives this process's particles; None where nobody asks.

    `InputError` if they are asked for and the table has none.
    """
    if not plan.options.known_poses:
        return None
    table = given.table
    if table.angles is None:
        raise InputError("the table has no poses", where="--known-poses", fix="leave it out")
    rows = chosen.places[chosen.own]
    return euler_to_matrices(table.angles[rows]), table.shifts[rows] / plan.pixel_size


def write_left_out(job: Job, chosen: Chosen) -> None:
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
    return (
        f"{len(bad)} of {count} subtomograms cannot be used and are set aside ({ASIDE_FILE}): {first}{more}",
    )
