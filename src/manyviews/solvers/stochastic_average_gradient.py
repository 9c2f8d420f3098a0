"""Stochastic average gradient descent: Algorithm 1 of Punjani, Brubaker & Fleet 2017 (IEEE TPAMI 39:706).

The objective is a sum over mini-batches k of ``f_k(V)``, minus the log of a prior, over ``V >= 0``. Every
mini-batch keeps the gradient that it gave last (``dV_k``, here `gradients`); a step goes down their running
sum (``g``, here `total`), one of them made new at each iteration tau:

    g <- g - dV_k + g_k(V),    V <- max(0, V - epsilon / (n L) [g - d/dV log p(V)])

Where the paper leaves a choice, or cannot mean what it prints, this is what is done, and why:

- *The mean, not the sum.* Printed, the step is ``epsilon / L`` times a sum over all mini-batches, with L the
  Lipschitz constant of a single one's gradient. The method it cites (Le Roux, Schmidt & Bach 2012, eq. 5)
  divides by their number, and must: without, the step grows with the data. n counts the mini-batches seen so
  far (their section 4.1), so that the first epoch is no slower; the prior is the share of those seen.
- *The test.* The text increases L "until ``f(V) - f(V - dV/L) < |dV|^2 / 2L``"; the listing doubles L *while*
  that holds. The listing is right: a gradient with Lipschitz constant L promises a decrease of at least
  ``|dV|^2 / 2L``, and failing to get it shows L to be too small.
- *The place of the test.* Printed after the update, it would hold the old gradient against the new volume,
  for which no L is sure to pass. Here it is done before the update, where the gradient was taken.
- *Bisection*, on the logarithm of L, between the smallest L that passed and the largest that failed: at the
  start, and wherever a state says that its L is a guess. Later, every 20 iterations, doubling alone; between
  these ``L <- 2^(-1/150) L``.
- *Order*: every epoch visits all mini-batches in a new random order, which only depends on seed, trial and
  epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

import torch

from manyviews.random import Stream, generator
from manyviews.solvers.space import Space

Memory: TypeAlias = tuple[torch.Tensor, ...]
T = TypeVar("T")

LARGEST_LIPSCHITZ_STEPS = 60  # doublings, after which the objective is not smooth or not finite


@dataclass(frozen=True)
class Evaluation:
    """One mini-batch at one volume: ``f_k(V)`` and its gradient, of the volume's shape.

    ``memory``, any tensors, is what the objective wants to be handed the next time it sees this mini-batch;
    ``work`` its cost, as a fraction of the cost without approximation.
    """

    value: float
    gradient: torch.Tensor
    memory: Memory = ()
    work: float = 1.0


class BatchObjective(Protocol):
    """A sum of smooth functions. Random numbers inside may depend on batch, iteration and memory only."""

    @property
    def batches(self) -> int:
        """How many mini-batches there are."""

    def evaluate(self, volume: torch.Tensor, batch: int, iteration: int, memory: Memory) -> Evaluation:
        """Value and gradient of one mini-batch."""

    def value(self, volume: torch.Tensor, batch: int, iteration: int, memory: Memory) -> float:
        """The value alone, with the same random numbers as `evaluate`."""


class LogPrior(Protocol):
    """Log density of a volume up to a constant, differentiable for non-negative volumes."""

    def value(self, volume: torch.Tensor) -> float:
        """``log p(V)``."""

    def gradient(self, volume: torch.Tensor) -> torch.Tensor:
        """Its gradient; a new tensor."""


@dataclass(frozen=True)
class SagState:
    """Between iterations.

    Attributes
    ----------
    iteration, iterate
        Steps done, and the volume ``(z, y, x)``.
    total, gradients
        The sum of the latest gradient of each mini-batch, and these; of size zero where it was not seen yet.
        One volume for each mini-batch is what the method costs in memory.
    memories
        What the objective keeps of each mini-batch.
    lipschitz, searched
        Present estimate of the Lipschitz constant of a mini-batch's gradient, 0: none; unless searched it is
        a guess, and the next step searches for it.
    values
        ``f_k(V)`` of the mini-batches of the last steps, each before its step, as many as there are
        mini-batches at most.
    work
        Cost of the last step as a fraction of the cost without approximation.
    """

    iteration: int
    iterate: torch.Tensor
    total: torch.Tensor
    gradients: tuple[torch.Tensor, ...]
    memories: tuple[Memory, ...]
    lipschitz: float
    searched: bool
    values: list[float]
    work: float

    @property
    def value(self) -> float:
        """Of the last step; 0 before the first."""
        return self.values[-1] if self.values else 0.0

    def measures(self) -> dict[str, float]:
        """Objective of the last mini-batch, Lipschitz constant, work of the last step, batches seen."""
        return {
            "objective": self.value,
            "lipschitz": self.lipschitz,
            "work": self.work,
            "batches_seen": float(self.seen()),
        }

    def seen(self) -> int:
        """Mini-batches that gave a gradient so far."""
        return sum(gradient.numel() > 0 for gradient in self.gradients)


def paper_step(iteration: int, halved_every: int = 150) -> float:
    """``epsilon = max(1/16, 2^(1 - floor(tau / 150)))`` of section 3.3.2."""
    return max(1 / 16, 2.0 ** (1 - iteration // halved_every))


def batch_of(iteration: int, batches: int, seed: int, trial: int = 0) -> int:
    """The mini-batch of an iteration: each epoch is a random order of all, the same whenever it is asked."""
    epoch, place = divmod(iteration, batches)
    return int(generator(seed, Stream.SAGD_ORDER, trial, epoch).permutation(batches)[place])


class StochasticAverageGradient:
    """Algorithm 1; see the module docstring.

    Parameters
    ----------
    objective
        The mini-batches.
    prior
        Log prior of the volume; None: uniform.
    start
        First volume ``(z, y, x)``.
    seed, trial
        For the order of the mini-batches.
    step_length
        ``epsilon`` of an iteration; at most 1/16 is sure to converge for convex objectives.
    search_every
        Iterations between tests of the Lipschitz constant.
    search_tolerance
        A bisection ends when its bounds are within this factor.
    shrink
        Factor of the Lipschitz constant in an iteration without a test.
    non_negative
        Cut negative voxels off after each step.
    space
        Where the volumes live; None: whole ones in memory.
    """

    def __init__(
        self,
        objective: BatchObjective,
        prior: LogPrior | None,
        start: torch.Tensor,
        *,
        seed: int = 0,
        trial: int = 0,
        step_length: Callable[[int], float] = paper_step,
        search_every: int = 20,
        search_tolerance: float = 1.5,
        shrink: float = 2.0 ** (-1 / 150),
        non_negative: bool = True,
        space: Space | None = None,
    ) -> None:
        self.objective = objective
        self.prior = prior
        self.start = start
        self.seed, self.trial = seed, trial
        self.step_length = step_length
        self.search_every = search_every
        self.search_tolerance = search_tolerance
        self.shrink = shrink
        self.non_negative = non_negative
        self.space = space or Space.like(start)

    def init(self) -> SagState:
        """The start, with no gradient known."""
        count = self.objective.batches
        return SagState(
            iteration=0,
            iterate=self.start,
            total=self.space.zeros(),
            gradients=tuple(self.start.new_empty(0) for _ in range(count)),
            memories=tuple(() for _ in range(count)),
            lipschitz=0.0,
            searched=False,
            values=[],
            work=0.0,
        )

    def step(self, state: SagState) -> SagState:
        """One mini-batch's gradient made new, and a step down the mean of all."""
        iteration = state.iteration + 1
        batch = batch_of(state.iteration, self.objective.batches, self.seed, self.trial)
        memory = state.memories[batch]
        found = self.objective.evaluate(state.iterate, batch, iteration, memory)
        lipschitz = self._lipschitz(state, batch, iteration, found)
        total = self.space.add(state.total, found.gradient)
        if state.gradients[batch].numel():
            total.sub_(state.gradients[batch])
        gradients = _replaced(state.gradients, batch, found.gradient)
        seen = sum(gradient.numel() > 0 for gradient in gradients)
        return SagState(
            iteration=iteration,
            iterate=self._moved(state, total, seen, lipschitz),
            total=total,
            gradients=gradients,
            memories=_replaced(state.memories, batch, found.memory),
            lipschitz=lipschitz,
            searched=True,
            values=[*state.values, found.value][-self.objective.batches :],
            work=found.work,
        )

    def _moved(self, state: SagState, total: torch.Tensor, seen: int, lipschitz: float) -> torch.Tensor:
        """The volume after the step, cut off at zero."""
        length = self.step_length(state.iteration) / (seen * lipschitz)
        volume = self.space.add(state.iterate, total, -length)
        if self.prior is not None:
            share = seen / self.objective.batches
            volume.add_(self.prior.gradient(state.iterate), alpha=length * share)
        return volume.clamp_(min=0.0) if self.non_negative else volume

    def _lipschitz(self, state: SagState, batch: int, iteration: int, found: Evaluation) -> float:
        """The constant for this step: searched, tested, or a little smaller than it was."""
        square = self.space.inner(found.gradient, found.gradient)
        if square == 0.0:
            return state.lipschitz or 1.0

        def passes(lipschitz: float) -> bool:
            trial = self.space.add(state.iterate, found.gradient, -1.0 / lipschitz)
            value = self.objective.value(trial, batch, iteration, state.memories[batch])
            return found.value - value >= 0.5 * square / lipschitz

        if not state.searched:
            return bisect_lipschitz(passes, state.lipschitz or math.sqrt(square), self.search_tolerance)
        if iteration % self.search_every == 0:
            return double_lipschitz(passes, state.lipschitz)
        return state.lipschitz * self.shrink


