"""Which half each particle goes to: as its table says, by micrograph, or one after the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.particle_table import ParticleTable
from manyviews.jobs.run import Job
from manyviews.metrics.halves import together
from manyviews.particles.options import Halves
from manyviews.particles.selection import Selection, select_particles

Int64 = NDArray[np.int64]

_MICROGRAPH = "rlnMicrographName"


def divide(table: ParticleTable, by: Halves | None) -> tuple[Int64, str]:
    """Half of each particle, 0 or 1, ``(N,)``, and a sentence on how they were divided.

    Raises
    ------
    InputError
        If the table lacks what they are to be divided by.
    """
    rows = np.arange(len(table))
    if by == "table" and table.half is None:
        raise InputError("the table names no halves (rlnRandomSubset)", where="--halves",
                         fix="divide by micrograph or particle")  # fmt: skip
    if table.half is not None and by in ("table", None):
        sizes = np.bincount(table.half, minlength=3)[1:3]
        if sizes.min() > 0:
            return table.half - 1, f"halves as the table has them: {sizes[0]} and {sizes[1]} particles"
        if by == "table":
            raise InputError(
                f"the table has all particles in half {1 + int(sizes.argmax())} (rlnRandomSubset)",
                where="--halves", fix="divide by micrograph or particle",
            )  # fmt: skip
        return rows % 2, "the table has all particles in one half (rlnRandomSubset): divided by particle"
    if by == "micrograph":
        if _MICROGRAPH not in table.extra:
            raise InputError(f"the table names no micrographs ({_MICROGRAPH})", where="--halves",
                             fix="divide by particle")  # fmt: skip
        _, first, group = np.unique(
            np.array(table.extra[_MICROGRAPH]), return_index=True, return_inverse=True
        )
        if len(first) < 2:
            raise InputError("all particles are of one micrograph", where="--halves",
                             fix="divide by particle")  # fmt: skip
        half = together(rows % 2, first[group.ravel()])
        return half, f"{len(first)} micrographs divided into halves of {(half == 0).sum()} and {half.sum()}"
    return rows % 2, "halves by particle, one after the other"


def select_divided(
    job: Job, table: ParticleTable, divided: tuple[Int64, str], diameter: float, *, replaces: bool
) -> Selection:
    """Choose particles as `select_particles` does, their halves and the sentence being those of `divide`."""
    half, told = divided
    job.say(told)
    chosen = select_particles(job, table, diameter, replaces=replaces, halves=half)
    moved = int(np.count_nonzero(chosen.numbers % 2 != half[chosen.order]))
    if moved:
        job.warn(f"{moved} particles were moved to the half that their copies are in")
    return chosen
