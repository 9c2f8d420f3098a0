"""The refinement job: from particle images and a map at low resolution to two half maps, top to bottom."""

from __future__ import annotations

import contextlib
import time

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.io.particle_images import ParticleImages
from manyviews.jobs.device import own_device
from manyviews.jobs.run import Job, JobResult
from manyviews.options import RunOptions
from manyviews.parallel.world import SingleWorld, World
from manyviews.particles.cost import halves_work
from manyviews.particles.em.maximisation import half_correlation
from manyviews.particles.em.problem import EmProblem
from manyviews.particles.estimate import announce, estimate_refinement, reach_of
from manyviews.particles.fitted import write_fitted_samples
from manyviews.particles.grey_levels import shell_ratios, spread_over
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.images.own_images import own_images
from manyviews.particles.known_poses import AT_POINTS
from manyviews.particles.methods import check_lanes
from manyviews.particles.onward import say_what_is_next
from manyviews.particles.opening import JobKind, planned_for, start_particle_job
from manyviews.particles.options import ParticleOptions, RefineOptions
from manyviews.particles.pass_files import HALVES, noting
from manyviews.particles.plan import check_reference, load_table
from manyviews.particles.refine import doubts
from manyviews.particles.refine.batches import UPDATES, BatchRefinement, BatchState, batch_size
from manyviews.particles.refine.halving import divide, select_divided
from manyviews.particles.refine.judgement import groups_of
from manyviews.particles.refine.plan import RefinementPlan, resolve_refinement
from manyviews.particles.refine.report import PICTURES, sections
from manyviews.particles.refine.results import RESULTS, Refined, write_refined
from manyviews.particles.refine.scales import ContrastGroups
from manyviews.particles.refine.solver import HalvesRefinement, final_maps
from manyviews.particles.refine.start import Start, read_start, starts_of_halves
from manyviews.particles.results import preview
from manyviews.particles.selection import Selection
from manyviews.runs.fingerprint import fingerprint

STAGE = HALVES
KIND = JobKind("particles refine", RESULTS, PICTURES, sections)


def refine(
    particles: ParticleOptions, options: RefineOptions, run: RunOptions, *, world: World | None = None
) -> JobResult:
    """Refine poses and map of particles from a start at low resolution, two halves of them apart.

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

    def resolve(count: int) -> RefinementPlan:
        return resolve_refinement(options, count, box, table.pixel_size)

    plan = resolve(len(table))
    check_reference(options.reference, box)
    check_lanes(world.size)
    start = read_start(options.start, box, table.pixel_size)
    divided = divide(table, options.halves)
    symmetry_rotations(options.symmetry)
    inputs = {str(start.path): fingerprint(start.path)}
    with start_particle_job(
        KIND, particles, table, options, run,
        record=plan.record(), inputs=inputs, seed=options.seed, world=world, began=began,
    ) as job:  # fmt: skip
        if job.finished:
            return job.result()
        chosen = select_divided(job, table, divided, plan.diameter, replaces=options.remove_outliers)
        plan = planned_for(chosen, resolve)
        with contextlib.ExitStack() as stack:
            images, own = own_images(stack, job, chosen.table, plan, options, chosen.mend, chosen.numbers)
            sample = spread_over(len(chosen.order))
            ratios = shell_ratios(images, np.flatnonzero(np.isin(own, sample)), job.world)
            reach = reach_of(plan, ratios, len(chosen.order), len(sample))
            cost = estimate_refinement(plan, reach, torch.get_num_threads())
            announce(job, cost, on_gpu=plan.device != "cpu")
            found = run_refinement(job, plan, images, chosen, chosen.numbers[own], start, reach)
            write_fitted_samples(
                job, images, own, chosen.order, found.samples, found.volume, plan.diameter, options.symmetry
            )
        summary = write_refined(job, plan, chosen, found) if job.speaks else {}
        say_what_is_next(job, particles, table, plan.pixel_size, options.symmetry)
        return job.finish(summary)


def run_refinement(
    job: Job,
    plan: RefinementPlan,
    images: FourierImages,
    chosen: Selection,
    numbers: NDArray[np.int64],
    start: Start,
    reach: int,
) -> Refined:
    """The passes through all images, and the maps in the end; all ranks make this call.

    ``numbers (n,)`` are those of this process's images; the halves are expected to agree to ``reach``.
    """
    problem = EmProblem(
        images,
        numbers,
        plan.em,
        shift_sigma=plan.shift_sigma / plan.pixel_size,
        seed=plan.options.seed,
        positive=False,
        symmetry=symmetry_rotations(plan.options.symmetry),
        independent=True,
        world=job.world,
        say=job.say,
        warn=job.warn,
        device=str(own_device(plan.device, job.world)),
    )
    starts = starts_of_halves(problem, start, plan.start_radius)
    job.say(f"both halves begin with {start.path.name} up to {plan.start_resolution:.3g} angstrom")
    groups = groups_of(chosen, plan.em.particles)
    solver = solver_of(problem, starts, plan, groups)
    show = preview(job, plan)
    state, reason = job.solve(
        solver,
        solver.steps(plan.options.iterations),
        stage=STAGE,
        settled=solver.settled,
        preview=lambda state: show(state.iterate),
        cost=halves_work(plan, reach) if plan.options.method == "em" else None,
        note=noting(job, STAGE, plan.box, plan.pixel_size),
    )
    passes = round(state.passes, 2) if isinstance(state, BatchState) else state.iteration
    own = state.samples.among(numbers, plan.em.particles)
    # all frequencies, so that the curve of the halves is seen to fall
    sums = solver.sums(solver.images(state), own, plan.radius, state.credence)
    shape = problem.constraint(plan.box)
    agreed = half_correlation(sums, shape)
    volume = sums.volume(agreed, plan.box, at_points=AT_POINTS, mask=shape.mask)
    job.warn(*doubts.told_of_map(plan, state))
    text, many = doubts.told_of_images(state, chosen)
    if text:
        (job.warn if many else job.say)(text)
    return Refined(
        volume,
        final_maps(sums, plan.box),
        state.samples.among(chosen.numbers, plan.em.particles),
        state,
        groups,
        {
            "passes": passes,
            "stopped_because": str(reason),
            **doubts.summary(plan, state, chosen),
        },
    )


def solver_of(
    problem: EmProblem, starts: tuple[torch.Tensor, ...], plan: RefinementPlan, groups: ContrastGroups
) -> HalvesRefinement:
    """The solver of the method that was asked for."""
    method = plan.options.method
    if method == "em":
        return HalvesRefinement(
            problem, starts, plan.start_radius, groups, flat_solvent=plan.options.flat_solvent
        )
    batch = plan.options.batch or batch_size(plan.em.particles)
    true_diagonal = method == "preconditioned-sgd" and plan.options.diagonal == "hutchinson"
    return BatchRefinement(
        problem,
        starts,
        plan.start_radius,
        UPDATES[method](),
        batch,
        groups,
        flat_solvent=plan.options.flat_solvent,
        true_diagonal=true_diagonal,
    )
