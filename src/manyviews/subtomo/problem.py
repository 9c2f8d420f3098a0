"""The particles of a process as a problem to solve: loaded, chosen and dealt into halves."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np

from manyviews.io.scratch import ScratchFolder
from manyviews.io.sizes import format_bytes
from manyviews.jobs.device import own_device
from manyviews.jobs.memory import room_for_data
from manyviews.jobs.run import Job
from manyviews.parallel.lanes import lane_of, own_particles
from manyviews.runs.memory import require_disk
from manyviews.subtomo.alignment import AlignmentProblem
from manyviews.subtomo.chosen import Chosen, choose_subtomograms, chosen_priors, known_poses
from manyviews.subtomo.inputs import Subtomograms
from manyviews.subtomo.load import READING, Allocate, read_fourier_subtomograms
from manyviews.subtomo.maps import Maps
from manyviews.subtomo.plan import Plan
from manyviews.subtomo.volumes import FourierSubtomograms, subtomogram_bytes
from manyviews.subtomo.warnings import data_warnings


def make_problem(
    stack: contextlib.ExitStack, job: Job, given: Subtomograms, plan: Plan, maps: Maps
) -> tuple[AlignmentProblem, Chosen]:
    """Read this process's particles and pose the problem; all ranks make this call.

    What is doubtful is warned of.
    """
    data, chosen = _load(stack, job, given, plan)
    job.warn(*chosen.warnings, *data_warnings(data, plan, job.world))
    priors = chosen_priors(given, chosen, plan)
    if priors is not None and plan.options.search == "rotational":
        job.warn(
            "--search rotational does not look at the priors of the table; take --search joint, or "
            "--ignore-priors"
        )
    problem = AlignmentProblem(
        data,
        chosen.own,
        lane_of(chosen.places[chosen.own]),
        chosen.halves,
        replace(plan.search, device=str(own_device(plan.device, job.world))),
        maps.start,
        plan.start_radius,
        plan.joined_radius,
        merged=plan.options.merged,
        given_mask=maps.mask,
        shared_radius=plan.shared_radius,
        rejected=plan.options.reject,
        weights=given.table.particle_weights[chosen.places],
        priors=priors,
        known=known_poses(given, chosen, plan),
        seed=plan.options.seed,
        world=job.world,
    )
    return problem, chosen


def _load(
    stack: contextlib.ExitStack, job: Job, given: Subtomograms, plan: Plan
) -> tuple[FourierSubtomograms, Chosen]:
    """This process's subtomograms, in memory or in files, and which of all they are."""
    world = job.world
    everyone = np.arange(len(given))
    own = everyone[own_particles(everyone, world)]
    size = subtomogram_bytes(len(own), plan.radius)
    room = room_for_data(plan.options.memory, world)
    allocate: Allocate = np.empty
    if room is not None and size > room:
        folder = plan.options.scratch or job.folder
        require_disk(folder, size)
        job.say(f"subtomograms are kept in files in {folder}: {format_bytes(size)}")
        allocate = stack.enter_context(ScratchFolder(folder / "scratch")).allocate
    job.progress.start(READING, len(own))
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
    chosen, inside = choose_subtomograms(world, given, plan, kept, faulty)
    # a copy, which would take the memory twice, only where some are left out
    return data if inside.all() else data.select(inside), chosen
