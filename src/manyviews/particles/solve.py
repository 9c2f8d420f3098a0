"""The job from nothing to two refined half maps: ab initio, then the refinement of halves, in one folder."""

from __future__ import annotations

import contextlib
import time
from functools import partial

import torch

from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.io.mrc import write_mrc
from manyviews.io.particle_images import ParticleImages
from manyviews.jobs.run import Job, JobResult
from manyviews.options import RunOptions
from manyviews.parallel.world import SingleWorld, World
from manyviews.particles.abinitio import find_structure, look_ahead
from manyviews.particles.em.starts import on_axes
from manyviews.particles.estimate import estimate_solve
from manyviews.particles.fitted import write_fitted_samples
from manyviews.particles.images.fourier_resample import regrid_volume, working_box
from manyviews.particles.images.own_images import own_images
from manyviews.particles.methods import check_lanes, check_ranks
from manyviews.particles.onward import say_what_is_next
from manyviews.particles.opening import JobKind, planned_for, start_particle_job
from manyviews.particles.options import ParticleOptions, SolveOptions
from manyviews.particles.pass_files import REFINEMENT, pass_files
from manyviews.particles.plan import check_reference, load_table
from manyviews.particles.refine.halving import divide, select_divided
from manyviews.particles.refine.refine import run_refinement
from manyviews.particles.refine.results import RESULTS, write_refined
from manyviews.particles.refine.start import Start
from manyviews.particles.results import Reconstruction
from manyviews.particles.solve_plan import SolvePlan, resolve_solve
from manyviews.particles.solve_report import ABINITIO_FILE, PICTURES, sections
from manyviews.particles.start_files import START_PLANES_FILE, STARTS_FILE

KIND = JobKind(
    "particles solve",
    (ABINITIO_FILE, STARTS_FILE, START_PLANES_FILE, *pass_files(REFINEMENT), *RESULTS),
    PICTURES,
    sections,
)


def solve(
    particles: ParticleOptions, options: SolveOptions, run: RunOptions, *, world: World | None = None
) -> JobResult:
    """Find the structure of particles from nothing, and refine two halves of them apart.

    What `abinitio` does, and then `refine` from its map at low resolution; parameters and errors are theirs.
    A run that was stopped goes on in the stage where it was.
    """
    began = time.monotonic()
    world = world or SingleWorld()
    table = load_table(particles)
    box = ParticleImages(table).box

    def resolve(count: int) -> SolvePlan:
        return resolve_solve(options, count, box, table.pixel_size)

    plan = resolve(len(table))
    check_reference(options.reference, box)
    check_ranks(plan.abinitio, world.size)
    check_lanes(world.size)
    divided = divide(table, options.halves)
    symmetry_rotations(options.symmetry)
    with start_particle_job(
        KIND, particles, table, options, run,
        record=plan.record(), seed=options.seed, world=world, began=began,
    ) as job:  # fmt: skip
        if job.finished:
            return job.result()
        diameter = plan.refinement.diameter
        chosen = select_divided(job, table, divided, diameter, replaces=options.remove_outliers)
        plan = planned_for(chosen, resolve)
        with contextlib.ExitStack() as stack:
            images, own = own_images(
                stack, job, chosen.table, plan.refinement, options, chosen.mend, chosen.numbers
            )
            count = partial(estimate_solve, plan.abinitio, plan.refinement)
            reach = look_ahead(job, plan.abinitio, chosen, images, own, count)
            first = find_structure(job, plan.abinitio, chosen, images, own, reach)
            start = _start_of_halves(job, plan, first)
            numbers = chosen.numbers[own]
            found = run_refinement(job, plan.refinement, images, chosen, numbers, start, reach)
            write_fitted_samples(
                job,
                images,
                own,
                chosen.order,
                found.samples,
                found.volume,
                plan.refinement.diameter,
                options.symmetry,
            )
        if not job.speaks:
            return job.finish({})
        told = {"method": options.method, **_summary(first)}
        summary = {**told, **write_refined(job, plan.refinement, chosen, found)}
        say_what_is_next(job, particles, table, plan.refinement.pixel_size, options.symmetry)
        return job.finish(summary)


def _start_of_halves(job: Job, plan: SolvePlan, found: Reconstruction) -> Start:
    """What ab initio came to, on the axes of the point group, kept as a file; all ranks make this call."""
    path, volume = job.folder / ABINITIO_FILE, found.volume
    symmetry = symmetry_rotations(plan.options.symmetry)
    if len(symmetry) > len(symmetry_rotations(plan.abinitio.options.symmetry)):
        low = regrid_volume(volume, working_box(plan.refinement.start_radius, len(volume)))
        laid = on_axes(low, symmetry, plan.options.seed, job.say, job.warn)
        volume = regrid_volume(laid, len(volume))
    if job.speaks:
        label = f"manyviews particles solve, {plan.options.method}"
        write_mrc(path, volume.numpy(), plan.refinement.pixel_size, overwrite=True, labels=(label,))
    return Start(volume.to(torch.float32).numpy(), path)


def _summary(first: Reconstruction) -> dict[str, object]:
    """Key figures of the first part: how the starts agree. Why it ended, the second part tells of itself."""
    return {name: value for name, value in first.summary.items() if name != "stopped_because"}
