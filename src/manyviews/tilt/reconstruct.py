"""The tilt job: from stacks and their geometry to one volume, top to bottom."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from manyviews.errors import InputError
from manyviews.io.atomic import atomic_write
from manyviews.io.mrc import read_header
from manyviews.io.scratch import ScratchFolder
from manyviews.io.sizes import format_bytes
from manyviews.operators.tilt_projector import TiltProjector
from manyviews.parallel.launch import local_rank, local_threads, set_threads
from manyviews.parallel.layout import Place, alone, take_place
from manyviews.parallel.world import SingleWorld, World
from manyviews.report.build import REPORT_NAME, build_report
from manyviews.runs.driver import drive
from manyviews.runs.fingerprint import sampled_fingerprint
from manyviews.runs.folder import RunFolder
from manyviews.runs.interrupt import Interrupt
from manyviews.runs.memory import available_memory_bytes, peak_memory_bytes, require_disk
from manyviews.runs.placement import Placement
from manyviews.runs.progress import Progress
from manyviews.solvers.driver import StopReason
from manyviews.tilt.cost.schedule import Schedule, make_schedule
from manyviews.tilt.methods import agent_count, make_solver
from manyviews.tilt.options import ReconstructOptions, SeriesOptions
from manyviews.tilt.plan import Plan, resolve_plan
from manyviews.tilt.results import TABLES, VOLUME_FILE, write_results
from manyviews.tilt.series.images import ImageSource
from manyviews.tilt.series.normalise import PreparedImages, prepare
from manyviews.tilt.series.resolve import ResolvedSeries, resolve_series
from manyviews.tilt.solve.problem import TiltProblem
from manyviews.tilt.solve.storage import Storage

_DAMPED = ("cg", "consensus", "wbp")
# Damping in units of one view for a noise-to-signal ratio of 1. With a white signal the best linear answer
# has 1; real ones have little signal at high frequency, and 10 is about best there (docs/accuracy.md).
_DAMPING_PER_NOISE = 10.0


@dataclass(frozen=True)
class Reconstructed:
    """Where the result is, and its key figures by name (on the first rank; empty on the others)."""

    run_folder: Path
    report: Path
    summary: dict[str, object]


def reconstruct(
    series: SeriesOptions,
    options: ReconstructOptions,
    out: Path,
    *,
    overwrite: bool = False,
    command: Sequence[str] = (),
    quiet: bool = False,
    checkpoint_seconds: float = 30.0,
    world: World | None = None,
) -> Reconstructed:
    """Reconstruct one volume from one or several tilt series.

    Parameters
    ----------
    series, options
        What from, and how.
    out
        Run folder; the same call on the same folder goes on where an earlier one stopped.
    overwrite
        Start afresh in a folder that holds a run.
    command
        The command line, for the record.
    quiet
        No progress.
    checkpoint_seconds
        Least time between checkpoints; 0: one an iteration.
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
    source = ImageSource(resolved, options.bin, options.invert_contrast)
    plan = resolve_plan(options, source)
    _check_reference(options.reference, plan)
    schedule = make_run_schedule(source, plan, options, world)
    set_threads(plan.threads or local_threads(world))
    place = take_place(world, schedule.layout)
    if place is None:
        return _elsewhere(out)
    with contextlib.ExitStack() as stack:
        storage = _storage(stack, schedule, options.scratch or out)
        # Before the run begins: blank or broken images leave no half-made run behind.
        problem, images = make_problem(source, plan, place, storage, schedule)
        run = stack.enter_context(
            RunFolder.open(
                out,
                job="tilt reconstruct",
                options=_record(plan, options),
                inputs=_fingerprints(source),
                command=command,
                overwrite=overwrite,
                world=place.world,
            )
        )
        progress = stack.enter_context(Progress(quiet=quiet or place.world.rank > 0))
        interrupt = stack.enter_context(Interrupt())
        return _run(
            _Job(resolved, plan, schedule, problem, images, options.reference, began),
            run,
            progress,
            interrupt,
            checkpoint_seconds,
        )


@dataclass(frozen=True)
class _Job:
    """All that a run works with."""

    resolved: ResolvedSeries
    plan: Plan
    schedule: Schedule
    problem: TiltProblem
    images: PreparedImages
    reference: Path | None
    began: float


def _run(
    job: _Job, run: RunFolder, progress: Progress, interrupt: Interrupt, checkpoint_seconds: float
) -> Reconstructed:
    """From the opened run folder to the report."""
    plan, problem, world = job.plan, job.problem, job.problem.place.world
    speaks = world.rank == 0
    if run.finished:
        if not speaks:
            return _elsewhere(run.path)
        progress.message(f"{run.path} holds this run already, finished; nothing to do")
        return Reconstructed(run.path, build_report(run.path), _read_summary(run.path))
    notes = [*(f"warning: {warning}" for warning in job.resolved.warnings), *job.schedule.lines()]
    for note in notes if speaks else ():
        run.log(note)
        progress.message(note)
    if speaks:
        require_disk(run.path, 4 * int(np.prod(plan.volume_shape)))
        progress.message(f"{plan.method}: back-projecting {len(problem.weights)} views")
    solver = make_solver(problem, plan)
    state, reason = drive(
        solver,
        solver.init(),
        iterations=plan.iterations,
        run=run,
        progress=progress,
        interrupt=interrupt,
        checkpoint_seconds=checkpoint_seconds,
        placement=Placement.at(problem.place, problem.volume_shape[0], agent_count(plan)),
        space=problem.space,
        kept=1 if job.schedule.streamed else 2,
    )
    volume = state.volume
    if plan.non_negative:
        # the mean of agents that do not quite agree yet may lie a little below zero
        volume = volume.clamp_(min=0.0)
    measures = state.measures()
    del solver, state
    summary = write_results(run.path, plan, job.resolved, problem, job.images, volume, job.reference)
    peaks = world.gather(peak_memory_bytes())
    if not speaks:
        return _elsewhere(run.path)
    summary |= _run_figures(plan, reason, measures, peaks, job.began, streamed=job.schedule.streamed)
    if world.size > 1:
        summary["ranks (groups x slabs)"] = str(job.schedule.layout)
    atomic_write(run.path / "summary.json", json.dumps(summary, indent=1).encode(), overwrite=True)
    run.finish([VOLUME_FILE, *TABLES, *(["fsc.csv"] if job.reference else [])])
    return Reconstructed(run.path, build_report(run.path), summary)


