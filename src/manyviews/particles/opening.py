"""How jobs over particles begin: the folder held, what is doubtful in the table told, the plan made anew."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from manyviews.io.particle_table import ParticleTable
from manyviews.jobs.run import Job, start_job
from manyviews.options import MachineOptions, RunOptions
from manyviews.parallel.world import World
from manyviews.particles.images.own_images import fingerprints
from manyviews.particles.options import ParticleOptions
from manyviews.particles.results import PARTICLES_FILE, far_from_images
from manyviews.particles.selection import Selection
from manyviews.report.sections import Sections
from manyviews.runs.toml import TomlValue

P = TypeVar("P")


@dataclass(frozen=True)
class JobKind:
    """What a job is called, leaves in its folder and shows on its page: see `start_job`."""

    name: str
    results: tuple[str, ...]
    pictures: tuple[str, ...]
    sections: Sections


@contextlib.contextmanager
def start_particle_job(
    kind: JobKind,
    particles: ParticleOptions,
    table: ParticleTable,
    machine: MachineOptions,
    run: RunOptions,
    *,
    record: Mapping[str, TomlValue],
    inputs: Mapping[str, str] | None = None,
    seed: int | None = None,
    world: World | None = None,
    began: float | None = None,
) -> Iterator[Job]:
    """Hold a folder for a job over the particles of a table, and say what is doubtful in that.

    ``inputs`` are fingerprints of what the job reads beside table and images; all else is as of `start_job`,
    with its errors.
    """
    with start_job(
        kind.name,
        run,
        machine,
        record=record,
        inputs={**fingerprints(particles, table), **(inputs or {})},
        results=kind.results,
        pictures=kind.pictures,
        sections=kind.sections,
        seed=seed,
        world=world,
        began=began,
    ) as job:
        if not job.finished:
            job.warn(*table.warnings)
            if job.speaks and PARTICLES_FILE in kind.results:
                job.warn(*far_from_images(table, job.folder))
        yield job


def planned_for(chosen: Selection, resolve: Callable[[int], P]) -> P:
    """The plan for the particles that were chosen; ``resolve`` makes one for numbers below a given one.

    `InputError` if too few are left.
    """
    resolve(len(chosen.order))
    return resolve(chosen.largest + 1)
