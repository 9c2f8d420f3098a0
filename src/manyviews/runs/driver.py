"""The one loop with files: a solver's iterations with events, checkpoints, progress and a clean way out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from manyviews.errors import DivergedError, InputError
from manyviews.parallel.world import World
from manyviews.runs.checkpoint import KEPT, has_checkpoints, load_checkpoint, save_checkpoint
from manyviews.runs.folder import RunFolder
from manyviews.runs.interrupt import Interrupt
from manyviews.runs.placement import Placement
from manyviews.runs.progress import Progress
from manyviews.runs.state import StateValue, state_from_arrays, state_to_arrays
from manyviews.solvers.driver import Solver, SolverState, StopReason, advance, stop_reason
from manyviews.solvers.space import Space

S = TypeVar("S", bound=SolverState)

_CHANGE = "driver.relative_change"
_MOST_OF_RUN_TIME = 0.1
_TELLING = ("objective", "disagreement", "relative_change", "data_passes")
_MOST_TOLD = 3


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

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Remember when a checkpoint was saved, in the block, and how long it took."""
        began = time.monotonic()
        yield
        self._saved_at = time.monotonic()
        self._cost_seconds = self._saved_at - began


def _exchanged(world: World) -> list[float]:
    """Bytes and messages that this rank has sent so far, and the seconds that it took."""
    traffic = world.traffic
    return [traffic.sent_bytes, traffic.messages, traffic.seconds]


@dataclass(frozen=True)
class _Agreed:
    """What all ranks know after an iteration.

    Attributes
    ----------
    signal_number
        Of the signal that one of them got, 0 for none.
    save
        Whether a checkpoint is due.
    exchanged
        Fields of the event: what the iteration had them tell each other.
    """

    signal_number: int
    save: bool
    exchanged: dict[str, float]

    @classmethod
    def on(cls, world: World, signal_number: int | None, save: bool, exchange: list[float]) -> _Agreed:
        """Tell what this rank knows: one message an iteration."""
        told = world.gather([signal_number or 0, int(save), *exchange])
        signals, due, sent, messages, seconds = zip(*told, strict=True)
        exchanged = {
            "exchanged_bytes": int(sum(sent)),
            "messages": int(sum(messages)),
            "exchange_seconds": max(seconds),
        }
        return cls(int(max(signals)), bool(due[0]), exchanged if world.size > 1 else {})


class _Loop(Generic[S]):
    """One call of `drive`: what its steps share."""

    def __init__(self, run: RunFolder, progress: Progress, placement: Placement, kept: int) -> None:
        self.run = run
        self.progress = progress
        self.placement = placement
        self.kept = kept
        self.speaks = placement.world.rank == 0

    def say(self, text: str) -> None:
        """Tell the log and the user."""
        if self.speaks:
            self.run.log(text)
            self.progress.message(text)

    def resume(
        self, kind: type[S], device: torch.device, space: Space | None
    ) -> tuple[S, float | None] | None:
        """The state of the newest whole checkpoint and its last change, None where there is none."""
        in_memory = space is None or device.type != "cpu"
        allocate = None if space is None or in_memory else lambda: space.allocate().numpy()
        found = load_checkpoint(self.run.path, self.say, placement=self.placement, allocate=allocate)
        if found is None:
            return None
        values, iteration = found
        change = values.pop(_CHANGE, None)
        try:
            state = state_from_arrays(kind, values, device)
        except ValueError as error:
            raise InputError(
                f"its checkpoint was written by another version ({error})",
                path=self.run.path,
                fix="give --overwrite",
            ) from error
        self.say(f"going on after iteration {iteration}")
        return state, change if isinstance(change, float) else None

    def save(self, state: S, change: float | None) -> None:
        """Write a checkpoint."""
        self.run.sync()
        values: dict[str, StateValue] = state_to_arrays(state)
        save_checkpoint(
            self.run.path,
            {**values, _CHANGE: change},
            state.iteration,
            placement=self.placement,
            keep=self.kept,
        )

    def start(self, iterations: int) -> None:
        """Tell the user that it begins."""
        size = self.placement.world.size
        if self.speaks:
            ranks = f"{self.placement.layout} ranks, " if size > 1 else ""
            self.progress.start(f"{ranks}reconstruct", iterations)

    def record_iteration(self, state: S, change: float | None, exchanged: dict[str, float]) -> None:
        """One line of events, and how far it is."""
        measures = state.measures()
        if change is not None:
            measures = {**measures, "relative_change": change}
        self.run.event("iteration", iteration=state.iteration, **measures, **exchanged)
        if self.speaks:
            self.progress.update(state.iteration, _note(measures))

    def record_stop(self, iteration: int, reason: StopReason, text: str) -> None:
        """The last line of events."""
        self.run.event("stop", iteration=iteration, reason=reason.value, message=text)
        if self.speaks:
            self.run.log(f"stopped after iteration {iteration}: {text or reason.value}")


def _note(measures: dict[str, float]) -> str:
    """The measures that tell most, in a few words."""
    names = [name for name in _TELLING if name in measures] or list(measures)
    return ", ".join(f"{name.replace('_', ' ')} {measures[name]:.4g}" for name in names[:_MOST_TOLD])


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
    placement: Placement | None = None,
    space: Space | None = None,
    kept: int = KEPT,
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
    placement
        Which part of the state this rank holds; left out: all of it. All ranks call this at the same time.
    space
        Where the volumes live; left out: whole ones in memory.
    kept
        Checkpoints to keep.

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
    ValueError
        If the run has several ranks and there is no ``placement``.
    """
    if placement is None and run.world.size > 1:
        raise ValueError("a run of several ranks needs a placement")
    placement = placement or Placement.alone()
    world = placement.world
    loop: _Loop[S] = _Loop(run, progress, placement, kept)
    change: float | None = None
    if run.resumed and world.broadcast(has_checkpoints(run.path)):
        kind, device = type(state), state.volume.device
        del state  # memory for one state is enough
        state, change = loop.resume(kind, device, space) or (solver.init(), None)
    if run.resumed:
        run.rewind(state.iteration)
    if state.iteration == 0:
        run.event("start", iteration=0, **state.measures())
    clock = _CheckpointClock(checkpoint_seconds)
    loop.start(iterations)
    while (reason := stop_reason(state.iteration, iterations, change, tolerance)) is None:
        before = _exchanged(world)
        try:
            state, change = advance(solver, state, measure_change=tolerance > 0, space=space)
        except DivergedError as error:
            loop.record_stop(state.iteration + 1, StopReason.DIVERGED, str(error))
            raise
        exchange = [now - then for now, then in zip(_exchanged(world), before, strict=True)]
        if on_state is not None:
            on_state(state)
        agreed = _Agreed.on(world, interrupt.signal_number, clock.is_due(), exchange)
        loop.record_iteration(state, change, agreed.exchanged)
        if agreed.signal_number or agreed.save:
            with clock.saving():
                loop.save(state, change)
        if agreed.signal_number:
            interrupt.tell(agreed.signal_number)
            interrupt.raise_if_requested(state.iteration)
    loop.record_stop(state.iteration, reason, "")
    return state, reason
