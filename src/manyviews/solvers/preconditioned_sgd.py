"""Stochastic gradient descent with a diagonal preconditioner and a line search.

Toader, Brubaker & Lederman (2025), Acta Cryst. D 81:327-343. The objective is the mean over images of smooth
functions. A step goes down the gradient of a random batch B, divided entry by entry by a diagonal D,

    d = grad f_B(x) / max(|D|, alpha),    x <- x - eta d,

with the longest eta of the sequence ``g eta', g eta' / 2, g eta' / 4 ...`` (eta' that of the step before, g
the growth) for which Armijo's condition holds in the norm of the preconditioner:

    f_B(x - eta d) <= f_B(x) - c eta <grad f_B(x), d>.

Every epoch visits all images in a new random order, and starts with ``eta' = eta_max``. As printed, c = 0.99;
g = 1.2, eta_max = 10 with a preconditioner, g = 2, eta_max = 1 without. On a quadratic the condition asks for
``eta <= 2 (1 - c) / k`` with k the curvature along d: c = 0.99 takes steps of a fiftieth of the best one for
the batch alone, which is what averages the noise of batches.

What differs from the paper: halvings are capped (a step that still fails is not taken, the next starts from
the short eta), and Hutchinson's probes may be made at some steps only, and see a part of the batch only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.random import Stream, generator
from manyviews.solvers.hutchinson import DiagonalEstimate, inverse_diagonal, probe_diagonal

Batch = NDArray[np.int64]
_TINY = 1e-30


class ImageObjective(Protocol):
    """The mean over images of smooth functions of a real vector; a batch is the numbers of its images."""

    @property
    def images(self) -> int:
        """How many there are."""

    def value(self, x: torch.Tensor, batch: Batch) -> float:
        """The mean over a batch, summed in double precision."""

    def value_and_gradient(self, x: torch.Tensor, batch: Batch) -> tuple[float, torch.Tensor]:
        """The same, and its gradient, a new tensor of the shape of x."""

    def hessian_product(self, x: torch.Tensor, v: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The Hessian of the mean over a batch at x, times v; a new tensor."""


@dataclass(frozen=True)
class LineSearch:
    """How long steps are.

    Attributes
    ----------
    decrease
        c, above 0 and below 1.
    growth
        Of the step from one iteration to the next, before it is halved.
    longest
        ``eta_max``, which every epoch starts from.
    halvings
        At most so many; the step is then left out. 0: no search, every step has the length ``longest``.
    """

    decrease: float = 0.99
    growth: float = 1.2
    longest: float = 10.0
    halvings: int = 40

    @classmethod
    def plain(cls) -> LineSearch:
        """As printed for gradient descent without a preconditioner."""
        return cls(growth=2.0, longest=1.0)

    @classmethod
    def fixed(cls, length: float) -> LineSearch:
        """Steps of one length, without a search."""
        return cls(growth=1.0, longest=length, halvings=0)


@dataclass(frozen=True)
class Probing:
    """How Hutchinson's estimate is made.

    Attributes
    ----------
    beta
        Weight of the last D in ``D <- beta D + (1 - beta) D_avg``.
    share
        Part of the batch that a probe sees; 1 is the paper's.
    every
        Steps from one probe to the next; 1 is the paper's. D stays as it is between.
    pool
        Applied to each probe where entries are known to have equal curvature, such as
        `manyviews.solvers.hutchinson.pooled_pairs`; None: nothing is.
    """

    beta: float = 0.9
    share: float = 1.0
    every: int = 1
    pool: Callable[[torch.Tensor], torch.Tensor] | None = None


@dataclass(frozen=True)
class PreconditionedSgdState:
    """Between iterations.

    Attributes
    ----------
    iteration, iterate
        Steps done, and x.
    step_length
        eta of the last step.
    diagonal, diagonal_mean, probes
        Hutchinson's D, ``D_avg`` and the number of probes; of size zero where nothing is estimated.
    objective
        ``f_B(x)`` of the last batch, before the step.
    halvings
        Of the last step.
    passes
        Over all images so far: values, gradients (as two values) and products with the Hessian (as two).
    """

    iteration: int
    iterate: torch.Tensor
    step_length: float
    diagonal: torch.Tensor
    diagonal_mean: torch.Tensor
    probes: int
    objective: float
    halvings: int
    passes: float

    def measures(self) -> dict[str, float]:
        """Objective of the last batch, its step, and the work so far."""
        return {
            "objective": self.objective,
            "step_length": self.step_length,
            "halvings": float(self.halvings),
            "data_passes": self.passes,
        }


