"""The reconstruction job: from particles with known poses to a map and how far it can be trusted."""

from __future__ import annotations

import contextlib
import time

import numpy as np
import torch

from manyviews.io.particle_images import ParticleImages
from manyviews.jobs.relion import postprocess_command
from manyviews.jobs.run import JobResult
from manyviews.options import RunOptions
from manyviews.parallel.world import World
from manyviews.particles.estimate import ADDING, expect_reconstruction
from manyviews.particles.fitted import write_fitted_particles
from manyviews.particles.images.own_images import own_images
from manyviews.particles.known_poses import (
    RESULTS,
    reconstruct_as_planned,
    resolve_reconstruction,
    write_reconstruction,
)
from manyviews.particles.opening import JobKind, start_particle_job
from manyviews.particles.options import ParticleOptions, ReconstructOptions
from manyviews.particles.plan import load_table
from manyviews.particles.report import PICTURES, sections
from manyviews.particles.selection import select_particles

KIND = JobKind("particles reconstruct", RESULTS, PICTURES, sections)


def reconstruct(
    particles: ParticleOptions, options: ReconstructOptions, run: RunOptions, *, world: World | None = None
) -> JobResult:
    """Make a map and half maps of particles whose poses are in their table; parameters as of `abinitio`.

    Raises
    ------
    InputError
        If anything the user gave cannot be used.
    """
    began = time.monotonic()
    table = load_table(particles)
    plan = resolve_reconstruction(options, table, ParticleImages(table).box)
    with start_particle_job(
        KIND, particles, table, options, run, record=plan.record(), world=world, began=began
    ) as job:
        if job.finished:
            return job.result()
        job.warn(*plan.warnings)
        expect_reconstruction(job, plan)
        chosen = select_particles(job, table, plan.diameter, replaces=options.remove_outliers)
        halves, moved = chosen.with_halves(plan.halves)
        job.warn(*moved)
        plan = resolve_reconstruction(options, halves, plan.box)
        with contextlib.ExitStack() as stack:
            expect_reconstruction(job, plan)
            images, _ = own_images(stack, job, halves, plan, options, chosen.mend)
            job.begin()
            job.phase(f"reconstruct: adding {len(images)} images to {plan.radius} Fourier pixels", ADDING)
            found = reconstruct_as_planned(images, plan)
            everyone, shifts = np.arange(len(images)), plan.shifts / plan.pixel_size
            write_fitted_particles(
                job, images, everyone, chosen.order, plan.rotations, shifts, torch.from_numpy(found.volume),
                plan.diameter,
            )  # fmt: skip
        chosen.write(job.folder)
        summary = {**write_reconstruction(job.folder, plan, found), **chosen.summary()}
        job.say(f"RELION finishes the half maps: {postprocess_command(job.folder, plan.pixel_size)}")
        return job.finish(summary)
