"""The alignment job: from subtomograms to poses, an average and how far it can be trusted, top to bottom."""

from __future__ import annotations

import contextlib
import time

import numpy as np

from manyviews.io.scratch import ScratchFolder
from manyviews.io.sizes import format_bytes
from manyviews.jobs.memory import room_for_data
from manyviews.jobs.run import Job, JobResult, start_job
from manyviews.options import RunOptions
from manyviews.parallel.world import SingleWorld, World
from manyviews.runs.memory import require_disk
from manyviews.subtomo.align_options import AlignOptions
from manyviews.subtomo.alignment import Alignment, AlignmentProblem, has_settled
from manyviews.subtomo.chosen import Chosen, choose_subtomograms, chosen_priors, known_poses
from manyviews.subtomo.inputs import (
    Subtomograms,
    fingerprints,
    open_subtomograms,
    read_map,
    read_start,
    wedge_record,
)
from manyviews.subtomo.load import Allocate, read_fourier_subtomograms
from manyviews.subtomo.options import SubtomogramOptions
from manyviews.subtomo.plan import Plan, resolve_plan
from manyviews.subtomo.reference_check import check_reference
from manyviews.subtomo.report import PICTURES, sections
from manyviews.subtomo.results import RESULTS, Watcher, write_results
from manyviews.subtomo.volumes import FourierSubtomograms, subtomogram_bytes


def align(
    particles: SubtomogramOptions, options: AlignOptions, run: RunOptions, *, world: World | None = None
) -> JobResult:
    """Align subtomograms to their average, or to a map, and average them, in two halves.

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
    given = open_subtomograms(particles)
    plan = resolve_plan(options, len(given), given.box, given.pixel_size)
    start = read_start(plan)
    read_map(options.compare, "--compare", plan)  # wrong ones are refused before the work
    with start_job(
        "subtomo align",
        run,
        options,
        record={**plan.record(), **wedge_record(particles)},
        inputs=fingerprints(particles, given, plan),
        results=RESULTS,
        pictures=PICTURES,
        sections=sections,
        seed=options.seed,
        world=world,
        began=began,
    ) as job:
        if job.finished:
            return job.result()
        job.warn(*given.warnings)
        with contextlib.ExitStack() as stack:
            data, chosen = _load(stack, job, given, plan)
            job.warn(*chosen.warnings)
            problem = AlignmentProblem(
                data,
                chosen.own,
                chosen.halves,
                plan.search,
                start,
                plan.start_radius,
                plan.joined_radius,
                merged=options.merged,
                rejected=options.reject,
                priors=chosen_priors(given, chosen, plan),
                known=known_poses(given, chosen, plan),
                seed=options.seed,
                world=world,
            )
            hand = check_reference(job, problem, hands=options.hands == "both")
            watcher = Watcher(job, plan)
            watcher.wedges(given, chosen)
            state, reason = job.solve(
                watcher.watched(Alignment(problem)),
                options.iterations,
                stage="align",
                settled=has_settled,
                preview=watcher.preview,
            )
            summary = write_results(job, plan, given, chosen, problem, state, reason)
        return job.finish({**summary, **hand} if summary else summary)


def _load(
    stack: contextlib.ExitStack, job: Job, given: Subtomograms, plan: Plan
) -> tuple[FourierSubtomograms, Chosen]:
    """This process's subtomograms, in memory or in files, and which of all they are."""
    world = job.world
    own = np.arange(len(given))[world.rank :: world.size]
    size = subtomogram_bytes(len(own), plan.radius)
    room = room_for_data(plan.options.memory, world)
    allocate: Allocate = np.empty
    if room is not None and size > room:
        folder = plan.options.scratch or job.folder
        require_disk(folder, size)
        job.say(f"subtomograms are kept in files in {folder}: {format_bytes(size)}")
        allocate = stack.enter_context(ScratchFolder(folder / "scratch")).allocate
    job.progress.start("read subtomograms", len(own))
    data, kept, faulty = read_fourier_subtomograms(
        given.read,
        own,
        given.transfers,
        pixel_size=given.pixel_size,
        radius=plan.radius,
        diameter=plan.diameter,
        world=world,
        allocate=allocate,
        tell=job.progress.update,
    )
    chosen, inside = choose_subtomograms(job, given, plan, kept, faulty)
    return data.select(inside), chosen
