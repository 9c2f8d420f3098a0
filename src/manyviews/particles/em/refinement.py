"""Ab initio reconstruction by stochastic expectation maximisation: no gradient step anywhere.

Several random starts at low frequency on mini-batches, whose running sums are divided anew in every iteration
(online EM: Cappe & Moulines, J. R. Stat. Soc. B 71 (2009) 593); the start that explains some images best is
refined on growing batches at growing frequencies. E step: `manyviews.particles.em.expectation`; M step:
`manyviews.particles.em.maximisation`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.alignment.symmetry_axes import lay_on_axes
from manyviews.geometry.poses import random_rotations
from manyviews.operators.fourier_slice import FourierVolume
from manyviews.operators.fourier_sums import HALVES, FourierSums
from manyviews.parallel.world import SingleWorld, World
from manyviews.particles.em.expectation import PoseGrid, sample_everywhere
from manyviews.particles.em.maximisation import (
    LANES,
    RealSpaceConstraint,
    add_up,
    as_fourier_sums,
    half_correlation,
    half_volumes,
    whole_volume,
)
from manyviews.particles.em.plan import EmPlan, Task
from manyviews.particles.em.pose_grids import coarse_level
from manyviews.particles.em.pose_samples import NO_SAMPLES, PoseSamples
from manyviews.particles.em.pose_search import PoseSearch
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.images.fourier_resample import working_box
from manyviews.particles.images.random_start import power_scale, random_spheres

_START_DRAWS = 48
_JUDGES = 400
_AGREED = 0.143
_LOOKS_SYMMETRIC = 0.9  # at low resolution any compact particle has 0.8
_NO_SYMMETRY = np.eye(3)[None]


@dataclass(frozen=True)
class EmState:
    """All that is known between two iterations.

    Attributes
    ----------
    iteration
        Iterations done.
    volume
        Present map, a cube with as many voxels as its frequencies need, and with the images' in the end.
    numerator, denominator, radius
        Running `FourierSums`.
    halves
        Maps of the two halves where they are refined apart, else empty.
    finished
        Maps of the starts that are done.
    verdicts
        Mean log likelihood of the judging images under each of them.
    log_likelihood
        Of the last batch, mean of an image, without the images' own energy.
    correlation
        Of the halves, by shell.
    searched
        Poses scored for an image on average in the last iteration.
    image, rotations, shifts, weights
        `PoseSamples` of the particles that refinement has seen.
    """

    iteration: int
    volume: torch.Tensor
    numerator: torch.Tensor
    denominator: torch.Tensor
    radius: int
    halves: tuple[torch.Tensor, ...]
    finished: tuple[torch.Tensor, ...]
    verdicts: list[float]
    log_likelihood: float
    correlation: list[float]
    searched: float
    image: torch.Tensor
    rotations: torch.Tensor
    shifts: torch.Tensor
    weights: torch.Tensor

    @property
    def samples(self) -> PoseSamples:
        """Poses of the particles that refinement has seen."""
        parts = (self.image, self.rotations, self.shifts, self.weights)
        return PoseSamples(*(part.numpy() for part in parts))

    @property
    def sums(self) -> FourierSums:
        """Running numerators and denominators."""
        return FourierSums(self.numerator, self.denominator, self.radius)

    def measures(self) -> dict[str, float]:
        """Log likelihood, highest frequency in Fourier pixels, halves' agreement, poses scored an image."""
        return {
            "log_likelihood": self.log_likelihood,
            "radius": float(self.radius),
            "agreed_radius": float(agreed_radius(self.correlation)),
            "poses_an_image": self.searched,
            "starts_done": float(len(self.verdicts)),
        }


def own_particles(numbers: NDArray[np.int64], world: World) -> NDArray[np.bool_]:
    """Which particles a process works on: whole lanes, so that sums do not depend on how many there are."""
    return np.asarray(numbers % LANES % world.size == world.rank)


def agreed_radius(correlation: list[float]) -> int:
    """The last shell before the halves' correlation falls below 0.143."""
    for shell, value in enumerate(correlation):
        if shell > 0 and value < _AGREED:
            return shell - 1
    return max(0, len(correlation) - 1)