def double_lipschitz(passes: Callable[[float], bool], lipschitz: float) -> float:
    """The first of ``lipschitz``, twice it, four times it ... that passes.

    After 60 doublings the last is returned: the objective is then noise at this volume, and a step of length
    zero does no harm.
    """
    for _ in range(LARGEST_LIPSCHITZ_STEPS):
        if passes(lipschitz):
            break
        lipschitz *= 2.0
    return lipschitz


def bisect_lipschitz(passes: Callable[[float], bool], guess: float, tolerance: float = 1.5) -> float:
    """The smallest constant that passes, within a factor of ``tolerance``, above 1, of one that fails.

    ``passes`` is false below some number and true above it; ``guess`` is any positive number.
    """
    factor = 8.0
    if passes(guess):
        upper, lower = guess, guess / factor
        for _ in range(LARGEST_LIPSCHITZ_STEPS):
            if not passes(lower):
                break
            upper, lower = lower, lower / factor
    else:
        lower, upper = guess, guess * factor
        for _ in range(LARGEST_LIPSCHITZ_STEPS):
            if passes(upper):
                break
            lower, upper = upper, upper * factor
    while upper > tolerance * lower:
        middle = math.sqrt(upper * lower)
        lower, upper = (lower, middle) if passes(middle) else (middle, upper)
    return upper


def _replaced(items: tuple[T, ...], place: int, item: T) -> tuple[T, ...]:
    return (*items[:place], item, *items[place + 1 :])
