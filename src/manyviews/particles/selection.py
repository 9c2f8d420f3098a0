"""Which particles a run works with, in which order, after a look at all of them; what it says and lists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.io.particle_images import ParticleImages
from manyviews.io.particle_table import ParticleTable
from manyviews.io.tables import write_table
from manyviews.jobs.run import Job
from manyviews.metrics.halves import together
from manyviews.particles.copies import KINDS, Copies, find_copies, places_in_halves
from manyviews.particles.images.look import FAULTS, REMAINS, Look, look_at, mend

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

ASIDE_FILE, SPECKS_FILE, COPIES_FILE = "set_aside.csv", "outliers.csv", "copies.csv"
FILES = (ASIDE_FILE, SPECKS_FILE, COPIES_FILE)
LOOKING = "look at images"
_SHOWN = 5


@dataclass(frozen=True)
class Selection:
    """Particles of a table that a run works with.

    Attributes
    ----------
    whole
        The table as it was given; all numbers are rows of it, from 0.
    look, copies
        What was found in the images, and between them.
    order, numbers
        ``(K,)`` the particles in the order of the run, and their numbers in it, ascending: the even and the
        odd ones are the halves. Without copies they are the rows.
    aside
        ``(row, why)`` of the particles that are left out.
    replaces
        Whether specks are replaced, not cut down.
    """

    whole: ParticleTable
    look: Look
    copies: Copies
    order: Int64
    numbers: Int64
    aside: tuple[tuple[int, str], ...]
    replaces: bool

    @classmethod
    def of(
        cls,
        table: ParticleTable,
        look: Look,
        diameter: float,
        *,
        replaces: bool,
        halves: Int64 | None = None,
    ) -> Selection:
        """From a look at particles ``diameter`` angstrom wide; those not looked at are taken to be fit.

        ``halves (N,)``, 0 or 1, are those of the whole table; left out: even and odd rows.
        """
        fit = look.fault == 0
        aside = [
            (int(row), FAULTS[fault]) for row, fault in zip(look.looked, look.fault, strict=True) if fault
        ]
        kept = np.setdiff1d(np.arange(len(table)), look.looked[~fit])
        place = np.zeros(len(table), np.int64)
        place[kept] = np.arange(len(kept))
        found = find_copies(table.select(kept), diameter, place[look.looked[fit]], look.signs[fit])
        numbers = places_in_halves(found.of, kept, None if halves is None else halves[kept])
        order = np.argsort(numbers)
        everyone = Copies(np.arange(len(table)), np.zeros(len(table), np.int64), found.warnings)
        everyone.of[kept], everyone.kind[kept] = kept[found.of], found.kind
        return cls(table, look, everyone, kept[order], numbers[order], tuple(aside), replaces)

    @cached_property
    def table(self) -> ParticleTable:
        """The particles in the order of the run."""
        whole = np.array_equal(self.order, np.arange(len(self.whole)))
        return self.whole if whole else self.whole.select(self.order)

    @property
    def largest(self) -> int:
        """The largest number that a particle may have: rows that nobody has any more count too."""
        return max(len(self.whole) - 1, int(self.numbers[-1]))

    @property
    def speckled(self) -> NDArray[np.bool_]:
        """``(K,)`` whether an image has specks, in the order of the run."""
        found = np.zeros(len(self.whole), bool)
        found[self.look.looked] = self.look.specks > 0
        return found[self.order]

    def with_halves(self, given: Int64) -> tuple[ParticleTable, tuple[str, ...]]:
        """The particles in the order of the run, copies in one half, and what to say of it.

        ``given`` are halves ``(N,)``, 1 or 2, of the whole table: the table's own, if it has some, else odd
        and even particles. Particles whose copies lie in both are moved to one; without halves of the table's
        own all are divided by their numbers.
        """
        table = self.table
        if not len(self.copies.rows):
            return (table if table.half is None else replace(table, half=given[self.order])), ()
        if table.half is None:
            return replace(table, half=self.numbers % 2 + 1), ()
        own = given[self.order] - 1
        place = np.zeros(len(self.whole), np.int64)
        place[self.order] = np.arange(len(self.order))
        half = together(own, place[self.copies.of[self.order]])
        moved = int(np.count_nonzero(half != own))
        told = f"copies lay in both halves: {moved} particles were moved to the half of their copies"
        return replace(table, half=half + 1), (told,) if moved else ()

    def mend(self, images: Float32, places: Int64) -> None:
        """Take the specks out of images of some particles, which are given by their places in `order`."""
        mend(images, self.look.stuck, self.speckled[places], 0.0 if self.replaces else REMAINS)

    def warnings(self) -> Iterator[str]:
        """What the user should know of it."""
        yield from self.copies.warnings
        for why in dict.fromkeys(why for _, why in self.aside):
            yield _counted([row for row, reason in self.aside if reason == why], why, "set aside: ")
        yield from self._of_specks()
        yield from self._of_copies()

    def _of_specks(self) -> Iterator[str]:
        own = np.flatnonzero((self.look.specks > 0) & (self.look.fault == 0))
        done = "replaced by the median around it" if self.replaces else f"cut down to {REMAINS:g}"
        if len(own):
            worst = own[np.argmax(self.look.highest[own])]
            many = f"{len(own)} images have" if len(own) > 1 else "1 image has"
            advice = "" if self.replaces else "; --remove-outliers replaces it by the median around it"
            yield (
                f"{many} pixels that stand out as hot pixels and X-rays do, most in that of particle "
                f"{self.look.looked[worst] + 1}, by {self.look.highest[worst]:.3g} standard deviations of "
                f"the noise: each is {done}{advice}"
            )
        for row, column in self.look.stuck[:_SHOWN].tolist():
            yield (
                f"column {column + 1}, row {row + 1} stands out in the mean of all images, as a hot pixel of "
                "the camera does: it is replaced by the median around it"
            )
        if len(self.look.stuck) > _SHOWN:
            yield f"{len(self.look.stuck) - _SHOWN} more pixels stand out in the mean of all images"

    def _of_copies(self) -> Iterator[str]:
        rows = self.copies.rows
        for kind, what in enumerate(KINDS):
            some = rows[self.copies.kind[rows] == kind]
            if len(some):
                many = f"{len(some)} particles are copies" if len(some) > 1 else "1 particle is a copy"
                first = self.copies.of[some[0]] + 1
                yield (
                    f"{many} of others, from {what} (particle {some[0] + 1} of {first}); copies are kept in "
                    "one half, and count as often as they are there"
                )

    def summary(self) -> dict[str, object]:
        """Key figures by name: only those that are not zero."""
        counts = {
            "particles_set_aside": len(self.aside),
            "images_with_outliers": int(np.count_nonzero((self.look.specks > 0) & (self.look.fault == 0))),
            "copies_of_other_particles": len(self.copies.rows),
        }
        return {name: count for name, count in counts.items() if count}

    def write(self, folder: Path) -> None:
        """List what was found in tables: of each kind one, if there is any."""
        names = self.whole.image_name
        aside = [(row + 1, names(row), why) for row, why in self.aside]
        own = np.flatnonzero(self.look.specks > 0)
        specks = [
            (row + 1, names(row), self.look.specks[at], f"{self.look.highest[at]:.1f}")
            for at, row in zip(own, self.look.looked[own].tolist(), strict=True)
        ]
        copies = [
            (row + 1, names(row), self.copies.of[row] + 1, KINDS[self.copies.kind[row]])
            for row in self.copies.rows.tolist()
        ]
        for name, header, rows in (
            (ASIDE_FILE, ("particle", "image", "reason"), aside),
            (SPECKS_FILE, ("particle", "image", "pixels", "standard_deviations"), specks),
            (COPIES_FILE, ("particle", "image", "copy_of", "from"), copies),
        ):
            if rows:
                write_table(folder / name, header, rows)


def select_particles(
    job: Job, table: ParticleTable, diameter: float, *, replaces: bool, halves: Int64 | None = None
) -> Selection:
    """Look at all images of a table, with all ranks of a job, and tell what was found.

    ``halves`` are as of `Selection.of`.
    """
    everyone = np.arange(len(table))
    job.progress.start(LOOKING, -(-len(table) // job.world.size), 0)
    look = look_at(ParticleImages(table), everyone, diameter, job.world, job.progress.update)
    found = Selection.of(table, look, diameter, replaces=replaces, halves=halves)
    job.warn(*found.warnings())
    return found


def _counted(rows: list[int], why: str, before: str) -> str:
    """Particles of which the same is to be said, the first ones by their number."""
    shown = ", ".join(str(row + 1) for row in rows[:_SHOWN])
    if len(rows) == 1:
        return f"{before}particle {shown} {why}"
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    return f"{before}{len(rows)} particles, each of which {why} ({shown}{more})"
