"""The ab initio job: from particle images to a map and their poses, top to bottom."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.io.atomic import atomic_write
from manyviews.io.mrc import read_header
from manyviews.io.particle_images import ParticleImages
from manyviews.io.particle_table import ParticleTable
from manyviews.io.scratch import ScratchFolder
from manyviews.io.sizes import format_bytes
from manyviews.parallel.launch import local_threads, set_threads
from manyviews.parallel.world import SingleWorld, World
from manyviews.particles.em.refinement import own_particles
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.images.load import Allocate, image_bytes, noise_spectrum, read_fourier_images
from manyviews.particles.job import Job
from manyviews.particles.methods import METHODS
from manyviews.particles.options import AbinitioOptions, ParticleOptions
from manyviews.particles.plan import Plan, load_table, resolve_plan
from manyviews.particles.results import RESULTS, write_results
from manyviews.report.build import REPORT_NAME, build_report
from manyviews.runs.fingerprint import fingerprint, sampled_fingerprint
from manyviews.runs.folder import RunFolder
from manyviews.runs.interrupt import Interrupt
from manyviews.runs.memory import available_memory_bytes, peak_memory_bytes, require_disk
from manyviews.runs.progress import Progress

_SHARE_FOR_IMAGES = 0.7


@dataclass(frozen=True)
class Abinitio:
    """Where the result is, and its key figures by name (on the first rank; empty on the others)."""

    run_folder: Path
    report: Path
    summary: dict[str, object]


def abinitio(
    particles: ParticleOptions,
    options: AbinitioOptions,
    out: Path,
    *,
    overwrite: bool = False,
    command: Sequence[str] = (),
    quiet: bool = False,
    checkpoint_seconds: float = 30.0,
    world: World | None = None,
) -> Abinitio:
    """Find the structure and the poses of particles from nothing but their images.

    Parameters
    ----------
    particles, options
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
    plan = resolve_plan(options, len(table), ParticleImages(table).box, table.pixel_size)
    _check_reference(plan)
    symmetry = symmetry_rotations(options.symmetry)
    set_threads(options.threads or local_threads(world))
    with contextlib.ExitStack() as stack:
        run = stack.enter_context(
            RunFolder.open(
                out,
                job="particles abinitio",
                options=plan.record(),
                inputs=_fingerprints(particles, table),
                command=command,
                seed=options.seed,
                overwrite=overwrite,
                world=world,
            )
        )
        progress = stack.enter_context(Progress(quiet=quiet or world.rank > 0))
        interrupt = stack.enter_context(Interrupt())
        if run.finished:
            return _already(run, progress)
        for warning in table.warnings if world.rank == 0 else ():
            run.log(f"warning: {warning}")
            progress.message(f"warning: {warning}")
        images, numbers = _load(stack, table, plan, run, progress)
        job = Job(plan, table, images, numbers, symmetry, run, progress, interrupt, checkpoint_seconds)
        found = METHODS[options.method](job)
        peaks = world.gather(peak_memory_bytes())
        if world.rank > 0:
            return Abinitio(out, out / REPORT_NAME, {})
        summary = write_results(out, plan, table, found)
        summary |= {
            "wall seconds": round(time.monotonic() - began, 2),
            "peak memory" if world.size == 1 else "peak memory of a rank": format_bytes(max(peaks)),
            "peak memory bytes": max(peaks),
        }
        atomic_write(out / "summary.json", json.dumps(summary, indent=1).encode(), overwrite=True)
        run.finish([*RESULTS, *(["fsc_reference.csv"] if options.reference else [])])
        return Abinitio(out, build_report(out), summary)


def _load(
    stack: contextlib.ExitStack, table: ParticleTable, plan: Plan, run: RunFolder, progress: Progress
) -> tuple[FourierImages, NDArray[np.int64]]:
    """This process's images, in memory or in files, with the noise of all."""
    world = run.world
    everyone = np.arange(len(table))
    numbers = everyone[own_particles(everyone, world)]
    allocate: Allocate = np.empty
    size = image_bytes(len(numbers), plan.radius)
    room = _room(plan.options.memory, world)
    if room is not None and size > room:
        folder = plan.options.scratch or run.path
        require_disk(folder, size)
        run.log(f"images are kept in files in {folder}: {format_bytes(size)}")
        progress.message(f"images are kept in files: {format_bytes(size)}")
        allocate = stack.enter_context(ScratchFolder(folder / "scratch")).allocate
    progress.start("read images", len(numbers))
    images, spectra, counts = read_fourier_images(
        table,
        numbers,
        radius=plan.radius,
        diameter=plan.diameter,
        allocate=allocate,
        tell=progress.update,
        threads=torch.get_num_threads(),
    )
    total = world.sum(torch.from_numpy(spectra)).numpy()
    count = world.sum(torch.from_numpy(counts)).numpy()
    return replace(images, noise_variance=noise_spectrum(total, count, plan.box)), numbers


def _room(memory_gib: float | None, world: World) -> float | None:
    """Bytes that images may take in this process: most of what it may use; None where nobody knows."""
    if memory_gib is not None:
        return _SHARE_FOR_IMAGES * memory_gib * 2**30
    free = available_memory_bytes()
    hosts = world.gather(socket.gethostname())
    return None if free is None else _SHARE_FOR_IMAGES * free / hosts.count(socket.gethostname())


def _fingerprints(particles: ParticleOptions, table: ParticleTable) -> dict[str, str]:
    """What identifies the input: the tables whole, the stacks by their size, beginning and end."""
    tables = [path for path in (particles.particles, particles.passthrough) if path is not None]
    used = [table.stacks[number] for number in np.unique(table.stack_index)]
    return {
        **{str(path): fingerprint(path) for path in tables},
        **{str(path): sampled_fingerprint(path) for path in used},
    }


def _check_reference(plan: Plan) -> None:
    """Refuse a reference that the result cannot be compared with, before any work is done."""
    reference = plan.options.reference
    if reference is None:
        return
    shape = read_header(reference).shape
    if shape != (plan.box,) * 3:
        raise InputError(
            f"the reference has {' x '.join(map(str, shape[::-1]))} voxels, the map will have {plan.box} "
            "along each side",
            path=reference,
            fix="give a map of the images' size",
        )


def _already(run: RunFolder, progress: Progress) -> Abinitio:
    """What a run that was finished before returns."""
    if run.world.rank > 0:
        return Abinitio(run.path, run.path / REPORT_NAME, {})
    progress.message(f"{run.path} holds this run already, finished; nothing to do")
    summary: dict[str, object] = json.loads((run.path / "summary.json").read_text())
    return Abinitio(run.path, build_report(run.path), summary)
