"""The one loop with files: a solver's iterations with events, checkpoints, progress and a clean way out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from manyviews.errors import DivergedError, InputError
from manyviews.runs.checkpoint import StateValue, load_checkpoint, save_checkpoint
from manyviews.runs.folder import RunFolder
from manyviews.runs.interrupt import Interrupt
from manyviews.runs.progress import Progress
from manyviews.runs.state import state_from_arrays, state_to_arrays
from manyviews.solvers.driver import Solver, SolverState, StopReason, advance, stop_reason

S = TypeVar("S", bound=SolverState)

_CHANGE = "driver.relative_change"
_MOST_OF_RUN_TIME = 0.1


class _CheckpointClock:
    """When the next checkpoint is due: every ``seconds``, more seldom where saving takes long."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._cost_seconds = 0.0
        self._saved_at = time.monotonic()

    def is_due(self) -> bool:
        """Whether to save now; always where 0 seconds were asked for."""
        if self._seconds <= 0:
            return True
        pause = max(self._seconds, self._cost_seconds / _MOST_OF_RUN_TIME)
        return time.monotonic() - self._saved_at >= pause

    def save(self, run: RunFolder, state: SolverState, change: float | None) -> None:
        """Save and remember how long it took."""
        began = time.monotonic()
        run.sync()
        values: dict[str, StateValue] = state_to_arrays(state)
        save_checkpoint(run.path, {**values, _CHANGE: change}, state.iteration)
        self._saved_at = time.monotonic()
        self._cost_seconds = self._saved_at - began


def _resume(run: RunFolder, state: S, progress: Progress) -> tuple[S, float | None]:
    """The state of the newest whole checkpoint and its last change, else ``state`` itself."""

    def say(text: str) -> None:
        run.log(text)
        progress.message(text)

    found = load_checkpoint(run.path, say) if run.resumed else None
    if found is None:
        run.rewind(state.iteration)
        return state, None
    values, iteration = found
    change = values.pop(_CHANGE, None)
    try:
        resumed = state_from_arrays(type(state), values, state.volume.device)
    except ValueError as error:
        raise InputError(
            f"its checkpoint was written by another version ({error})", path=run.path, fix="give --overwrite"
        ) from error
    run.rewind(iteration)
    say(f"going on after iteration {iteration}")
    return resumed, change if isinstance(change, float) else None


def drive(
    solver: Solver[S],
    state: S,
    *,
    iterations: int,
    run: RunFolder,
    progress: Progress,
    interrupt: Interrupt,
    checkpoint_seconds: float = 30.0,
    tolerance: float = 0.0,
    on_state: Callable[[S], None] | None = None,
) -> tuple[S, StopReason]:
    """Run a solver in a run folder, from its newest checkpoint if the run is resumed.

    Killed at any moment and called again in the same way, it gives bit-identical results, as long as the
    solver's step depends on its state and fixed data alone.

    Parameters
    ----------
    solver, state
        The algorithm and its start, ``solver.init()``, whose measures are told in the event ``start``.
    iterations
        Iterations in all.
    run
        Where events and checkpoints go.
    progress
        Told of every iteration.
    interrupt
        Looked at after every iteration; a request to stop is met with a checkpoint.
    checkpoint_seconds
        Least time between two checkpoints; longer where saving would take more than a tenth of the run. 0
        saves after every iteration.
    tolerance
        Stop when the relative change of the volume falls below it; 0 never.
    on_state
        Called with every new state.

    Returns
    -------
    tuple
        The last state and why the loop ended.

    Raises
    ------
    DivergedError
        If the volume gets NaN, infinite or constant; the event ``stop`` tells the iteration.
    Interrupted
        If a signal came.
    InputError
        If events or checkpoints cannot be written.
    """
    state, change = _resume(run, state, progress)
    if state.iteration == 0:
        run.event("start", iteration=0, **state.measures())
    clock = _CheckpointClock(checkpoint_seconds)
    progress.start("reconstruct", iterations)
    while (reason := stop_reason(state.iteration, iterations, change, tolerance)) is None:
        try:
            state, change = advance(solver, state, measure_change=tolerance > 0)
        except DivergedError as error:
            _record_stop(run, state.iteration + 1, StopReason.DIVERGED, str(error))
            raise
        _record_iteration(run, progress, state, change)
        if on_state is not None:
            on_state(state)
        if interrupt.stop_requested or clock.is_due():
            clock.save(run, state, change)
        interrupt.raise_if_requested(state.iteration)
    _record_stop(run, state.iteration, reason, "")
    return state, reason


def _record_iteration(run: RunFolder, progress: Progress, state: SolverState, change: float | None) -> None:
    measures = state.measures()
    extra = {} if change is None else {"relative_change": change}
    run.event("iteration", iteration=state.iteration, **measures, **extra)
    note = ", ".join(f"{name} {value:.4g}" for name, value in list(measures.items())[:2])
    progress.update(state.iteration, note)


def _record_stop(run: RunFolder, iteration: int, reason: StopReason, text: str) -> None:
    run.event("stop", iteration=iteration, reason=reason.value, message=text)
    run.log(f"stopped after iteration {iteration}: {text or reason.value}")
