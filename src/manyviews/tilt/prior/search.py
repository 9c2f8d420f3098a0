"""A solver that tries priors one after the other, each from where the one before it has come to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from manyviews.solvers.alternating_directions import AlternatingDirections, AlternatingState, Terms
from manyviews.solvers.state import Slab
from manyviews.tilt.prior.trials import USUAL, Float64, Freedom, Trial, next_trial

# Iterations of the two trials that decide the bound, of the usual strength, and of others, which begin close
# to where they go.
_OF_THE_BOUND, _USUAL, _OTHERS = 10, 12, 5
# After so many of the usual strength the projectors are applied. Not before: what the quick normal operator
# lacks is most wrong at fine noise, of which volumes without a prior are full.
_CORRECT_AFTER = 6
MOST_ITERATIONS = 80


@dataclass(frozen=True)
class SearchState(AlternatingState):
    """Between iterations.

    Attributes
    ----------
    start
        The volume without a prior.
    exponent, non_negative, done
        The prior on trial, and its iterations so far; ``finished``: nothing is left to try.
    tried
        Exponent and bound of every trial that has ended.
    errors
        ``(1 + trial, view)``: what is left of held-out views without a prior, and after every trial.
    """

    start: Slab
    exponent: int
    non_negative: bool
    done: int
    finished: bool
    tried: tuple[tuple[int, bool], ...]
    errors: torch.Tensor

    def measures(self) -> dict[str, float]:
        """The data term, passes over the data, and the last error of held-out views."""
        return {**super().measures(), "held_out_error": float(self.errors[-1].mean())}

    @property
    def trials(self) -> tuple[Trial, ...]:
        """What has been tried."""
        return tuple(Trial(exponent, bound) for exponent, bound in self.tried)

    @property
    def trial_errors(self) -> Float64:
        """``(trial, view)``."""
        return np.asarray(self.errors[1:].numpy(), dtype=np.float64)


class PriorSearch:
    """Try priors on some views and measure them on others.

    Parameters
    ----------
    solver
        Of the views that are used; its terms are those on trial.
    strength
        The usual one.
    freedom
        What is to be chosen.
    errors
        What a volume leaves of each held-out view, ``(view,)``.
    start
        Volume of the same views without a prior.
    """

    def __init__(
        self,
        solver: AlternatingDirections,
        strength: float,
        freedom: Freedom,
        errors: Callable[[torch.Tensor], torch.Tensor],
        start: torch.Tensor,
    ) -> None:
        self.solver = solver
        self.strength = strength
        self.freedom = freedom
        self.errors = errors
        self.start = start

    def init(self) -> SearchState:
        """At the volume without a prior."""
        first = next_trial(self.freedom, (), np.zeros((0, 1)))
        assert first is not None
        empty = self.solver.init()
        return SearchState(
            **{
                **{item.name: getattr(empty, item.name) for item in fields(AlternatingState)},
                "iterate": self.start,
                "normal": self.solver.problem.normal(self.start),
            },
            start=self.start,
            exponent=first.exponent,
            non_negative=first.non_negative,
            done=0,
            finished=False,
            tried=(),
            errors=self.errors(self.start)[None],
        )

    def step(self, state: SearchState) -> SearchState:
        """One iteration of the prior on trial, and what comes next at its end."""
        terms = Terms(self.strength * 2.0**state.exponent, state.non_negative)
        problem, penalties = self.solver.problem, self.solver.penalties
        solver = AlternatingDirections(
            problem, terms, penalties, self.solver.precondition, steps=self.solver.steps
        )
        state = solver.step(state)
        state = replace(state, done=state.done + 1)
        if state.exponent == USUAL and state.done == _CORRECT_AFTER and self.freedom.strength:
            state = solver.corrected(state)
        return state if state.done < self._iterations(state) else self._measured(state)

    def _iterations(self, state: SearchState) -> int:
        if self.freedom.bound and len(state.tried) < 2:
            return _OF_THE_BOUND
        return _USUAL if state.exponent == USUAL else _OTHERS

    def _measured(self, state: SearchState) -> SearchState:
        """The error of the trial that has ended, and the next one."""
        errors = torch.cat([state.errors, self.errors(state.iterate)[None]])
        tried = (*state.tried, (state.exponent, state.non_negative))
        state = replace(state, errors=errors, tried=tried)
        following = next_trial(self.freedom, state.trials, state.trial_errors)
        if following is None:
            return replace(state, finished=True)
        state = replace(state, exponent=following.exponent, non_negative=following.non_negative, done=0)
        zeros = self.solver.problem.vectors.zeros
        if self.freedom.bound and len(tried) == 1:
            normal = self.solver.problem.normal(state.start)
            nothing = zeros()
            return replace(
                state, iterate=state.start, normal=normal, dual_z=nothing, dual_y=nothing, dual_x=nothing
            )
        return state if state.non_negative else replace(state, below=zeros())
