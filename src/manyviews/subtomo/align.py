"""The alignment job: from subtomograms to poses, an average and how far it can be trusted, top to bottom."""

from __future__ import annotations

import contextlib
import time

from manyviews.jobs.run import JobResult
from manyviews.options import RunOptions
from manyviews.parallel.world import SingleWorld, World
from manyviews.subtomo.align_options import AlignOptions
from manyviews.subtomo.alignment import Alignment, has_settled
from manyviews.subtomo.estimate import STAGE, expect_alignment
from manyviews.subtomo.inputs import open_subtomograms
from manyviews.subtomo.maps import read_maps
from manyviews.subtomo.options import SubtomogramOptions
from manyviews.subtomo.plan import resolve_plan
from manyviews.subtomo.problem import make_problem
from manyviews.subtomo.reference_check import check_reference
from manyviews.subtomo.results import Watcher, write_results
from manyviews.subtomo.start import start_in_folder
from manyviews.subtomo.starts import with_best_start
from manyviews.subtomo.warnings import check_ranks


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
    check_ranks(world.size, len(given))
    plan = resolve_plan(options, len(given), given.box, given.pixel_size)
    maps = read_maps(options, plan.box, plan.pixel_size)
    with start_in_folder(
        "subtomo align", run, options, particles=particles, given=given, plan=plan, world=world, began=began
    ) as job:
        if job.finished:
            return job.result()
        job.warn(*given.warnings)
        with contextlib.ExitStack() as stack:
            expect_alignment(job, plan, len(given))
            problem, chosen = make_problem(stack, job, given, plan, maps)
            work = expect_alignment(job, plan, len(chosen.places))
            problem = with_best_start(job, problem, plan.draws)
            hand = check_reference(job, problem, hands=options.hands == "both")
            watcher = Watcher(job, plan)
            watcher.wedges(given, chosen)
            state, reason = job.solve(
                Alignment(problem),
                options.iterations,
                stage=STAGE,
                settled=has_settled,
                preview=watcher.preview,
                note=watcher.note,
                cost=work,
            )
            summary = write_results(job, plan, given, chosen, problem, state, reason)
        return job.finish({**summary, **hand} if summary else summary)
