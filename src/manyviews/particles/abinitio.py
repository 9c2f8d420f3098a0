"""The ab initio job: from particle images to a map and their poses, top to bottom."""

from __future__ import annotations

import contextlib
import time

import torch

from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.io.particle_images import ParticleImages
from manyviews.jobs.run import JobResult, start_job
from manyviews.options import RunOptions
from manyviews.parallel.world import SingleWorld, World
from manyviews.particles.check import find_warnings, grey_levels
from manyviews.particles.images.own_images import fingerprints, own_images
from manyviews.particles.methods import METHODS, Particles, check_ranks
from manyviews.particles.options import AbinitioOptions, ParticleOptions
from manyviews.particles.plan import check_reference, load_table, resolve_plan
from manyviews.particles.report import PICTURES, sections
from manyviews.particles.results import RESULTS, far_from_images, write_results


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
            grey = grey_levels(table, ParticleImages(table), plan, torch.get_num_threads())
            job.warn(*find_warnings(table, plan, grey))
        with contextlib.ExitStack() as stack:
            images, numbers = own_images(stack, job, table, plan, options)
            found = METHODS[options.method](job, Particles(plan, images, numbers, symmetry))
        return job.finish(write_results(job.folder, plan, table, found) if job.speaks else {})
