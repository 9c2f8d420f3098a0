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
_OF_THE_BOUND, _USUAL, _OTHERS = 10, 8, 5
# After so many of the usual strength the projectors are applied, where the volume without a prior was not
# damped by frequency: what the quick normal operator lacks is most wrong at fine noise, of which it is full.
_CORRECT_AFTER = 6
MOST_ITERATIONS = 80


@dataclass(frozen=True)
class SearchState(AlternatingState):
    """Between iterations.

    Attributes
    ----------
    start
        The volume without a prior.
    exponent, non_negative, smooth, done
        The prior on trial, and its iterations so far; ``finished``: nothing is left to try.
    tried
        Exponent, bound and smoothness of every trial that has ended.
    errors
        ``(1 + trial, view)``: what is left of held-out views without a prior, and after every trial.
    """

    start: Slab
    exponent: int
    non_negative: bool
    smooth: bool
    done: int
    finished: bool
    tried: tuple[tuple[int, bool, bool], ...]
    errors: torch.Tensor

    def measures(self) -> dict[str, float]:
        """The data term, passes over the data, and the last error of held-out views."""
        return {**super().measures(), "held_out_error": float(self.errors[-1].mean())}

    @property
    def trial(self) -> Trial:
        """What is being tried."""
        return Trial(self.exponent, self.non_negative, self.smooth)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """What has been tried."""
        return tuple(Trial(*one) for one in self.tried)

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
    target
        `AlternatingState.target` as the projectors have corrected it at that volume; None: they are applied
        later, to a volume with a prior.
    smooth
        Makes the solver of the smooth prior, without or with the bound; None: it is no candidate.
    """

    def __init__(
        self,
        solver: AlternatingDirections,
        strength: float,
        freedom: Freedom,
        errors: Callable[[torch.Tensor], torch.Tensor],
        start: torch.Tensor,
        target: torch.Tensor | None = None,
        smooth: Callable[[bool], AlternatingDirections] | None = None,
    ) -> None:
        self.solver = solver
        self.strength = strength
        self.freedom = freedom
        self.errors = errors
        self.start = start
        self.target = target
        self._make_smooth = smooth
        self._smooth: AlternatingDirections | None = None
        self._space = solver.problem.vectors

    def init(self) -> SearchState:
        """At the volume without a prior."""
        first = next_trial(self.freedom, (), np.zeros((0, 1)))
        assert first is not None
        target = self.solver.problem.target if self.target is None else self.target
        begun = self._solver(first).start_at(self.start, target)
        return SearchState(
            **{item.name: getattr(begun, item.name) for item in fields(AlternatingState)},
            start=self.start,
            exponent=first.exponent,
            non_negative=first.non_negative,
            smooth=first.smooth,
            done=0,
            finished=False,
            tried=(),
            errors=self.errors(self.start)[None],
        )

    def _solver(self, trial: Trial) -> AlternatingDirections:
        if trial.smooth:
            assert self._make_smooth is not None
            if self._smooth is None or self._smooth.terms.non_negative != trial.non_negative:
                self._smooth = None  # its spectra make room first
                self._smooth = self._make_smooth(trial.non_negative)
            return self._smooth
        self._smooth = None
        terms = Terms(self.strength * 2.0**trial.exponent, trial.non_negative)
        plain = self.solver
        return AlternatingDirections(
            plain.problem, terms, plain.penalties, plain.precondition, steps=plain.steps
        )

    def step(self, state: SearchState) -> SearchState:
        """One iteration of the prior on trial, and what comes next at its end."""
        solver = self._solver(state.trial)
        state = solver.step(state)
        state = replace(state, done=state.done + 1)
        late = self.target is None and self.freedom.strength
        if late and state.exponent == USUAL and state.done == _CORRECT_AFTER:
            state = solver.corrected(state)
        return state if state.done < self._iterations(state) else self._measured(state)

    def _iterations(self, state: SearchState) -> int:
        if self.freedom.bound and len(state.tried) < 2:
            return _OF_THE_BOUND
        return _USUAL if state.exponent == USUAL else _OTHERS

    def _measured(self, state: SearchState) -> SearchState:
        """The error of the trial that has ended, and the next one."""
        errors = torch.cat([state.errors, self.errors(state.iterate)[None]])
        tried = (*state.tried, (state.exponent, state.non_negative, state.smooth))
        state = replace(state, errors=errors, tried=tried)
        following = next_trial(self.freedom, state.trials, state.trial_errors)
        if following is None:
            return replace(state, finished=True)
        before = state.trial
        state = replace(
            state,
            exponent=following.exponent,
            non_negative=following.non_negative,
            smooth=following.smooth,
            done=0,
        )
        if self.freedom.bound and len(tried) == 1:
            return self._at_start(state)
        if following.smooth != before.smooth:
            state = replace(state, normal=self._solver(following).problem.normal(state.iterate))
        # a multiplier of the bound belongs to a volume that was held by it
        same = following.non_negative == before.non_negative
        return state if same else replace(state, split=self._space.positive_part(state.iterate))

    def _at_start(self, state: SearchState) -> SearchState:
        """Once more from the volume without a prior."""
        begun = self._solver(state.trial).start_at(state.start, state.target)
        return replace(
            state,
            iterate=begun.iterate,
            normal=begun.normal,
            dual_z=begun.dual_z,
            dual_y=begun.dual_y,
            dual_x=begun.dual_x,
            split=begun.split,
        )
