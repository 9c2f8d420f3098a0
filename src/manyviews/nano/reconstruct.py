"""The job: from a scan to a volume and the motion of every view, top to bottom."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch

from manyviews.io.scratch import ScratchFolder
from manyviews.jobs.run import Job, JobResult, start_job
from manyviews.nano.angles import angle_figures
from manyviews.nano.choice import Chosen, affordable, choice_figures, choose
from manyviews.nano.estimate import estimate_cost, require_disk_room, require_room
from manyviews.nano.expected import (
    FILTERING,
    READING,
    REFINING,
    chosen_phases,
    expected_phases,
    solving_phases,
)
from manyviews.nano.halves import half_views
from manyviews.nano.pitch import pitch_figures
from manyviews.nano.plan import Plan, resolve_plan
from manyviews.nano.reconstruct_options import ReconstructOptions
from manyviews.nano.reconstruct_results import (
    RESULTS,
    ViewTable,
    Watcher,
    write_filtered,
    write_results,
)
from manyviews.nano.refined_views import refined_views
from manyviews.nano.report import PICTURES, sections
from manyviews.nano.results import PITCH_FILE, write_pitch
from manyviews.nano.room import Room
from manyviews.nano.scan.normalise import Correction
from manyviews.nano.scan.options import ScanOptions
from manyviews.nano.scan.prepare import Prepared, check_and_correct, needed_bytes, prepare, prepared_shape
from manyviews.nano.scan.scan import Scan, open_scan
from manyviews.nano.space import solve_space
from manyviews.nano.space_results import SpaceWatcher, write_space_results
from manyviews.nano.stages import Solved, Views, solve_unaligned, solve_views
from manyviews.nano.warnings import result_warnings
from manyviews.options import RunOptions
from manyviews.parallel.world import SingleWorld, World
from manyviews.runs.fingerprint import files_fingerprint

T = TypeVar("T")


def reconstruct(
    scan_options: ScanOptions, options: ReconstructOptions, run: RunOptions, *, world: World | None = None
) -> JobResult:
    """Reconstruct a scan, and find how its views moved.

    Parameters
    ----------
    scan_options, options
        What from, and how.
    run
        Where to; the same call on the same folder goes on where an earlier one stopped.
    world
        The processes that share slices and views, each of which makes this call; left out: this one alone.

    Raises
    ------
    InputError
        If anything the user gave cannot be used.
    ManyviewsError
        If the iteration diverges or the run is interrupted.
    """
    began = time.monotonic()
    world = world or SingleWorld()
    scan = open_scan(scan_options.scan, scan_options)
    correction = check_and_correct(scan, scan_options)
    plan = resolve_plan(scan_options, options, prepared_shape(scan, scan_options, correction.rows))
    with start_job(
        "nano reconstruct", run, options, record=plan.record(), inputs=fingerprints(scan),
        results=RESULTS, pictures=PICTURES, sections=sections, world=world, began=began,
    ) as job:  # fmt: skip
        if job.finished:
            return job.result()
        plan = affordable(job, plan, needed_bytes(scan, plan.scan, correction.rows))
        with contextlib.ExitStack() as stack:
            prepared, room = prepared_projections(stack, job, plan, scan, correction)
            summary = _solve(job, plan, prepared, room)
        return job.finish(summary, mapped=room.in_files)


def prepared_projections(
    stack: contextlib.ExitStack, job: Job, plan: Plan, scan: Scan, correction: Correction, *,
    alone: bool = False,
) -> tuple[Prepared, Room]:  # fmt: skip
    """Projections, with what is to be told of them, and where all that is made of them is to live: in files
    if memory is small; ``alone``: no more than projections can.
    """
    cost = estimate_cost(plan, job.world.size, needed_bytes(scan, plan.scan, correction.rows))
    cost = replace(cost, streamed_bytes=None) if alone else cost
    in_files = require_room(cost, plan.options, job.world)
    folder = (plan.options.scratch or job.folder) / "scratch"
    for line in cost.lines(in_files):
        job.say(line)
    if in_files and cost.streams:
        require_disk_room(cost, folder, job.folder, resumed=job.run.resumed)
    scratch = stack.enter_context(ScratchFolder(folder)) if in_files else None
    cores = (plan.options.threads or torch.get_num_threads()) * job.world.size
    job.expect(solving_phases(plan) if alone else expected_phases(plan), 1.0 / cores)
    job.progress.start(READING, scan.shape[0])

    def tell(name: str, done: int, total: int) -> None:
        job.progress.update(done)

    prepared = prepare(scan, plan.scan, scratch, threads=plan.options.threads or 1, tell=tell)
    for note in prepared.notes:
        job.say(note)
    job.warn(*prepared.warnings)
    return prepared, Room(scratch if cost.streams else None)


def _solve(job: Job, plan: Plan, prepared: Prepared, room: Room) -> dict[str, object]:
    """All stages, and the files of the result; key figures by name."""
    views = Views(prepared.projections, prepared.theta_degrees, prepared.center, room=room)
    if plan.options.method == "fbp":
        job.begin()
        job.phase("filtered back-projection", FILTERING)
        return write_filtered(job, plan, prepared, room)
    watcher = Watcher(job, plan, prepared)
    unaligned = watcher.unaligned(solve_unaligned(job, plan, views))
    job.phase("looking for angles and pitch of views", REFINING)
    views = refined_views(job, plan, views)
    angles = angle_figures(prepared.theta_degrees, views.theta_degrees)
    angles |= pitch_figures(views.pitch_degrees)
    prepared = replace(prepared, theta_degrees=views.theta_degrees)
    in_space = SpaceWatcher(watcher)
    chosen = choose(job, plan, views, in_space.note) if plan.choosing else Chosen(plan, None, None)
    job.expect(chosen_phases(plan, chosen.plan))
    plan = chosen.plan
    if plan.space:
        summary, table = _in_space(job, chosen, prepared, views, in_space, unaligned)
    else:
        solved = solve_views(job, plan, views, note=watcher.note, show=watcher.show)
        halves = _halves(job, plan, views, _volume_by_flows) if plan.options.halves else ()
        summary, table = write_results(job, plan, prepared, solved, unaligned, halves, room)
        if job.speaks and views.pitch_degrees is not None:
            write_pitch(job.folder / PITCH_FILE, views.theta_degrees, views.pitch_degrees)
    job.warn(*result_warnings(plan, prepared, table))
    return {**summary, **angles, **choice_figures(chosen.choice)}


def _in_space(
    job: Job, chosen: Chosen, prepared: Prepared, views: Views, watcher: SpaceWatcher, unaligned: Solved
) -> tuple[dict[str, object], ViewTable]:
    """A motion of the specimen in space."""
    plan = chosen.plan
    solved = solve_space(job, plan, views, watcher.note, watcher.show, chosen.begun)
    halves = _halves(job, plan, views, solve_space) if plan.options.halves else ()
    return write_space_results(job, plan, prepared, solved, unaligned, halves)


def _halves(job: Job, plan: Plan, views: Views, solve: Callable[[Job, Plan, Views], T]) -> tuple[T, ...]:
    """Two halves of the views, each by itself and without total variation, whose edges would agree."""
    apart = plan.without_variation()
    return tuple(
        solve(job, apart, views.of(places, f"half{number}"))
        for number, places in enumerate(half_views(len(views.theta_degrees)), 1)
    )


def _volume_by_flows(job: Job, plan: Plan, views: Views) -> Solved:
    """Less its flow, which takes more room than the volume."""
    solved = solve_views(job, plan, views)
    return replace(solved, state=replace(solved.state, duals=(), flow=torch.empty(0)))


def fingerprints(scan: Scan) -> dict[str, str]:
    """What identifies the input: its images, the views that are used, and their angles."""
    digest = hashlib.sha256()
    for values in (scan.theta_degrees, scan.views):
        digest.update(np.ascontiguousarray(values).tobytes())
    return {
        scan.path.name: files_fingerprint(scan.files),
        "angles and views": digest.hexdigest(),
        "pixel size": repr(scan.pixel_size_nm),
    }
