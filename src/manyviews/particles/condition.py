"""The condition job: how badly images in known poses determine their volume, by resolution."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.geometry.poses import euler_to_matrices
from manyviews.io.particle_images import ParticleImages
from manyviews.io.particle_table import ParticleTable
from manyviews.jobs.run import Job, JobResult
from manyviews.options import RunOptions, check_options
from manyviews.parallel.world import World
from manyviews.particles.fixed_poses.condition_report import (
    JSON_FILE,
    PICTURES,
    TABLE_FILE,
    sections,
    write_condition,
)
from manyviews.particles.fixed_poses.objective import KnownPoses
from manyviews.particles.fixed_poses.spectrum import PRECONDITIONERS, Spectrum, spectrum
from manyviews.particles.grey_levels import spread_over
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.images.own_images import own_images
from manyviews.particles.opening import JobKind, start_particle_job
from manyviews.particles.options import ConditionOptions, ParticleOptions
from manyviews.particles.plan import fourier_radius, load_table, resolve_diameter
from manyviews.particles.selection import FILES, select_particles

RESULTS = (TABLE_FILE, JSON_FILE, *FILES)
KIND = JobKind("particles condition", RESULTS, PICTURES, sections)
_COARSEST_RADIUS = 4


@dataclass(frozen=True)
class ConditionPlan:
    """What a run does: radii in Fourier pixels, rising, the last being ``radius``; lengths in angstrom."""

    options: ConditionOptions
    box: int
    pixel_size: float
    diameter: float
    radius: int
    radii: tuple[int, ...]

    def record(self) -> dict[str, Any]:
        """For ``run.toml``: what changes the result."""
        given = self.options
        return {"diameter": self.diameter, "radii": list(self.radii), "count": given.count,
                "damping": given.damping, "probes": given.probes, "products": given.products,
                "seed": given.seed}  # fmt: skip


def resolve_condition(options: ConditionOptions, table: ParticleTable, box: int) -> ConditionPlan:
    """Resolve every default for particles in images of ``box`` pixels, before any image is read.

    Raises
    ------
    InputError
        If the table holds no poses, or options and data do not go together.
    """
    check_options(options)
    if table.angles is None:
        raise InputError(
            "the particles have no poses, on which the condition number depends",
            fix='give a table that has them, or find them with "manyviews particles abinitio"',
        )
    if options.device == "cuda":
        raise InputError("known poses run on the CPU", where="--device", fix="give --device cpu")
    side = box * table.pixel_size
    diameter = resolve_diameter(options.diameter, side)
    radius = fourier_radius(options.resolution, box, table.pixel_size)
    wanted = (
        np.linspace(_COARSEST_RADIUS, radius, options.resolutions) if options.resolutions > 1 else [radius]
    )
    radii = tuple(sorted({round(float(value)) for value in wanted}))
    return ConditionPlan(options, box, table.pixel_size, diameter, radius, radii)


def condition(
    particles: ParticleOptions, options: ConditionOptions, run: RunOptions, *, world: World | None = None
) -> JobResult:
    """Find condition numbers at several resolutions, without and with each preconditioner.

    Parameters are as of `manyviews.particles.reconstruct.reconstruct`.

    Raises
    ------
    InputError
        If anything the user gave cannot be used.
    """
    began = time.monotonic()
    table = load_table(particles)
    plan = resolve_condition(options, table, ParticleImages(table).box)
    with start_particle_job(
        KIND, particles, table, options, run,
        record=plan.record(), seed=options.seed, world=world, began=began,
    ) as job:  # fmt: skip
        if job.finished:
            return job.result()
        chosen = select_particles(job, table, plan.diameter, replaces=False)
        some = spread_over(len(chosen.order), min(options.count or len(chosen.order), len(chosen.order)))
        with contextlib.ExitStack() as stack:
            images, rotations = _images(stack, job, chosen.table, plan, chosen.mend, some)
            found = list(_spectra(job, images, rotations, plan))
        job.begin()
        chosen.write(job.folder)
        figures = write_condition(job.folder, found, plan.box * plan.pixel_size)
        return job.finish({"particles": len(images), **figures, **chosen.summary()})


def _images(
    stack: contextlib.ExitStack,
    job: Job,
    table: ParticleTable,
    plan: ConditionPlan,
    mend: Any,
    some: NDArray[np.int64],
) -> tuple[FourierImages, NDArray[np.float64]]:
    """The images that count and their rotations; only transfer functions and noise matter, not shifts."""
    images, _ = own_images(stack, job, table, plan, plan.options, mend)
    assert table.angles is not None
    if len(some) == len(images):
        return images, euler_to_matrices(table.angles)
    return images.select(some), euler_to_matrices(table.angles[some])


def _spectra(
    job: Job, images: FourierImages, rotations: NDArray[np.float64], plan: ConditionPlan
) -> list[Spectrum]:
    given, found = plan.options, []
    for radius in plan.radii:
        # coefficients of the images play no part, so that there is no need to centre them
        problem = KnownPoses(images.crop(radius), rotations, damping=given.damping)
        for name in PRECONDITIONERS:
            one = spectrum(problem, name, products=given.products, probes=given.probes, seed=given.seed)
            found.append(one)
            least = "" if one.converged else "at least "
            resolution = plan.box * plan.pixel_size / radius
            job.say(f"{resolution:.3g} A, {name}: condition number {least}{one.condition:.3g}")
    return found