def _elsewhere(folder: Path) -> Reconstructed:
    """What a rank returns that does not speak."""
    return Reconstructed(folder, folder / REPORT_NAME, {})


def make_run_schedule(source: ImageSource, plan: Plan, options: ReconstructOptions, world: World) -> Schedule:
    """How the run is spread over the ranks of ``world``, and what it keeps in memory; the same on all ranks.

    Raises
    ------
    InputError
        If it fits in no way.
    """
    stored = sum(stack.path.stat().st_size for stack in source.series.stacks)
    hosts = world.gather(socket.gethostname())
    available = [size for size in world.gather(available_memory_bytes()) if size is not None]
    return make_schedule(
        plan,
        source.binned_geometry,
        stored,
        ranks=world.size,
        ranks_per_host=max(hosts.count(host) for host in hosts),
        layout=options.layout,
        memory_gib=options.memory,
        available_bytes=min(available) if available else None,
    )


def make_problem(
    source: ImageSource,
    plan: Plan,
    place: Place | None = None,
    storage: Storage | None = None,
    schedule: Schedule | None = None,
) -> tuple[TiltProblem, PreparedImages]:
    """The least-squares problem of a series, and its images as the problem sees them."""
    place = place or alone()
    device = _own_device(plan.device, place.world)
    asks_noise = plan.method in _DAMPED and plan.damping is None
    images = prepare(source, plan.normalise, device, place.world, measure_noise=asks_noise)
    geometry = source.binned_geometry
    projector = TiltProjector(
        geometry,
        plan.volume_shape,
        source.shape[1:],
        source.pixel_size,
        exchange=place.within,
        piece_slices=None if schedule is None else schedule.piece_slices,
        block_bytes=None if schedule is None else schedule.block_bytes,
    )
    problem = TiltProblem(
        projector=projector,
        read=images.read,
        weights=np.ones(len(geometry)),
        damping=_damping(plan, images),
        convolve=plan.normal == "convolution",
        device=device,
        place=place,
        storage=storage or Storage(),
    )
    return problem, images


def _own_device(device: str, world: World) -> torch.device:
    """One GPU for each rank of a host."""
    if device != "cuda":
        return torch.device(device)
    return torch.device("cuda", local_rank(world) % torch.cuda.device_count())


def _storage(stack: contextlib.ExitStack, schedule: Schedule, folder: Path) -> Storage:
    if not schedule.streamed:
        return Storage()
    scratch = stack.enter_context(ScratchFolder(folder / "scratch"))
    return Storage(scratch, schedule.work_bytes)


def _record(plan: Plan, options: ReconstructOptions) -> dict[str, Any]:
    reference = None if options.reference is None else str(options.reference)
    return {**plan.record(), "reference": reference}


def _damping(plan: Plan, images: PreparedImages) -> float:
    """What was asked for, or what suits the noise; the paper's own methods are not damped."""
    if plan.damping is not None:
        return plan.damping
    return _DAMPING_PER_NOISE * images.noise_to_signal if plan.method in _DAMPED else 0.0


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


def _fingerprints(source: ImageSource) -> dict[str, str]:
    """What identifies the input: the stacks, and the geometry as it was resolved."""
    prints = {
        f"{number + 1}: {stack.path.name}": sampled_fingerprint(stack.path)
        for number, stack in enumerate(source.series.stacks)
    }
    geometry = source.binned_geometry
    digest = hashlib.sha256()
    for values in (geometry.matrices, geometry.series, geometry.sections):
        digest.update(np.ascontiguousarray(values).tobytes())
    return {**prints, "geometry": digest.hexdigest(), "pixel size": repr(source.pixel_size)}


def _run_figures(
    plan: Plan,
    reason: StopReason,
    measures: dict[str, float],
    peaks: list[int],
    began: float,
    *,
    streamed: bool,
) -> dict[str, object]:
    peak = "peak memory" if len(peaks) == 1 else "peak memory of a rank"
    return {
        "method": plan.method,
        "volume (x, y, z)": list(plan.volume_shape[::-1]),
        "stopped because": str(reason),
        **{name.replace("_", " "): value for name, value in measures.items()},
        "wall seconds": round(time.monotonic() - began, 2),
        # what is mapped of files counts, though the system may take it back
        f"{peak}, mapped files included" if streamed else peak: format_bytes(max(peaks)),
        "peak memory bytes": max(peaks),
    }


def _read_summary(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "summary.json").read_text())
    return found
