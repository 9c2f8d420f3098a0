"""The images that a rank works on, in memory or in files, and what identifies the input of a job."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.io.particle_table import ParticleTable
from manyviews.io.scratch import ScratchFolder
from manyviews.io.sizes import format_bytes
from manyviews.jobs.memory import room_for_data
from manyviews.jobs.run import Job
from manyviews.options import MachineOptions
from manyviews.parallel.lanes import own_particles
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.images.load import Allocate, Mend, image_bytes, noise_spectrum, read_fourier_images
from manyviews.particles.options import ParticleOptions
from manyviews.runs.fingerprint import fingerprint, sampled_fingerprint
from manyviews.runs.memory import require_disk

READING = "read images"


class Sizes(Protocol):
    """What a plan says of its images: see `manyviews.particles.plan.Plan`."""

    @property
    def box(self) -> int:
        """Pixels along a side."""

    @property
    def radius(self) -> int:
        """Highest frequency, Fourier pixels."""

    @property
    def diameter(self) -> float:
        """Of the particle, angstrom."""


def own_images(
    stack: contextlib.ExitStack,
    job: Job,
    table: ParticleTable,
    plan: Sizes,
    machine: MachineOptions,
    mend: Mend,
    numbers: NDArray[np.int64] | None = None,
) -> tuple[FourierImages, NDArray[np.int64]]:
    """This process's images, in memory or in files, with the noise of all; and which of the table they are.

    ``mend`` is as of `read_fourier_images`; ``numbers (N,)`` say which process a particle belongs to, the
    rows of the table if they are not given.
    """
    world = job.world
    everyone = np.arange(len(table))
    own = np.flatnonzero(own_particles(everyone if numbers is None else numbers, world))
    allocate: Allocate = np.empty
    size = image_bytes(len(own), plan.radius)
    room = room_for_data(machine.memory, world)
    if room is not None and size > room:
        folder = machine.scratch or job.folder
        require_disk(folder, size)
        job.say(f"images are kept in files in {folder}: {format_bytes(size)}")
        allocate = stack.enter_context(ScratchFolder(folder / "scratch")).allocate
    job.progress.start(READING, len(own), 0)
    images, spectra, counts = read_fourier_images(
        table,
        own,
        radius=plan.radius,
        diameter=plan.diameter,
        mend=mend,
        allocate=allocate,
        tell=job.progress.update,
        threads=torch.get_num_threads(),
    )
    total = world.sum(torch.from_numpy(spectra)).numpy()
    count = world.sum(torch.from_numpy(counts)).numpy()
    return replace(images, noise_variance=noise_spectrum(total, count, plan.box)), own


def fingerprints(particles: ParticleOptions, table: ParticleTable) -> dict[str, str]:
    """What identifies the input: the tables whole, the stacks by their size, beginning and end."""
    tables = [path for path in (particles.particles, particles.passthrough) if path is not None]
    used = [table.stacks[number] for number in np.unique(table.stack_index)]
    return {
        **{str(path): fingerprint(path) for path in tables},
        **{str(path): sampled_fingerprint(path) for path in used},
    }
