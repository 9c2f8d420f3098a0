"""Mini-batches of images as the objective of a stochastic solver: minus their log probability."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.sagd.importance import Annealing, PoseDraw, draw_poses, sampled_marginal
from manyviews.particles.sagd.lattice import PoseLattice
from manyviews.particles.sagd.marginal import Marginal, marginal
from manyviews.particles.sagd.memory import PoseMemory, SparseRows
from manyviews.random import Stream, generator
from manyviews.solvers.stochastic_average_gradient import Evaluation, Memory

Plan: TypeAlias = list[PoseDraw] | None  # None: every point of the lattice


@dataclass(frozen=True)
class Sampling:
    """How the sum over poses is taken.

    Attributes
    ----------
    importance
        By importance sampling, where it saves enough; otherwise always in full.
    draws
        ``s_0``: draws for each effective sample of an importance distribution.
    exhaustive_above
        Take the full sum where the draws of a mini-batch come to more than this part of it. The paper's
        authors skip draws that save less than 5 %, but a point of the full sum costs a fifth of a drawn one:
        all images share its slices.
    systematic, annealing
        As of `manyviews.particles.sagd.importance.draw_poses`.
    padding
        Oversampling of the volume's transform.
    memory_bytes
        For the scores of a full sum.
    seed, trial
        Of the draws.
    """

    importance: bool = True
    draws: float = 10.0
    exhaustive_above: float = 0.2
    systematic: bool = True
    annealing: Annealing = field(default_factory=Annealing)
    padding: int = 2
    memory_bytes: int = 2**29
    seed: int = 0
    trial: int = 0


def split_batches(count: int, size: int, seed: int, trial: int = 0) -> list[NDArray[np.int64]]:
    """Random mini-batches of nearly equal size, at most ``size``; each image is in one of them, always."""
    order = generator(seed, Stream.SAGD_BATCHES, trial).permutation(count)
    return [np.sort(part) for part in np.array_split(order, -(-count // size))]


class PoseObjective:
    """``f_k(V) = -sum_i log p(image_i | V)`` over the images of mini-batch k, at the present radius.

    ``batches`` tell which images a mini-batch has. ``lattice_of`` gives the lattice of a radius; it is asked
    for the present one and for those that memories are of.
    """

    def __init__(
        self,
        images: FourierImages,
        batches: Sequence[NDArray[np.int64]],
        lattice_of: Callable[[int], PoseLattice],
        sampling: Sampling,
    ) -> None:
        self.images = images
        self.members = batches
        self.lattice_of = lattice_of
        self.sampling = sampling
        self._planned: tuple[tuple[int, int, int], Plan] | None = None

    @property
    def batches(self) -> int:
        """How many mini-batches there are."""
        return len(self.members)

    def evaluate(self, volume: torch.Tensor, batch: int, iteration: int, memory: Memory) -> Evaluation:
        """Value, gradient, and the posteriors to remember."""
        lattice = self.lattice_of(self.images.radius)
        plan = self._plan(batch, iteration, memory)
        chosen, options = self.images.select(self.members[batch]), self.sampling
        if plan is None:
            full = marginal(
                chosen, volume, lattice, padding=options.padding, memory_bytes=options.memory_bytes
            )
            log_p, gradient, work = full.log_probability, full.gradient, 1.0
            remembered = _remember(full, self.images.radius, iteration)
        else:
            part = sampled_marginal(
                chosen, volume, lattice, plan, iteration=iteration, padding=options.padding
            )
            log_p, gradient, remembered = part.log_probability, part.gradient, part.memory
            work = _fraction(plan, lattice)
        assert gradient is not None
        kept = remembered.to_tensors() if options.importance else ()
        return Evaluation(-float(log_p.sum()), gradient.neg_(), kept, work)

    def value(self, volume: torch.Tensor, batch: int, iteration: int, memory: Memory) -> float:
        """The value alone, on the same draws as `evaluate`."""
        lattice = self.lattice_of(self.images.radius)
        plan = self._plan(batch, iteration, memory)
        chosen, padding = self.images.select(self.members[batch]), self.sampling.padding
        if plan is None:
            return -float(
                marginal(chosen, volume, lattice, gradient=False, padding=padding).log_probability.sum()
            )
        part = sampled_marginal(chosen, volume, lattice, plan, gradient=False, padding=padding)
        return -float(part.log_probability.sum())

    def _plan(self, batch: int, iteration: int, memory: Memory) -> Plan:
        """What to evaluate; a function of its arguments and the seed, kept for the next call."""
        key = batch, iteration, self.images.radius
        if self._planned is None or self._planned[0] != key:
            self._planned = key, self._new_plan(batch, iteration, memory)
        return self._planned[1]

    def _new_plan(self, batch: int, iteration: int, memory: Memory) -> Plan:
        options = self.sampling
        if not options.importance or not memory:
            return None
        known = PoseMemory.from_tensors(memory)
        if options.annealing.uniform(known.iteration) >= 1.0:
            return None
        old, new = self.lattice_of(known.radius), self.lattice_of(self.images.radius)
        draws = []
        for place, image in enumerate(self.members[batch]):
            rng = generator(options.seed, Stream.SAGD_DRAWS, options.trial, iteration, image)
            draws.append(
                draw_poses(
                    known,
                    place,
                    old,
                    new,
                    options.draws,
                    rng,
                    options.annealing,
                    systematic=options.systematic,
                )
            )
        return draws if _fraction(draws, new) <= options.exhaustive_above else None


def _fraction(draws: list[PoseDraw], lattice: PoseLattice) -> float:
    """Points evaluated, as a part of all."""
    return sum(one.size for one in draws) / (len(draws) * lattice.size)


def _remember(found: Marginal, radius: int, iteration: int) -> PoseMemory:
    rows = [SparseRows.of_dense(part) for part in (found.direction, found.in_plane, found.shift)]
    return PoseMemory(radius, iteration, (rows[0], rows[1], rows[2]))