class StochasticEm:
    """Solver of the whole ab initio job.

    Parameters
    ----------
    images
        The particles of this process: those of its lanes (`own_particles`), in the order of their numbers.
    numbers
        ``(n,)`` their numbers among all particles.
    plan
        The iterations.
    positive
        Whether the density is nowhere below the solvent's.
    shift_sigma
        Prior standard deviation of a shift, pixels.
    seed
        Of all random numbers, each of which depends on it and the iteration only.
    symmetry
        ``(n, 3, 3)`` rotations of the particle's point group. Starts do without: imposed on a random map, it
        leads astray. The best of them is laid on the group's axes, then refined with it.
    independent
        Refine the halves of the particles apart.
    world
        The processes that share the particles.
    say
        Told in a sentence what was decided.
    device
        Where poses are scored and sums are made.
    """

    def __init__(
        self,
        images: FourierImages,
        numbers: NDArray[np.int64],
        plan: EmPlan,
        *,
        positive: bool = True,
        shift_sigma: float,
        seed: int,
        symmetry: NDArray[np.float64] | None = None,
        independent: bool = False,
        world: World | None = None,
        say: Callable[[str], None] | None = None,
        device: str = "cpu",
    ) -> None:
        self.images = images
        self.numbers = numbers
        self.plan = plan
        self.positive = positive
        self.shift_sigma = shift_sigma
        self.seed = seed
        self.symmetry = _NO_SYMMETRY if symmetry is None else symmetry
        self.independent = independent
        self.world = world or SingleWorld()
        self.say = say or (lambda text: None)
        self.device = device

    def init(self) -> EmState:
        """The first random start."""
        radius = self.plan.first_radius
        sums = FourierSums.zeros(radius)
        return EmState(
            iteration=0,
            volume=self._random_map(0),
            numerator=sums.numerator,
            denominator=sums.denominator,
            radius=radius,
            halves=(),
            finished=(),
            verdicts=[],
            log_likelihood=0.0,
            correlation=[0.0] * (radius + 1),
            searched=0.0,
            image=torch.zeros(0, dtype=torch.int64),
            rotations=torch.zeros((0, 3, 3)),
            shifts=torch.zeros((0, 2)),
            weights=torch.zeros(0),
        )

    def step(self, state: EmState) -> EmState:
        """One batch."""
        task = self.plan.task(state.iteration)
        state = replace(state, iteration=state.iteration + 1)
        if task.kind == "start":
            return self._start(state, task)
        return self._judge(state) if task.kind == "judge" else self._refine(state, task)

    def _random_map(self, start: int) -> torch.Tensor:
        seed = int(np.random.SeedSequence([self.seed, start]).generate_state(1)[0])
        box = working_box(self.plan.first_radius, self.images.box)
        spheres = random_spheres(box, seed)
        # lane 0 is on rank 0 however many there are
        few = np.flatnonzero(self.numbers % LANES == 0)[:_JUDGES]
        known = self.world.rank == 0 and len(few) > 0
        low = self.images.crop(self.plan.first_radius)
        scale = power_scale(spheres, low.select(few), seed) if known else 1.0
        return spheres * self.world.broadcast(scale)

    @lru_cache(maxsize=4)  # noqa: B019 - a handful of masks, as long as the solver lives
    def _shape(self, box: int) -> RealSpaceConstraint:
        return RealSpaceConstraint.sphere(box, self.plan.filled, self.positive)

    def _start(self, state: EmState, task: Task) -> EmState:
        """A mini-batch at low frequency, looked for everywhere."""
        plan = self.plan
        volume = self._random_map(task.start) if task.index == 0 else state.volume
        radius = plan.start_radius(task.index)
        rng = np.random.default_rng([self.seed, state.iteration])
        chosen = self._mini_batch(task)
        offsets = rng.random(len(chosen))
        own, places = self._own(chosen)
        grid = self._grid(volume, radius, rng)
        batch = self.images.crop(radius).select(places)
        lane = chosen[own] % LANES
        samples, logs = sample_everywhere(batch, grid, self.shift_sigma, offsets[own], _START_DRAWS, lane)
        new = self._maximise(batch, samples, chosen[own], radius, len(chosen), _NO_SYMMETRY)
        sums = new if task.index == 0 else state.sums.mixed(new, plan.share(task.index))
        return self._renewed(state, sums, self._mean(float(logs.sum()), len(chosen)), float(grid.size))

    def _judge(self, state: EmState) -> EmState:
        """The log likelihood of a few images under what a start came to; then choose among all starts."""
        rng = np.random.default_rng([self.seed, 0x1DE])
        count = min(_JUDGES, self.plan.particles)
        chosen = np.sort(rng.permutation(self.plan.particles)[:count])
        own, places = self._own(chosen)
        grid = self._grid(state.volume, state.radius, rng)
        batch = self.images.crop(state.radius).select(places)
        lane = chosen[own] % LANES
        _, logs = sample_everywhere(batch, grid, self.shift_sigma, np.zeros(len(batch)), 1, lane)
        verdict = self._mean(float(logs.sum()), count)
        verdicts, finished = [*state.verdicts, verdict], (*state.finished, state.volume)
        self.say(f"start {len(verdicts)} of {self.plan.starts}: log likelihood {verdict:.2f}")
        last = len(verdicts) == self.plan.starts
        volume = self._on_axes(finished[int(np.argmax(verdicts))]) if last else state.volume
        return replace(
            state, verdicts=verdicts, finished=finished, volume=volume, log_likelihood=verdict, searched=0.0
        )

    def _on_axes(self, volume: torch.Tensor) -> torch.Tensor:
        """A map of a start, which knows no symmetry, turned so that symmetry may be imposed from here on."""
        if len(self.symmetry) == 1:
            return volume
        found = lay_on_axes(volume.numpy(), self.symmetry, self.seed)
        self.say(f"symmetry of the best start: correlation {found.correlation:.2f} with itself")
        if found.correlation < _LOOKS_SYMMETRIC:
            self.say(
                "warning: the structure does not look as symmetric as that; "
                "compare with a run without --symmetry"
            )
        return (
            torch.from_numpy(found.volume).clamp_(min=0.0)
            if self.positive
            else torch.from_numpy(found.volume)
        )

    def _refine(self, state: EmState, task: Task) -> EmState:
        """A large batch at higher frequency."""
        plan = self.plan
        radius = plan.next_radius(state.radius, agreed_radius(state.correlation))
        rng = np.random.default_rng([self.seed, state.iteration])
        size = plan.refine_size(task.index, radius)
        chosen = np.sort(rng.permutation(plan.particles)[:size])
        own, places = self._own(chosen)
        offsets = rng.random(size)[own]
        turn = random_rotations(1, rng)[0].astype(np.float32)
        every = len(places) == len(self.images)
        batch = self.images if every else self.images.crop(radius).select(places)  # a copy
        known = NO_SAMPLES if plan.looks_everywhere(task.index) else self._known(state.samples, chosen[own])
        parts, total, searched = [], 0.0, 0.0
        for volume, members in self._references(state, chosen[own]):
            finder = PoseSearch(volume, radius, plan, self.images.box, self.shift_sigma, turn, self.device)
            found = finder.find(batch, members, known, offsets, chosen[own] % LANES)
            parts.append(found.samples)
            total += float(found.log_likelihood.sum())
            searched += found.searched
        samples = PoseSamples.concatenate(parts).sorted()
        new = self._maximise(batch, samples, chosen[own], radius, size, self.symmetry)
        renewed = self._renewed(state, new, self._mean(total, size), self._mean(searched, size))
        if self.independent:
            correlation = np.array(renewed.correlation)
            shape = self._shape(renewed.volume.shape[0])
            halves = half_volumes(new, correlation, shape, plan.last_start_radius)
            renewed = replace(renewed, halves=halves)
        return self._remember(renewed, samples, chosen, own)

    def _references(
        self, state: EmState, numbers: NDArray[np.int64]
    ) -> list[tuple[torch.Tensor, NDArray[np.int64]]]:
        """The maps to find poses with, and which images of a batch to find with each."""
        if not state.halves:
            return [(state.volume, np.arange(len(numbers)))]
        return [
            (volume, np.flatnonzero(numbers % HALVES == half)) for half, volume in enumerate(state.halves)
        ]

    def _known(self, samples: PoseSamples, chosen: NDArray[np.int64]) -> PoseSamples:
        """The poses known of a batch's images, numbered as in the batch."""
        place = np.full(self.plan.particles, -1)
        place[chosen] = np.arange(len(chosen))
        return samples.select(place[samples.image] >= 0).renumbered(place).sorted()

    def _grid(self, volume: torch.Tensor, radius: int, rng: np.random.Generator) -> PoseGrid:
        level = coarse_level(radius, self.images.box, self.plan.filled)
        turn = random_rotations(1, rng)[0].astype(np.float32)
        seen = FourierVolume.of(volume.to(self.device, torch.float32), radius)
        return PoseGrid.everywhere(seen, level, self.images.box, self.shift_sigma, turn)

    def _mini_batch(self, task: Task) -> NDArray[np.int64]:
        """The next images of a random order that is new in every pass through all of them."""
        count = self.plan.particles
        size = min(self.plan.batch, count)
        a_pass = count // size
        epoch, place = divmod(task.index, a_pass)
        order = np.random.default_rng([self.seed, task.start, epoch]).permutation(count)
        return np.sort(order[place * size : (place + 1) * size])

    def _own(self, chosen: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Which images of a batch this process holds, and where."""
        own = own_particles(chosen, self.world)
        return own, np.searchsorted(self.numbers, chosen[own])

    def _maximise(
        self,
        batch: FourierImages,
        samples: PoseSamples,
        numbers: NDArray[np.int64],
        radius: int,
        size: int,
        symmetry: NDArray[np.float64],
    ) -> FourierSums:
        """FourierSums of a batch over all processes, as if all particles had been in it."""
        numerator, denominator = add_up(batch, samples, numbers % LANES, radius, symmetry, self.device)
        total = self.world.sum(torch.from_numpy(numerator)), self.world.sum(torch.from_numpy(denominator))
        return as_fourier_sums(*total, radius, self.plan.particles / size)

    def _renewed(self, state: EmState, sums: FourierSums, log_likelihood: float, searched: float) -> EmState:
        """The state with new sums and their volume."""
        last = state.iteration == self.plan.iterations
        box = self.images.box if last else working_box(sums.radius, self.images.box)
        shape = self._shape(box)
        correlation = half_correlation(sums, shape)
        return replace(
            state,
            volume=whole_volume(sums, correlation, shape),
            numerator=sums.numerator,
            denominator=sums.denominator,
            radius=sums.radius,
            correlation=[float(value) for value in correlation],
            log_likelihood=log_likelihood,
            searched=searched,
        )

    def _remember(
        self, state: EmState, samples: PoseSamples, chosen: NDArray[np.int64], own: NDArray[np.bool_]
    ) -> EmState:
        """The state with new poses of the batch, from all processes."""
        mine = samples.renumbered(chosen[own])
        counts = self.world.gather(len(mine))
        fresh = [
            self.world.all_gather(torch.from_numpy(np.ascontiguousarray(part)), counts).numpy()
            for part in (mine.image, mine.rotations, mine.shifts, mine.weights)
        ]
        kept = state.samples
        kept = kept.select(~np.isin(kept.image, chosen))
        together = PoseSamples.concatenate([kept, PoseSamples(*fresh)]).sorted()
        return replace(
            state,
            image=torch.from_numpy(together.image),
            rotations=torch.from_numpy(together.rotations),
            shifts=torch.from_numpy(together.shifts),
            weights=torch.from_numpy(together.weights),
        )

    def _mean(self, value: float, count: int) -> float:
        """Sum over all processes over ``count``."""
        return float(self.world.sum(torch.tensor([value], dtype=torch.float64))[0]) / count
