"""The ab initio job: from particle images to a map and their poses, top to bottom."""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.io.mrc import read_header
from manyviews.io.particle_images import ParticleImages
from manyviews.io.particle_table import ParticleTable
from manyviews.io.scratch import ScratchFolder
from manyviews.io.sizes import format_bytes
from manyviews.jobs.run import Job, JobResult, start_job
from manyviews.options import RunOptions
from manyviews.parallel.world import SingleWorld, World
from manyviews.particles.em.problem import own_particles
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.images.load import Allocate, image_bytes, noise_spectrum, read_fourier_images
from manyviews.particles.methods import METHODS, Particles, check_ranks
from manyviews.particles.options import AbinitioOptions, ParticleOptions
from manyviews.particles.plan import Plan, load_table, resolve_plan
from manyviews.particles.report import PICTURES, sections
from manyviews.particles.results import RESULTS, write_results
from manyviews.runs.fingerprint import fingerprint, sampled_fingerprint
from manyviews.runs.memory import available_memory_bytes, require_disk

_SHARE_FOR_IMAGES = 0.7


def abinitio(
    particles: ParticleOptions, options: AbinitioOptions, run: RunOptions, *, world: World | None = None
) -> JobResult:
    """Find the structure and the poses of particles from nothing but their images.

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
    plan = resolve_plan(options, len(table), ParticleImages(table).box, table.pixel_size)
    _check_reference(plan)
    check_ranks(plan, world.size)
    symmetry = symmetry_rotations(options.symmetry)
    with start_job(
        "particles abinitio",
        run,
        options,
        record=plan.record(),
        inputs=_fingerprints(particles, table),
        results=RESULTS,
        pictures=PICTURES,
        sections=sections,
        seed=options.seed,
        world=world,
        began=began,
    ) as job:
        if job.finished:
            return job.result()
        job.warn(table.warnings)
        with contextlib.ExitStack() as stack:
            images, numbers = _load(stack, job, table, plan)
            found = METHODS[options.method](job, Particles(plan, images, numbers, symmetry))
        return job.finish(write_results(job.folder, plan, table, found) if job.speaks else {})


def _load(
    stack: contextlib.ExitStack, job: Job, table: ParticleTable, plan: Plan
) -> tuple[FourierImages, NDArray[np.int64]]:
    """This process's images, in memory or in files, with the noise of all."""
    world = job.world
    everyone = np.arange(len(table))
    numbers = everyone[own_particles(everyone, world)]
    allocate: Allocate = np.empty
    size = image_bytes(len(numbers), plan.radius)
    room = _room(plan.options.memory, world)
    if room is not None and size > room:
        folder = plan.options.scratch or job.folder
        require_disk(folder, size)
        job.say(f"images are kept in files in {folder}: {format_bytes(size)}")
        allocate = stack.enter_context(ScratchFolder(folder / "scratch")).allocate
    job.progress.start("read images", len(numbers))
    images, spectra, counts = read_fourier_images(
        table,
        numbers,
        radius=plan.radius,
        diameter=plan.diameter,
        allocate=allocate,
        tell=job.progress.update,
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
