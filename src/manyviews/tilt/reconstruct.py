"""The tilt job: from stacks and their geometry to one volume, top to bottom."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from manyviews.errors import InputError
from manyviews.io.mrc import MrcStack, read_header
from manyviews.io.scratch import ScratchFolder
from manyviews.jobs.device import free_memory_bytes, own_device
from manyviews.jobs.run import Job, JobResult, start_job
from manyviews.operators.slab_projector import SlabProjector
from manyviews.operators.transfer_projector import TransferProjector
from manyviews.options import RunOptions
from manyviews.parallel.layout import Place, alone, take_place
from manyviews.parallel.world import SingleWorld, World
from manyviews.runs.fingerprint import files_fingerprint
from manyviews.runs.map_names import VOLUME_FILE
from manyviews.runs.memory import give_back_freed, require_disk
from manyviews.runs.placement import Placement
from manyviews.tilt.cost.estimate import Estimate
from manyviews.tilt.cost.schedule import Schedule, make_schedule
from manyviews.tilt.ctf.apply import (
    agree_on_hand,
    before_transfer,
    correction_of,
    refuse_unfit,
    settle_hand,
    transfer_costs,
)
from manyviews.tilt.ctf.transfer import ResolvedTransfer, resolve_transfer
from manyviews.tilt.expected import BEGINNING, LOOKING, STAGE, expected_phases, filling, iteration_work
from manyviews.tilt.methods import agent_count, make_cg, make_solver
from manyviews.tilt.options import ReconstructOptions, SeriesOptions
from manyviews.tilt.pixels.fill import FILL_ITERATIONS, FILL_STAGE, filled_problem
from manyviews.tilt.pixels.report import PIXELS_FILE, write_pixels
from manyviews.tilt.pixels.settle import Settled, settle_pixels
from manyviews.tilt.pixels.stored import open_weights
from manyviews.tilt.pixels.thickness import propose_thickness
from manyviews.tilt.plan import Plan, resolve_plan
from manyviews.tilt.prior.choice import PRIOR_FILE
from manyviews.tilt.prior.choose import Chosen, start_prior
from manyviews.tilt.report import PICTURES, sections
from manyviews.tilt.results import TABLES, write_results, write_volume
from manyviews.tilt.series.images import ImageSource
from manyviews.tilt.series.normalise import PreparedImages, prepare
from manyviews.tilt.series.resolve import ResolvedSeries, resolve_series
from manyviews.tilt.solve.damping import DAMPED, damped
from manyviews.tilt.solve.problem import PixelWeights, TiltProblem, projected_sooner
from manyviews.tilt.solve.storage import GIVEN_BACK_BYTES, Storage
from manyviews.tilt.warnings import find_warnings

RESULTS = (VOLUME_FILE, *TABLES, PRIOR_FILE, PIXELS_FILE, "fsc.csv")


def reconstruct(
    series: SeriesOptions, options: ReconstructOptions, run: RunOptions, *, world: World | None = None
) -> JobResult:
    """Reconstruct one volume from one or several tilt series.

    Parameters
    ----------
    series, options
        What from, and how.
    run
        Where to; the same call on the same folder goes on where an earlier one stopped.
    world
        The processes that work on it, each of which makes this call; left out: this one alone.

    Raises
    ------
    InputError
        If anything the user gave cannot be used.
    ManyviewsError
        If the iteration diverges or the run is interrupted.
    """
    began = time.monotonic()
    world = world or SingleWorld()
    resolved = resolve_series(series)
    proposal = None
    if not options.thickness and resolved.thickness is None:
        proposal = propose_thickness(resolved, options, world)
        resolved = resolved if proposal is None else proposal.centred(resolved)
    source = ImageSource(resolved, options.bin, options.invert_contrast, options.remove_outliers)
    plan = resolve_plan(options, source)
    transfer = resolve_transfer(options, resolved)
    weights = open_weights(options.weights, resolved.stacks)
    _check_reference(options.reference, plan)
    schedule = make_run_schedule(source, plan, options, world, transfer)
    refuse_unfit(plan)
    place = take_place(world, schedule.layout)
    if place is None:
        return JobResult.elsewhere(run.out)
    reference = None if options.reference is None else str(options.reference)
    with start_job(
        "tilt reconstruct",
        run,
        options,
        record={**plan.record(), "reference": reference},
        inputs=_fingerprints(source, transfer, weights),
        results=RESULTS,
        pictures=PICTURES,
        sections=sections,
        world=place.world,
        began=began,
    ) as job:
        if job.finished:
            return job.result()
        job.warn(*resolved.warnings)
        for line in schedule.lines():
            job.say(line)
        job.warn(*(() if proposal is None else proposal.lines))  # a guess is told even if quiet
        with contextlib.ExitStack() as stack:
            storage = _storage(stack, schedule, options.scratch or run.out)
            if transfer is not None:
                transfer = _tell_transfer(job, transfer, source, plan)
            job.expect(expected_phases(plan, schedule.estimate), 1.0)
            settled = _settle(job, source, plan, weights, place)
            problem, images = make_problem(
                settled.source, plan, place, storage, schedule, transfer, settled.pixels
            )
            levels = images.levels if plan.normalise == "none" else None
            job.warn(*find_warnings(resolved, plan, series, levels, images.outliers))
            summary = _solve(job, problem, images, resolved, plan, schedule, options.reference)
            if job.speaks:
                write_pixels(job.folder / PIXELS_FILE, settled)
        return job.finish(summary, mapped=schedule.streamed)


def _solve(
    job: Job,
    problem: TiltProblem,
    images: PreparedImages,
    resolved: ResolvedSeries,
    plan: Plan,
    schedule: Schedule,
    reference: Path | None,
) -> dict[str, object]:
    """From the problem to the files of the result; key figures by name."""
    if job.speaks:
        require_disk(job.folder, 4 * int(np.prod(plan.volume_shape)))
    job.begin()
    counted = problem
    problem = _filled(job, problem, images, plan, schedule.estimate)
    job.phase(f"{plan.method}: back-projecting {len(problem.weights)} views", BEGINNING)
    chosen = start_prior(job, problem, images, plan) if plan.method == "admm" else Chosen(plan, problem)
    plan, problem = chosen.plan, chosen.problem
    state, reason = job.solve(
        chosen.solver or make_solver(problem, plan),
        plan.iterations,
        stage=STAGE,
        tolerance=plan.tolerance,
        start=chosen.start,
        preview=lambda state: write_volume(job.folder, plan, problem.place, state.iterate),
        placement=Placement.at(problem.place, problem.volume_shape[0], agent_count(plan)),
        space=problem.space,
        kept=problem.storage.checkpoints_kept,
        cost=iteration_work(plan, schedule.estimate),
    )
    if job.speaks:
        # a picture of the way takes no room from the result; the last state is saved
        (job.folder / VOLUME_FILE).unlink(missing_ok=True)
    # the mean of agents that do not quite agree yet may lie a little below zero
    volume = state.iterate.clamp_(min=0.0) if plan.non_negative else state.iterate
    measures = state.measures()
    del state
    seen = replace(problem, read=counted.read, pixels=counted.pixels)
    summary = write_results(job.folder, plan, resolved, seen, images, volume, reference)
    ranks = {"rank_layout": str(schedule.layout)} if job.world.size > 1 else {}
    return {
        **summary,
        "method": plan.method,
        "volume_voxels": list(plan.volume_shape[::-1]),
        "stopped_because": str(reason),
        **(_damping(problem) if plan.method in DAMPED else {}),
        **({} if chosen.choice is None else chosen.choice.figures()),
        **measures,
        **ranks,
    }


def _settle(
    job: Job, source: ImageSource, plan: Plan, weights: tuple[MrcStack, ...], place: Place
) -> Settled:
    """Which pixels count how much, aloud."""
    job.progress.start(LOOKING, -(-len(source.series.geometry) // job.world.size), 0)
    device = own_device(plan.device, place.world)
    settled = settle_pixels(source, plan, weights, device, job.world, job.progress.update)
    for line in settled.lines:
        job.say(line)
    job.warn(*settled.warnings)
    return settled


def _filled(
    job: Job, problem: TiltProblem, images: PreparedImages, plan: Plan, estimate: Estimate
) -> TiltProblem:
    """Pixels that do not count filled by conjugate gradients, for all methods but these."""
    if problem.pixels is None or plan.method == "cg":
        return problem
    job.expect(filling(estimate))
    job.say(f"{plan.method} knows no weights of pixels: those without are filled by cg first")
    first = plan.filling(FILL_ITERATIONS)
    state, _ = job.solve(
        make_cg(damped(problem, first, images), plan.refresh),
        FILL_ITERATIONS,
        stage=FILL_STAGE,
        placement=Placement.at(problem.place, problem.volume_shape[0]),
        space=problem.space,
    )
    return filled_problem(problem, state.iterate)


def _damping(problem: TiltProblem) -> dict[str, object]:
    """In units of one view: at all frequencies, and for minus the Laplacian, its square and so on."""
    by_frequency = {"damping_by_frequency": list(problem.roughness)} if problem.roughness else {}
    return {"damping": problem.damping, **by_frequency}


def make_run_schedule(
    source: ImageSource,
    plan: Plan,
    options: ReconstructOptions,
    world: World,
    transfer: ResolvedTransfer | None = None,
) -> Schedule:
    """How the run is spread over the ranks of ``world``, and what it keeps in memory; the same on all ranks.

    Raises
    ------
    InputError
        If it fits in no way.
    """
    stored = sum(stack.stored_bytes for stack in source.series.stacks)
    hosts = world.gather(socket.gethostname())
    ranks_per_host = max(hosts.count(host) for host in hosts)
    free = world.gather(free_memory_bytes(plan.device, world, ranks_per_host))
    available = [size for size in free if size is not None]
    return make_schedule(
        plan,
        source.binned_geometry,
        stored,
        ranks=world.size,
        ranks_per_host=ranks_per_host,
        layout=options.layout,
        memory_gib=options.memory,
        available_bytes=min(available) if available else None,
        # with --edges auto and masks the images decide, which are read later
        weighed=plan.edges == "weigh" or plan.mask_beads or bool(options.weights),
        transfer=transfer_costs(plan, transfer, source),
    )


def make_problem(
    source: ImageSource,
    plan: Plan,
    place: Place | None = None,
    storage: Storage | None = None,
    schedule: Schedule | None = None,
    transfer: ResolvedTransfer | None = None,
    pixels: PixelWeights | None = None,
) -> tuple[TiltProblem, PreparedImages]:
    """The least-squares problem of a series, and its images as the problem sees them.

    The hand of a ``transfer`` must be known. ``pixels`` are weights of single pixels; None: all count.
    """
    place, storage = place or alone(), storage or Storage()
    if place.layout.slabs > 1 or storage.scratch is not None:
        give_back_freed(GIVEN_BACK_BYTES)
    device = own_device(plan.device, place.world)
    asks_noise = plan.method in DAMPED and plan.damping is None
    images = prepare(source, plan.normalise, device, place.world, measure_noise=asks_noise)
    geometry = source.binned_geometry
    arguments = (geometry, plan.volume_shape, source.shape[1:], source.pixel_size)
    pieces, block = (None, None) if schedule is None else (schedule.piece_slices, schedule.block_bytes)
    if transfer is not None and plan.ctf == "3d":
        projector: SlabProjector = TransferProjector(
            *arguments, transfer.transfer, exchange=place.within, piece_slices=pieces, block_bytes=block
        )
        images = before_transfer(images, transfer.transfer, source)
    else:
        projector = SlabProjector(
            *arguments,
            exchange=place.within,
            piece_slices=pieces,
            block_bytes=block,
            allocate_detectors=lambda shape: storage.allocate(shape, device),
        )
        images = replace(images, correct=correction_of(plan, transfer, source))
    problem = TiltProblem(
        projector=projector,
        read=images.read,
        weights=np.ones(len(geometry)),
        convolve=plan.normal == "convolution" and not (plan.ctf == "3d" and projected_sooner(projector)),
        pixels=pixels,
        device=device,
        place=place,
        storage=storage,
    )
    return damped(problem, plan, images), images


def _tell_transfer(job: Job, transfer: ResolvedTransfer, source: ImageSource, plan: Plan) -> ResolvedTransfer:
    """Say what is corrected with which numbers; find the hand in the images where it is not given."""
    job.warn(*transfer.warnings)
    for line in transfer.lines:
        job.say(line)
    if transfer.hand is not None:
        return transfer
    test = settle_hand(transfer, source) if job.world.rank == 0 else None
    if test is not None:
        job.say(test.words)
    hand, doubts = agree_on_hand(transfer, job.world.broadcast(None if test is None else test.hand))
    job.warn(*doubts)
    return transfer.with_hand(hand)


def _storage(stack: contextlib.ExitStack, schedule: Schedule, folder: Path) -> Storage:
    if not schedule.streamed:
        return Storage()
    scratch = stack.enter_context(ScratchFolder(folder / "scratch"))
    return Storage(scratch, schedule.work_bytes)


def _check_reference(reference: Path | None, plan: Plan) -> None:
    """Refuse a reference that the result cannot be compared with, before any work is done."""
    if reference is None:
        return
    header = read_header(reference)
    if header.shape != plan.volume_shape:
        raise InputError(
            f"the reference has {_sizes(header.shape)} voxels and the volume will have "
            f"{_sizes(plan.volume_shape)}",
            path=reference,
            fix="give a reference of the same size, or change --thickness or --bin",
        )


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape[::-1])


def _fingerprints(
    source: ImageSource, transfer: ResolvedTransfer | None, weights: tuple[MrcStack, ...]
) -> dict[str, str]:
    """What identifies the input: the stacks, geometry and contrast transfer as they were resolved."""
    prints = {
        f"{number + 1}: {stack.path.name}": files_fingerprint(stack.files)
        for number, stack in enumerate(source.series.stacks)
    }
    prints |= {
        f"weights {number + 1}: {stack.path.name}": files_fingerprint(stack.files)
        for number, stack in enumerate(weights)
    }
    geometry = source.binned_geometry
    digest = hashlib.sha256()
    for values in (geometry.matrices, geometry.series, geometry.sections):
        digest.update(np.ascontiguousarray(values).tobytes())
    found = {**prints, "geometry": digest.hexdigest(), "pixel size": repr(source.pixel_size)}
    return found if transfer is None else {**found, "contrast transfer": transfer.digest()}
