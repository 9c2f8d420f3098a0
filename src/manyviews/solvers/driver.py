"""The one loop that all solvers run in, without files: what a solver is, when it stops, when it failed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import StrEnum
from typing import Protocol, TypeVar

import torch

from manyviews.errors import DivergedError
from manyviews.solvers.space import Space
from manyviews.solvers.state import SolverState

S = TypeVar("S", bound=SolverState)


class Solver(Protocol[S]):
    """One algorithm: a start and a step. A step leaves the state it was given unchanged."""

    def init(self) -> S:
        """The state before the first iteration."""

    def step(self, state: S) -> S:
        """The state after one more iteration."""


class StopReason(StrEnum):
    """Why a run ended."""

    CONVERGED = "converged"
    ITERATIONS = "iterations"
    DIVERGED = "diverged"


def check_volume(volume: torch.Tensor, iteration: int, space: Space | None = None) -> None:
    """Refuse a volume that is no answer.

    `DivergedError` if it holds NaN or infinity, or the same value everywhere.
    """
    low, high = (space or Space.like(volume)).extremes(volume)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise DivergedError(
            f"iteration {iteration} produced a volume with NaN or infinite voxels; "
            "use a smaller relaxation, or check the input for wrong values"
        )
    if low == high and volume.numel() > 1:
        raise DivergedError(
            f"iteration {iteration} produced a volume with the same value {low:g} in every voxel; "
            "check the geometry and the contrast of the input"
        )


def relative_change(before: torch.Tensor, after: torch.Tensor, space: Space | None = None) -> float:
    """``|after - before| / |after|``, infinite where ``after`` is zero and ``before`` is not."""
    space = space or Space.like(after)
    difference, size = space.distance(after, before), space.norm(after)
    if size > 0:
        return difference / size
    return 0.0 if difference == 0 else math.inf


def advance(
    solver: Solver[S], state: S, *, measure_change: bool, space: Space | None = None
) -> tuple[S, float | None]:
    """One checked iteration: the next state and, where asked for, the relative change of its volume.

    ``space`` is where the volumes live; None: whole ones in memory. `DivergedError` as of `check_volume`.
    """
    before = state.iterate if measure_change else None
    state = solver.step(state)
    check_volume(state.iterate, state.iteration, space)
    change = None if before is None else relative_change(before, state.iterate, space)
    return state, change


def stop_reason(iteration: int, iterations: int, change: float | None, tolerance: float) -> StopReason | None:
    """Why to stop after ``iteration``, or None to go on.

    ``change`` is relative, of the last iteration, None where it is not known; a ``tolerance`` of 0 is never
    met.
    """
    if change is not None and change < tolerance:
        return StopReason.CONVERGED
    return StopReason.ITERATIONS if iteration >= iterations else None


def iterate(solver: Solver[S], state: S, iterations: int, *, tolerance: float = 0.0) -> Iterator[S]:
    """Yield the state after each iteration until ``iterations`` are done or the volume settles.

    ``state`` is ``solver.init()`` or any later one, whose iterations count too. The volume has settled when
    its relative change falls below ``tolerance``; 0 never. `DivergedError` as of `check_volume`.
    """
    change: float | None = None
    while stop_reason(state.iteration, iterations, change, tolerance) is None:
        state, change = advance(solver, state, measure_change=tolerance > 0)
        yield state
