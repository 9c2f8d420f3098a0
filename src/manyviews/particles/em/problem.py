"""The particles of one process, and the E and M steps of a batch over all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.geometry.poses import random_rotations
from manyviews.operators.fourier_slice import FourierVolume
from manyviews.operators.fourier_sums import HALVES, FourierSums
from manyviews.parallel.lanes import LANES, own_particles
from manyviews.parallel.world import SingleWorld, World
from manyviews.particles.em.expectation import PoseGrid
from manyviews.particles.em.maximisation import (
    RealSpaceConstraint,
    add_up,
    as_fourier_sums,
    half_correlation,
    whole_volume,
)
from manyviews.particles.em.plan import EmPlan
from manyviews.particles.em.pose_grids import coarse_level
from manyviews.particles.em.pose_samples import PoseSamples
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.images.fourier_resample import working_box

NO_SYMMETRY = np.eye(3)[None]


@lru_cache(maxsize=4)
def _constraint(box: int, filled: float, positive: bool) -> RealSpaceConstraint:
    return RealSpaceConstraint.sphere(box, filled, positive)


def _say_nothing(text: str) -> None:
    pass


@dataclass(frozen=True)
class EmProblem:
    """Particles whose poses and map are wanted.

    Attributes
    ----------
    images, numbers
        The particles of this process, those of its lanes (`own_particles`), in the order of their numbers
        ``(n,)``; numbers go up to the plan's, and some may be nobody's.
    plan
        The iterations.
    shift_sigma
        Prior standard deviation of a shift, pixels.
    seed
        Of all random numbers, each of which depends on it and the iteration only.
    positive
        Whether the density is nowhere below the solvent's.
    symmetry
        ``(n, 3, 3)`` rotations of the particle's point group. Starts do without: imposed on a random map, it
        leads astray. The best of them is laid on the group's axes, then refined with it.
    independent
        Refine the halves of the particles apart.
    world
        The processes that share the particles.
    say, warn
        Told in a sentence what was decided, and what looks wrong.
    device
        Where poses are scored and sums are made.
    """

    images: FourierImages
    numbers: NDArray[np.int64]
    plan: EmPlan
    shift_sigma: float
    seed: int
    positive: bool = True
    symmetry: NDArray[np.float64] = field(default_factory=lambda: NO_SYMMETRY)
    independent: bool = False
    world: World = field(default_factory=SingleWorld)
    say: Callable[[str], None] = _say_nothing
    warn: Callable[[str], None] = _say_nothing
    device: str = "cpu"

    def constraint(self, box: int) -> RealSpaceConstraint:
        """What is known of the density of a map with ``box`` voxels a side."""
        return _constraint(box, self.plan.filled, self.positive)

    def own(self, chosen: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Which images of a batch this process holds, and where; some numbers may be nobody's."""
        own = own_particles(chosen, self.world) & np.isin(chosen, self.numbers)
        return own, np.searchsorted(self.numbers, chosen[own])

    def grid(self, volume: torch.Tensor, radius: int, rng: np.random.Generator) -> PoseGrid:
        """Poses to score everywhere, the grid turned at random."""
        level = coarse_level(radius, self.images.box, self.plan.filled)
        rotation = random_rotations(1, rng)[0].astype(np.float32)
        seen = FourierVolume.of(volume.to(self.device, torch.float32), radius)
        return PoseGrid.everywhere(seen, level, self.images.box, self.shift_sigma, rotation)

    def sums(
        self,
        batch: FourierImages,
        samples: PoseSamples,
        numbers: NDArray[np.int64],
        radius: int,
        size: int,
        symmetry: NDArray[np.float64],
    ) -> FourierSums:
        """Sums of a batch over all processes, as if all particles had been in it."""
        lane = numbers % LANES

        def over_all(half: int) -> tuple[torch.Tensor, torch.Tensor]:
            numerator, denominator = add_up(batch, samples, lane, half, radius, symmetry, self.device)
            return self.world.sum(numerator), self.world.sum(denominator)

        return as_fourier_sums(map(over_all, range(HALVES)), radius, self.plan.particles / size)

    def volume(self, sums: FourierSums, *, last: bool = False) -> tuple[torch.Tensor, list[float]]:
        """The map of some sums, with the images' box in the ``last`` iteration, and the halves' FSC."""
        box = self.images.box if last else working_box(sums.radius, self.images.box)
        constraint = self.constraint(box)
        correlation = half_correlation(sums, constraint)
        return whole_volume(sums, correlation, constraint), [float(value) for value in correlation]

    def mean(self, value: float, count: int) -> float:
        """Sum over all processes over ``count``."""
        return float(self.world.sum(torch.tensor([value], dtype=torch.float64))[0]) / count

    def remembered(self, known: PoseSamples, found: PoseSamples, renewed: NDArray[np.int64]) -> PoseSamples:
        """The poses known, with those of the particles ``renewed (n,)`` found anew, from all processes.

        ``found`` are this process's, numbered as the particles are.
        """
        counts = self.world.gather(len(found))
        fresh = [
            self.world.all_gather(torch.from_numpy(np.ascontiguousarray(part)), counts).numpy()
            for part in (found.image, found.rotations, found.shifts, found.weights)
        ]
        kept = known.select(~np.isin(known.image, renewed))
        return PoseSamples.concatenate([kept, PoseSamples(*fresh)]).sorted()
