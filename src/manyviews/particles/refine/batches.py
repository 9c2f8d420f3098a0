"""Refinement of two halves apart by methods other than EM, on batches of the images or on all of them.

E step, maps and the rest are as in `manyviews.particles.refine.solver`; what a batch does to the halves is
told by `manyviews.particles.refine.updates`. Poses, noise and frequencies are renewed with every batch;
images are judged where a batch is all of them, as in the last passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.metrics.fsc import agreed_radius
from manyviews.operators.fourier_slice import FourierVolume
from manyviews.operators.fourier_sums import HALVES, FourierSums
from manyviews.parallel.lanes import LANES
from manyviews.particles.em.pose_grids import coarse_level
from manyviews.particles.em.pose_samples import PoseSamples
from manyviews.particles.em.pose_summary import summarise_poses
from manyviews.particles.em.problem import EmProblem
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.options import RefineMethod
from manyviews.particles.refine.curvature import ShellCurvature, shell_curvature
from manyviews.particles.refine.expectation import expectation, over_all
from manyviews.particles.refine.judgement import believed_samples
from manyviews.particles.refine.residuals import Residuals
from manyviews.particles.refine.scales import ContrastGroups
from manyviews.particles.refine.solver import BELIEVED, HalvesRefinement
from manyviews.particles.refine.state import HalvesState
from manyviews.particles.refine.updates import (
    Anderson,
    Estimate,
    Memory,
    PlainSgd,
    Preconditioned,
    Update,
    Vdam,
    share_of,
)
from manyviews.random import Stream, generator

UPDATES: dict[RefineMethod, Callable[[], Update]] = {
    "accelerated-em": Anderson,
    "preconditioned-sgd": Preconditioned,
    "sgd": PlainSgd,
    "vdam": Vdam,
}

_LOOK_AGAIN = 1.5  # times the radius at which images were last looked for everywhere, before they are again
_BATCH_SHARE, _LEAST_BATCH = 0.1, 500  # of the images
_PROBED = 100  # images of each half's batch that probes of the Hessian see


@dataclass(frozen=True)
class BatchState(HalvesState):
    """Between two batches.

    Attributes
    ----------
    x, weight, memory
        `Estimate` of both halves, at frequencies up to the last batch's.
    power, left, counted
        `Residuals` of the batches so far, the newest weighing most.
    em_curvature, covariance
        ``(2, shells)`` `ShellCurvature` of each half's batches so far, likewise; zeros where EM's diagonal is
        taken as it is.
    looked
        The radius at which images whose poses were not sure were last looked for everywhere.
    passes
        Through all images so far.
    """

    x: torch.Tensor
    weight: torch.Tensor
    memory: Memory
    power: torch.Tensor
    left: torch.Tensor
    counted: torch.Tensor
    em_curvature: torch.Tensor
    covariance: torch.Tensor
    looked: int
    passes: float

    def measures(self) -> dict[str, float]:
        """As of `HalvesState`, and passes through all images."""
        return {**super().measures(), "data_passes": self.passes}


@dataclass(frozen=True)
class Schedule:
    """Into how many batches each pass through all images is divided: ``first``, and half as many every time.

    Small batches bring a map fast to where they are too noisy for it; the last ones are all images.
    """

    first: int

    def batches(self, number: int) -> int:
        """Of a pass, from number 0 on."""
        return -(-self.first // (1 << number))

    def steps(self, passes: int) -> int:
        """Batches in so many passes."""
        return sum(self.batches(number) for number in range(passes))

    def place(self, iteration: int) -> tuple[int, int]:
        """Pass of a batch, and which batch of that it is."""
        number = 0
        while iteration >= self.batches(number):
            iteration -= self.batches(number)
            number += 1
        return number, iteration


def batch_size(particles: int) -> int:
    """Images of a batch where nothing else is asked for: a tenth, but 500 at least."""
    return min(particles, max(_LEAST_BATCH, math.ceil(_BATCH_SHARE * particles)))


class BatchRefinement(HalvesRefinement):
    """Solver of a refinement by ``update``; other parameters as of `HalvesRefinement`.

    ``batch`` is how many images are in a batch of the first pass, all where the method needs all.
    ``true_diagonal``: of `Preconditioned`, with the true Hessian's diagonal by Hutchinson's probes in place
    of EM's.
    """

    def __init__(
        self,
        problem: EmProblem,
        starts: tuple[torch.Tensor, ...],
        start_radius: int,
        update: Update,
        batch: int,
        groups: ContrastGroups | None = None,
        *,
        flat_solvent: bool = False,
        true_diagonal: bool = False,
    ) -> None:
        super().__init__(problem, starts, start_radius, groups, flat_solvent=flat_solvent)
        self.true_diagonal = true_diagonal
        self.update = update
        self.schedule = Schedule(1 if update.whole else math.ceil(problem.plan.particles / batch))

    def init(self) -> BatchState:
        """The starts, and no pose known."""
        plain = super().init()
        begun = Estimate.of(self.starts, self.start_radius)
        none = Residuals.none(len(self.problem.images.noise_variance), self.start_radius + 1)
        return BatchState(
            **vars(plain),
            x=begun.x,
            weight=begun.weight,
            memory=(),
            power=torch.from_numpy(none.power),
            left=torch.from_numpy(none.left),
            counted=torch.from_numpy(none.images),
            em_curvature=torch.zeros(HALVES, self.start_radius + 1, dtype=torch.float64),
            covariance=torch.zeros(HALVES, self.start_radius + 1, dtype=torch.float64),
            looked=0,
            passes=0.0,
        )

    def step(self, state: HalvesState) -> BatchState:
        """One batch."""
        assert isinstance(state, BatchState)
        problem, radius, share = self.problem, self.next_radius(state), self._share(state)
        chosen = self._batch(state.iteration)
        own, places = problem.own(chosen)
        numbers = chosen[own]
        batch, whole = self.images(state), len(chosen) == problem.plan.particles
        if not whole:
            batch = batch.crop(radius).select(places)  # a copy
        again = not self.update.whole and radius >= _LOOK_AGAIN * state.looked
        found = expectation(
            problem, batch, numbers, state.halves, self._known_among(state, numbers, again), radius,
            iteration=state.iteration, particles=len(chosen), credence=state.credence.numpy()[numbers],
            judged=whole and state.iteration >= BELIEVED,
        )  # fmt: skip
        judged = self.judgement(state, found)
        believed = believed_samples(found.samples, judged.credence.numpy()[numbers])
        before = Estimate(state.x, state.weight, state.radius, state.memory).at_radius(radius)
        update, curvature = self.update, (state.em_curvature, state.covariance)
        if self.true_diagonal:
            curvature = self._curvature(state, batch, believed, numbers, radius, len(chosen))
            update = Preconditioned(_ratio(*curvature))
        after = update(before, self._parts(batch, believed, numbers, radius, len(chosen)), share)
        state = replace(state, em_curvature=curvature[0], covariance=curvature[1], **vars(judged))
        return self._renewed(state, after, found.left, chosen, found.samples.renumbered(numbers), {
            "log_likelihood": problem.mean(found.log_likelihood, len(chosen)),
            "searched": problem.mean(found.searched, len(chosen)),
            "everywhere": problem.mean(found.everywhere, len(chosen)),
            "looked": radius if again and self._ends_pass(state) else state.looked,
        })  # fmt: skip

    def _renewed(
        self,
        state: BatchState,
        after: Estimate,
        left: Residuals,
        chosen: NDArray[np.int64],
        samples: PoseSamples,
        told: dict[str, float],
    ) -> BatchState:
        """The state after a batch: maps, noise and poses."""
        problem, sums = self.problem, after.sums()
        iterate, correlation = problem.volume(sums)
        halves, solvent = self.halves(sums, correlation, iterate.shape[0])
        agreed = agreed_radius(correlation)
        number, place = self.schedule.place(state.iteration)
        whole = self._ends_pass(state)
        rose = agreed > state.furthest
        sofar = self._residuals(state, over_all(left, problem.world))
        background = problem.images.noise_variance
        return replace(
            state,
            iteration=state.iteration + 1,
            iterate=iterate,
            halves=halves,
            solvent=solvent,
            radius=after.radius,
            correlation=correlation,
            noise=torch.from_numpy(sofar.noise(background)),
            explained=[float(value) for value in sofar.explained(background)],
            # what chance has brought within a pass does not count
            furthest=agreed if whole and rose else state.furthest,
            stalled=(0 if rose else state.stalled + 1) if whole else state.stalled,
            x=after.x,
            weight=after.weight,
            memory=after.memory,
            power=torch.from_numpy(sofar.power),
            left=torch.from_numpy(sofar.left),
            passes=number + (place + 1) / self.schedule.batches(number),
            counted=torch.from_numpy(sofar.images),
            **told,  # type: ignore[arg-type]
            **problem.remembered(state.samples, samples, chosen).tensors(),
        )

    def _ends_pass(self, state: HalvesState) -> bool:
        """Whether the next batch is the last of its pass."""
        number, place = self.schedule.place(state.iteration)
        return place + 1 == self.schedule.batches(number)

    def _share(self, state: HalvesState) -> float:
        """Weight of the next batch against those before."""
        number, _ = self.schedule.place(state.iteration)
        return share_of(state.iteration + 1, self.schedule.batches(number))

    def steps(self, passes: int) -> int:
        """Batches in so many passes."""
        return self.schedule.steps(passes)

    def _batch(self, iteration: int) -> NDArray[np.int64]:
        """Numbers of the particles of a batch: every pass deals all of them in a new order."""
        number, place = self.schedule.place(iteration)
        every = self.problem.plan.particles
        order = generator(self.problem.seed, Stream.HALVES_BATCHES, number).permutation(every)
        return np.sort(np.array_split(order, self.schedule.batches(number))[place])

    def _known_among(self, state: HalvesState, numbers: NDArray[np.int64], again: bool) -> PoseSamples:
        """Poses to look around, numbered by place among ``numbers (n,)``, of which some may have none yet.

        If ``again``, an image whose posterior spreads over more than a cell of the coarse grid has none: what
        the first batches found was found with poor maps.
        """
        problem = self.problem
        seen = np.isin(numbers, state.samples.image)
        known = self._known(state, numbers[seen]).renumbered(np.flatnonzero(seen))
        if not (again and len(known)):
            return known
        _, spread, _ = summarise_poses(known, len(numbers), problem.symmetry)
        coarse = coarse_level(problem.plan.last_start_radius, problem.images.box, problem.plan.filled)
        return known.select(spread[known.image] <= math.degrees(coarse.spacing))

    def _parts(
        self, batch: FourierImages, samples: PoseSamples, numbers: NDArray[np.int64], radius: int, size: int
    ) -> tuple[FourierSums, ...]:
        """Sums of the batch, its images divided by lanes into as many parts of each half as are asked for."""
        problem, parts = self.problem, self.update.parts
        part = numbers % LANES // 2 % parts
        return tuple(
            problem.sums(
                batch, samples.select(part[samples.image] == one), numbers, radius, size // parts,
                problem.symmetry,
            )
            for one in range(parts)
        )  # fmt: skip

    def _curvature(
        self,
        state: BatchState,
        batch: FourierImages,
        samples: PoseSamples,
        numbers: NDArray[np.int64],
        radius: int,
        size: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``(2, radius + 1)`` EM's curvature and the covariance to take off, of each half."""
        problem = self.problem
        every = max(1, size // (HALVES * _PROBED))
        found = []
        for half, volume in enumerate(state.halves):
            some = (numbers % HALVES == half) & (numbers // HALVES % every == 0)
            rng = generator(problem.seed, Stream.PSGD_PROBES, state.iteration, half)
            seen = FourierVolume.of(volume.float(), radius)
            told = shell_curvature(batch, seen, samples.select(some[samples.image]), radius, rng)
            found.append(np.stack([told.em, told.covariance]))
        new = problem.world.sum(torch.from_numpy(np.stack(found, 1)))
        kept = 1.0 - self._share(state)
        for old, one in zip((state.em_curvature, state.covariance), new, strict=True):
            common = min(old.shape[1], one.shape[1])
            one[:, :common] += kept * old[:, :common]
        return new[0], new[1]

    def _residuals(self, state: BatchState, new: Residuals) -> Residuals:
        """Sums over the batches so far: of the older ones so much as weighs in the estimate too."""
        shells = new.power.shape[1]
        kept = 1.0 - self._share(state)
        old = np.zeros((2, *new.power.shape))
        for place, part in enumerate((state.power.numpy(), state.left.numpy())):
            common = min(shells, part.shape[1])
            # what was not looked at before is as the newest batch has it
            old[place] = (new.power, new.left)[place] / np.maximum(new.images, 1)[:, None]
            old[place] *= state.counted.numpy()[:, None]
            old[place][:, :common] = part[:, :common]
        images = kept * state.counted.numpy() + new.images
        return Residuals(kept * old[0] + new.power, kept * old[1] + new.left, images)


def _ratio(em: torch.Tensor, covariance: torch.Tensor) -> torch.Tensor:
    """``(2, radius + 1)`` true diagonal over EM's."""
    found = [ShellCurvature(*half).ratio() for half in zip(em.numpy(), covariance.numpy(), strict=True)]
    return torch.from_numpy(np.stack(found))
