"""The refinement job: from particle images and a map at low resolution to two half maps, top to bottom."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.io.particle_images import ParticleImages
from manyviews.jobs.device import own_device
from manyviews.jobs.run import Job, JobResult, start_job
from manyviews.options import RunOptions
from manyviews.parallel.world import SingleWorld, World
from manyviews.particles.em.maximisation import half_correlation
from manyviews.particles.em.problem import EmProblem
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.images.own_images import fingerprints, own_images
from manyviews.particles.known_poses import AT_POINTS
from manyviews.particles.methods import check_lanes
from manyviews.particles.options import ParticleOptions, RefineOptions
from manyviews.particles.plan import check_reference, load_table
from manyviews.particles.refine.batches import UPDATES, BatchRefinement, BatchState, batch_size
from manyviews.particles.refine.halving import divide
from manyviews.particles.refine.plan import RefinementPlan, resolve_refinement
from manyviews.particles.refine.report import PICTURES, sections
from manyviews.particles.refine.results import RESULTS, Refined, write_refined
from manyviews.particles.refine.solver import HalvesRefinement, final_maps
from manyviews.particles.refine.start import Start, read_start, starts_of_halves
from manyviews.particles.refine.state import HalvesState
from manyviews.particles.results import far_from_images, preview
from manyviews.particles.selection import Selection, select_particles
from manyviews.runs.fingerprint import fingerprint

# Of the power at the start's frequencies: 0.94 to 1.01 at the right structure, 0.53 and 0.64 at wrong ones.
_WELL_EXPLAINED = 0.8


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
    plan = resolve_refinement(options, len(table), box, table.pixel_size)
    check_reference(options.reference, box)
    check_lanes(world.size)
    start = read_start(options.start, box, table.pixel_size)
    half, told = divide(table, options.halves)
    symmetry_rotations(options.symmetry)
    with start_job(
        "particles refine",
        run,
        options,
        record=plan.record(),
        inputs={**fingerprints(particles, table), str(start.path): fingerprint(start.path)},
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
        job.say(told)
        chosen = select_particles(job, table, plan.diameter, replaces=options.remove_outliers, halves=half)
        moved = int(np.count_nonzero(chosen.numbers % 2 != half[chosen.order]))
        if moved:
            job.warn(f"{moved} particles were moved to the half that their copies are in")
        resolve_refinement(options, len(chosen.order), box, table.pixel_size)  # enough are left
        plan = resolve_refinement(options, chosen.largest + 1, box, table.pixel_size)
        with contextlib.ExitStack() as stack:
            images, own = own_images(stack, job, chosen.table, plan, options, chosen.mend, chosen.numbers)
            found = run_refinement(job, plan, images, chosen, chosen.numbers[own], start)
        return job.finish(write_refined(job, plan, chosen, found) if job.speaks else {})


def run_refinement(
    job: Job,
    plan: RefinementPlan,
    images: FourierImages,
    chosen: Selection,
    numbers: NDArray[np.int64],
    start: Start,
) -> Refined:
    """The passes through all images, and the maps in the end; all ranks make this call.

    ``numbers (n,)`` are those of this process's images.
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
    solver = solver_of(problem, starts, plan)
    show = preview(job, plan)
    state, reason = job.solve(
        solver,
        solver.steps(plan.options.iterations),
        stage="refinement",
        settled=solver.settled,
        preview=lambda state: show(state.iterate),
    )
    passes = round(state.passes, 2) if isinstance(state, BatchState) else state.iteration
    own = state.samples.among(numbers, plan.em.particles)
    finished = replace(images, noise_variance=state.noise.numpy())
    # all frequencies, so that the curve of the halves is seen to fall
    sums = solver.sums(finished, own, plan.radius)
    shape = problem.constraint(plan.box)
    agreed = half_correlation(sums, shape)
    volume = sums.volume(agreed, plan.box, at_points=AT_POINTS, mask=shape.mask)
    return Refined(
        volume,
        final_maps(sums, plan.box),
        state.samples.among(chosen.numbers, plan.em.particles),
        {
            "passes": passes,
            "stopped_because": str(reason),
            **_doubts(job, plan, state),
        },
    )


def solver_of(problem: EmProblem, starts: tuple[torch.Tensor, ...], plan: RefinementPlan) -> HalvesRefinement:
    """The solver of the method that was asked for."""
    method = plan.options.method
    if method == "em":
        return HalvesRefinement(problem, starts, plan.start_radius)
    batch = plan.options.batch or batch_size(plan.em.particles)
    true_diagonal = method == "preconditioned-sgd" and plan.options.diagonal == "hutchinson"
    return BatchRefinement(
        problem, starts, plan.start_radius, UPDATES[method](), batch, true_diagonal=true_diagonal
    )


def _doubts(job: Job, plan: RefinementPlan, state: HalvesState) -> dict[str, object]:
    """How much of the particles' power the map explains, with a warning where that is little."""
    share = float(np.mean(state.explained[2 : plan.start_radius + 1]))
    if share < _WELL_EXPLAINED:
        job.warn(
            f"the map explains {100 * share:.0f} % of the particles' power up to {plan.start_resolution:.3g} "
            "angstrom, where a right one explains nearly all: the start may be of another structure, or "
            "many images of none; do not believe the map before another start has led to it"
        )
    if state.radius <= plan.start_radius or state.furthest <= plan.start_radius:
        job.warn("the halves agree no further than the start's frequencies, which they share")
    return {"power_explained_at_the_start_resolution": round(share, 3)}
