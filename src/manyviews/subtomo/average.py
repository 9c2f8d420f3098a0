"""The averaging job: from subtomograms in known poses to a map, its halves and how far it can be trusted."""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict

from manyviews.errors import InputError
from manyviews.jobs.run import JobResult, after
from manyviews.options import RunOptions
from manyviews.parallel.world import SingleWorld, World
from manyviews.subtomo.align_options import AlignOptions, AverageOptions
from manyviews.subtomo.alignment import Alignment
from manyviews.subtomo.estimate import AVERAGING, expect_average
from manyviews.subtomo.inputs import open_subtomograms
from manyviews.subtomo.maps import read_maps
from manyviews.subtomo.options import SubtomogramOptions
from manyviews.subtomo.plan import resolve_plan
from manyviews.subtomo.problem import make_problem
from manyviews.subtomo.results import Watcher, write_results
from manyviews.subtomo.start import start_in_folder
from manyviews.subtomo.warnings import check_ranks


def average(
    particles: SubtomogramOptions, options: AverageOptions, run: RunOptions, *, world: World | None = None
) -> JobResult:
    """Average subtomograms in the poses of their table; parameters and errors as of `align`."""
    began = time.monotonic()
    world = world or SingleWorld()
    given = open_subtomograms(particles)
    if options.device == "cuda":
        raise InputError("averages are made on the processor only", where="--device cuda", fix="leave it out")
    known = AlignOptions(**asdict(options), known_poses=True, joined_resolution=0.0)
    check_ranks(world.size, len(given))
    plan = resolve_plan(known, len(given), given.box, given.pixel_size)
    maps = read_maps(known, plan.box, plan.pixel_size)
    with start_in_folder(
        "subtomo average", run, options, particles=particles, given=given, plan=plan, world=world, began=began
    ) as job:
        if job.finished:
            return job.result()
        job.warn(*given.warnings)
        with contextlib.ExitStack() as stack:
            expect_average(job, plan, len(given))
            problem, chosen = make_problem(stack, job, given, plan, maps)
            Watcher(job, plan).wedges(given, chosen)
            expect_average(job, plan, len(chosen.places))
            job.phase(f"average: adding {len(chosen.places)} subtomograms", AVERAGING)
            state = Alignment(problem).averaged()
            job.phase("resolution, scores, coverage", after(AVERAGING))
            summary = write_results(job, plan, given, chosen, problem, state)
        return job.finish(summary)
