"""The ab initio job: from particle images to a map and their poses, top to bottom."""

from __future__ import annotations

import contextlib
import time

import numpy as np
from numpy.typing import NDArray

from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.io.particle_images import ParticleImages
from manyviews.jobs.run import Job, JobResult, start_job
from manyviews.options import RunOptions
from manyviews.parallel.world import SingleWorld, World
from manyviews.particles.grey_levels import (
    GreyLevels,
    find_warnings,
    grey_levels,
    shell_ratios,
    spread_over,
)
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.images.own_images import fingerprints, own_images
from manyviews.particles.methods import METHODS, Particles, check_ranks
from manyviews.particles.options import AbinitioOptions, ParticleOptions
from manyviews.particles.plan import check_reference, load_table, resolve_plan
from manyviews.particles.report import PICTURES, sections
from manyviews.particles.results import RESULTS, far_from_images, write_results
from manyviews.particles.selection import Selection, select_particles


def abinitio(
    particles: ParticleOptions, options: AbinitioOptions, run: RunOptions, *, world: World | None = None
) -> JobResult:
    """Find the structure and the poses of particles from nothing but their images.

    Parameters
    ----------
    particles, options
        What from, and how.
    run
        Where to; the same call on the same folder goes on where an earlier one stopped.
    world
        The processes that share the particles, each of which makes this call; left out: this one alone.

    Raises
    ------
    InputError
        If anything the user gave cannot be used.
    ManyviewsError
        If the iteration diverges or the run is interrupted.
    """
    began = time.monotonic()
    world = world or SingleWorld()
    table = load_table(particles)
    plan = resolve_plan(options, len(table), ParticleImages(table).box, table.pixel_size)
    check_reference(options.reference, plan.box)
    check_ranks(plan, world.size)
    symmetry = symmetry_rotations(options.symmetry)
    with start_job(
        "particles abinitio",
        run,
        options,
        record=plan.record(),
        inputs=fingerprints(particles, table),
        results=RESULTS,
        pictures=PICTURES,
        sections=sections,
        seed=options.seed,
        world=world,
        began=began,
    ) as job:
        if job.finished:
            return job.result()
        job.warn(*table.warnings)
        if job.speaks:
            job.warn(*far_from_images(table, job.folder))
        chosen = select_particles(job, table, plan.diameter, replaces=options.remove_outliers)
        resolve_plan(options, len(chosen.order), plan.box, plan.pixel_size)  # enough are left
        plan = resolve_plan(options, chosen.largest + 1, plan.box, plan.pixel_size)
        with contextlib.ExitStack() as stack:
            images, own = own_images(stack, job, chosen.table, plan, options, chosen.mend, chosen.numbers)
            grey = _grey_levels(job, chosen, images, own)
            job.warn(*find_warnings(chosen.table, plan, grey))
            found = METHODS[options.method](job, Particles(plan, images, chosen.numbers, own, symmetry))
        return job.finish(write_results(job.folder, plan, chosen, found) if job.speaks else {})


def _grey_levels(job: Job, chosen: Selection, images: FourierImages, places: NDArray[np.int64]) -> GreyLevels:
    """Of the images that a check takes them from; all ranks make this call."""
    sample = spread_over(len(chosen.whole))
    own = np.flatnonzero(np.isin(chosen.order[places], sample))
    look = chosen.look.select(np.intersect1d(sample, chosen.order))  # all were looked at
    return grey_levels(look, shell_ratios(images, own, job.world))
