"""What the methods of the ab initio job work with, and what they come to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.io.particle_table import ParticleTable
from manyviews.particles.em.pose_samples import PoseSamples
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.plan import Plan
from manyviews.runs.folder import RunFolder
from manyviews.runs.interrupt import Interrupt
from manyviews.runs.progress import Progress


@dataclass(frozen=True)
class Job:
    """All that a run works with.

    Attributes
    ----------
    plan, table
        What to do, and with which particles.
    images, numbers
        The particles of this process, and which they are.
    symmetry
        ``(n, 3, 3)`` rotations of the point group.
    run, progress, interrupt
        Where it is written down, shown and stopped.
    checkpoint_seconds
        Least time between two checkpoints.
    """

    plan: Plan
    table: ParticleTable
    images: FourierImages
    numbers: NDArray[np.int64]
    symmetry: NDArray[np.float64]
    run: RunFolder
    progress: Progress
    interrupt: Interrupt
    checkpoint_seconds: float

    def say(self, text: str) -> None:
        """Tell the log and the user, from the first rank."""
        if self.run.world.rank == 0:
            self.run.log(text)
            self.progress.message(text)


@dataclass(frozen=True)
class Structure:
    """What a method found.

    Attributes
    ----------
    volume
        ``(D, D, D)``.
    samples
        Poses of all particles.
    correlation
        Fourier shell correlation of the halves by shell; empty where there are none.
    independent
        Whether the halves were refined apart.
    figures
        Key figures by name.
    """

    volume: torch.Tensor
    samples: PoseSamples
    correlation: list[float]
    independent: bool
    figures: dict[str, object]