def epoch_batches(images: int, size: int, seed: int, epoch: int) -> list[Batch]:
    """All images in random batches of nearly equal size, at most ``size``; each batch in rising order."""
    order = generator(seed, Stream.PSGD_ORDER, epoch).permutation(images)
    return [np.sort(part) for part in np.array_split(order, -(-images // size))]


class PreconditionedSgd:
    """The algorithm of the module's docstring.

    Parameters
    ----------
    objective
        What to minimise.
    start
        First x.
    batch
        Images in a batch.
    diagonal
        D: a tensor of the shape of x, positive, that stays as it is; how to estimate it; or None for plain
        gradient descent.
    threshold
        alpha, above 0, in the units of the Hessian.
    search
        Of the step length; left out: as printed, by whether there is a preconditioner.
    seed
        For the order of the images and for probes.
    """

    def __init__(
        self,
        objective: ImageObjective,
        start: torch.Tensor,
        *,
        batch: int = 1000,
        diagonal: torch.Tensor | Probing | None = None,
        threshold: float = _TINY,
        search: LineSearch | None = None,
        seed: int = 0,
    ) -> None:
        self.objective, self.start = objective, start
        self.batch = min(batch, objective.images)
        self.diagonal, self.threshold = diagonal, threshold
        self.search = search or (LineSearch.plain() if diagonal is None else LineSearch())
        self.seed = seed
        self._drawn: tuple[int, list[Batch]] | None = None
        self._inverse: torch.Tensor | None = None
        if isinstance(diagonal, torch.Tensor):
            self._inverse = inverse_diagonal(diagonal, threshold)

    @property
    def steps_an_epoch(self) -> int:
        """Batches in a pass over all images."""
        return -(-self.objective.images // self.batch)

    def init(self) -> PreconditionedSgdState:
        """The start."""
        nothing = self.start.new_empty(0)
        return PreconditionedSgdState(0, self.start, self.search.longest, nothing, nothing, 0, 0.0, 0, 0.0)

    def step(self, state: PreconditionedSgdState) -> PreconditionedSgdState:
        """One batch."""
        epoch, place = divmod(state.iteration, self.steps_an_epoch)
        batch = self._batches(epoch)[place]
        x = state.iterate
        estimate, probed = self._estimate(state, batch)
        value, gradient = self.objective.value_and_gradient(x, batch)
        direction = self._preconditioned(gradient, estimate)
        slope = float(torch.dot(gradient.reshape(-1).double(), direction.reshape(-1).double()))
        before = self.search.longest if place == 0 else state.step_length
        length, halvings, tried, moved = self._searched(x, batch, value, direction, slope, before)
        nothing = self.start.new_empty(0)
        return PreconditionedSgdState(
            iteration=state.iteration + 1,
            iterate=moved,
            step_length=length,
            diagonal=nothing if estimate is None else estimate.diagonal,
            diagonal_mean=nothing if estimate is None else estimate.mean,
            probes=0 if estimate is None else estimate.probes,
            objective=value,
            halvings=halvings,
            passes=state.passes + (len(batch) * (2 + tried) + 2 * probed) / self.objective.images,
        )

    def _batches(self, epoch: int) -> list[Batch]:
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = epoch, epoch_batches(self.objective.images, self.batch, self.seed, epoch)
        return self._drawn[1]

    def _estimate(self, state: PreconditionedSgdState, batch: Batch) -> tuple[DiagonalEstimate | None, int]:
        """Hutchinson's estimate with a probe of this step, and how many images that has seen."""
        probing = self.diagonal
        if not isinstance(probing, Probing):
            return None, 0
        known = DiagonalEstimate(state.diagonal, state.diagonal_mean, state.probes)
        if state.iteration % probing.every:
            return known, 0
        rng = generator(self.seed, Stream.PSGD_PROBES, state.iteration)
        seen = max(1, round(probing.share * len(batch)))
        some = batch if seen == len(batch) else np.sort(rng.choice(batch, seen, replace=False))
        x = state.iterate
        probe = probe_diagonal(lambda v: self.objective.hessian_product(x, v, some), x, rng)
        if probing.pool is not None:
            probe = probing.pool(probe)
        if not state.probes:
            return DiagonalEstimate.first(probe), seen
        return known.updated(probe, probing.beta), seen

    def _preconditioned(self, gradient: torch.Tensor, estimate: DiagonalEstimate | None) -> torch.Tensor:
        if estimate is not None:
            return inverse_diagonal(estimate.diagonal, self.threshold).mul_(gradient)
        return gradient if self._inverse is None else gradient * self._inverse

    def _searched(
        self,
        x: torch.Tensor,
        batch: Batch,
        value: float,
        direction: torch.Tensor,
        slope: float,
        before: float,
    ) -> tuple[float, int, int, torch.Tensor]:
        """Length of the step, halvings, values taken, and where it leads."""
        search = self.search
        length = before * search.growth
        if not search.halvings:
            return length, 0, 0, torch.add(x, direction, alpha=-length)
        for halvings in range(search.halvings + 1):
            trial = torch.add(x, direction, alpha=-length)
            reached = self.objective.value(trial, batch)
            if reached <= value - search.decrease * length * slope:
                return length, halvings, halvings + 1, trial
            length /= 2
        return length, search.halvings, search.halvings + 1, x
