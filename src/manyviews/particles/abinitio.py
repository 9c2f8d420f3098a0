"""The ab initio job: from particle images to a map and their poses, top to bottom."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.io.particle_images import ParticleImages
from manyviews.jobs.run import Job, JobResult
from manyviews.options import RunOptions
from manyviews.parallel.world import SingleWorld, World
from manyviews.particles.estimate import Cost, announce, estimate_cost, reach_of
from manyviews.particles.fitted import write_fitted_samples
from manyviews.particles.grey_levels import (
    GreyLevels,
    find_warnings,
    grey_levels,
    shell_ratios,
    spread_over,
)
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.images.own_images import own_images
from manyviews.particles.methods import METHODS, Particles, check_ranks
from manyviews.particles.onward import say_what_is_next
from manyviews.particles.opening import JobKind, planned_for, start_particle_job
from manyviews.particles.options import AbinitioOptions, ParticleOptions
from manyviews.particles.plan import Plan, check_reference, load_table, resolve_plan
from manyviews.particles.report import PICTURES, sections
from manyviews.particles.results import RESULTS, Reconstruction, write_results
from manyviews.particles.selection import Selection, select_particles

KIND = JobKind("particles abinitio", RESULTS, PICTURES, sections)


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
    box = ParticleImages(table).box

    def resolve(count: int) -> Plan:
        return resolve_plan(options, count, box, table.pixel_size)

    plan = resolve(len(table))
    check_reference(options.reference, box)
    check_ranks(plan, world.size)
    symmetry_rotations(options.symmetry)
    with start_particle_job(
        KIND, particles, table, options, run,
        record=plan.record(), seed=options.seed, world=world, began=began,
    ) as job:  # fmt: skip
        if job.finished:
            return job.result()
        chosen = select_particles(job, table, plan.diameter, replaces=options.remove_outliers)
        plan = planned_for(chosen, resolve)
        with contextlib.ExitStack() as stack:
            images, own = own_images(stack, job, chosen.table, plan, options, chosen.mend, chosen.numbers)
            reach = look_ahead(job, plan, chosen, images, own, partial(estimate_cost, plan))
            found = find_structure(job, plan, chosen, images, own, reach)
            write_fitted_samples(
                job, images, own, chosen.order, found.samples, found.volume, plan.diameter, options.symmetry
            )
        summary = write_results(job.folder, plan, chosen, found) if job.speaks else {}
        say_what_is_next(job, particles, table, plan.pixel_size, options.symmetry)
        return job.finish(summary)


def find_structure(
    job: Job, plan: Plan, chosen: Selection, images: FourierImages, own: NDArray[np.int64], reach: int
) -> Reconstruction:
    """Map and poses by the plan's method; all ranks make this call.

    ``images`` are those of this process, ``own`` their places among the chosen; the halves are expected to
    agree to ``reach``, Fourier pixels.
    """
    symmetry = symmetry_rotations(plan.options.symmetry)
    particles = Particles(plan, images, chosen.numbers, own, symmetry, reach)
    return METHODS[plan.options.method](job, particles)


def look_ahead(
    job: Job,
    plan: Plan,
    chosen: Selection,
    images: FourierImages,
    own: NDArray[np.int64],
    count: Callable[[int, int], Cost],
) -> int:
    """Tell what is doubtful in the images and what the run takes; returns how far halves may agree.

    ``images`` are those of this process, ``own`` their places among the chosen; ``count`` is given the reach,
    Fourier pixels, and the threads. All ranks make this call.
    """
    grey = _grey_levels(job, chosen, images, own)
    job.warn(*find_warnings(chosen.table, plan, grey))
    reach = reach_of(plan, grey.signal_to_noise, len(chosen.order), grey.sampled)
    announce(job, count(reach, torch.get_num_threads()), on_gpu=plan.device != "cpu")
    return reach


def _grey_levels(job: Job, chosen: Selection, images: FourierImages, places: NDArray[np.int64]) -> GreyLevels:
    """Of the images that a check takes them from; all ranks make this call."""
    sample = spread_over(len(chosen.whole))
    own = np.flatnonzero(np.isin(chosen.order[places], sample))
    look = chosen.look.select(np.intersect1d(sample, chosen.order))  # all were looked at
    return grey_levels(look, shell_ratios(images, own, job.world))
