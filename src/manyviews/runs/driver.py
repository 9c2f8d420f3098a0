"""The one loop with files: a stage of a run, with events, checkpoints, progress and a clean way out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch

from manyviews.errors import DivergedError, InputError
from manyviews.parallel.world import World
from manyviews.runs.checkpoint import KEPT, STAGE, has_checkpoints, load_checkpoint, save_checkpoint
from manyviews.runs.folder import RunFolder
from manyviews.runs.interrupt import Interrupt
from manyviews.runs.pace import Work
from manyviews.runs.placement import Placement
from manyviews.runs.progress import Progress
from manyviews.runs.state import StateValue, state_from_arrays, state_to_arrays
from manyviews.solvers.driver import Solver, StopReason, advance, stop_reason
from manyviews.solvers.space import Space
from manyviews.solvers.state import SolverState

S = TypeVar("S", bound=SolverState)
S_contra = TypeVar("S_contra", contravariant=True)

_CHANGE = "driver.relative_change"
_STOPPED = "driver.stopped"
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

    The signal that one of them got, 0 for none; whether a checkpoint is due, and whether the present answer
    is to be shown; and fields of the event: what the iteration had them tell each other.
    """

    signal_number: int
    save: bool
    show: bool
    exchanged: dict[str, float]

    @classmethod
    def on(cls, world: World, signal_number: int | None, due: list[bool], exchange: list[float]) -> _Agreed:
        """Tell what this rank knows, ``due`` to save and to show: one message an iteration."""
        told = world.gather([signal_number or 0, *map(int, due), *exchange])
        signals, save, show, sent, messages, seconds = zip(*told, strict=True)
        exchanged = {
            "exchanged_bytes": int(sum(sent)),
            "messages": int(sum(messages)),
            "exchange_seconds": max(seconds),
        }
        return cls(int(max(signals)), bool(save[0]), bool(show[0]), exchanged if world.size > 1 else {})


class Viewer(Protocol[S_contra]):
    """Shows the present answer of a run now and then."""

    def is_due(self) -> bool:
        """Whether it is time; what rank 0 says holds for all."""

    def show(self, state: S_contra) -> None:
        """Show it; all ranks make this call."""


class _Loop(Generic[S]):
    """One call of `drive`: what its steps share."""

    def __init__(
        self,
        stage: str,
        run: RunFolder,
        progress: Progress,
        placement: Placement,
        kept: int,
        cost: Callable[[S], Work] | None,
    ) -> None:
        self.stage = stage
        self.run = run
        self.progress = progress
        self.placement = placement
        self.kept = kept
        self.cost = cost
        self.resumed = False
        self.speaks = placement.world.rank == 0

    def say(self, text: str) -> None:
        """Tell the log and the user."""
        if self.speaks:
            self.run.log(text)
            self.progress.message(text)

    def warn(self, text: str) -> None:
        """Tell the log and the user, even if quiet."""
        if self.speaks:
            self.run.log(text)
            self.progress.warn(text)

    def resume(
        self, kind: type[S], device: torch.device, space: Space | None
    ) -> tuple[S, float | None, StopReason | None] | None:
        """State, last change, and why the stage ended if it had; None without a whole checkpoint."""
        in_memory = space is None or device.type != "cpu"
        allocate = None if space is None or in_memory else lambda: space.allocate().numpy()
        found = load_checkpoint(
            self.run.path, self.warn, stage=self.stage, placement=self.placement, allocate=allocate,
            make=None if space is None or in_memory else space.make,
        )  # fmt: skip
        if found is None:
            return None
        values, iteration = found
        change, stopped = values.pop(_CHANGE, None), values.pop(_STOPPED, None)
        try:
            state = state_from_arrays(kind, values, device)
            reason = None if stopped is None else StopReason(str(stopped))
        except ValueError as error:
            raise InputError(
                f"its checkpoint was written by another version ({error})",
                path=self.run.path,
                fix="give --overwrite",
            ) from error
        self.resumed = True
        if reason is None:
            self.say(f"{self.stage}: going on after iteration {iteration}")
        else:
            self.say(f"{self.stage}: done before, after iteration {iteration}")
        return state, change if isinstance(change, float) else None, reason

    def save(self, state: S, change: float | None, stopped: StopReason | None = None) -> None:
        """Write a checkpoint."""
        self.run.sync()
        values: dict[str, StateValue] = state_to_arrays(state)
        save_checkpoint(
            self.run.path,
            {**values, _CHANGE: change, _STOPPED: None if stopped is None else stopped.value},
            state.iteration,
            stage=self.stage,
            placement=self.placement,
            keep=self.kept,
        )

    def start(self, iterations: int, done: int) -> None:
        """Tell the user that it begins, after so many iterations that are ``done``."""
        size = self.placement.world.size
        if self.speaks:
            ranks = f"{self.placement.layout} ranks, " if size > 1 else ""
            self.progress.start(f"{ranks}{self.stage}", iterations, done, name=self.stage)

    def record_start(self, state: S) -> None:
        """The first line of events of the stage."""
        self.run.event("start", stage=self.stage, iteration=state.iteration, **state.measures())

    def record_iteration(self, state: S, change: float | None, exchanged: dict[str, float]) -> None:
        """One line of events, and how far it is."""
        measures = state.measures()
        if change is not None:
            measures = {**measures, "relative_change": change}
        self.run.event("iteration", stage=self.stage, iteration=state.iteration, **measures, **exchanged)
        if self.speaks:
            work = None if self.cost is None else self.cost(state)
            self.progress.update(state.iteration, _note(measures), work)

    def record_stop(self, iteration: int, reason: StopReason, text: str) -> None:
        """The last line of events of the stage."""
        self.run.event("stop", stage=self.stage, iteration=iteration, reason=reason.value, message=text)
        if self.speaks:
            self.run.log(f"{self.stage} stopped after iteration {iteration}: {text or reason.value}")

    def advance(
        self,
        solver: Solver[S],
        state: S,
        clock: _CheckpointClock,
        interrupt: Interrupt,
        viewer: Viewer[S] | None,
        ending: Callable[[S, float | None], StopReason | None],
        measure_change: bool,
        space: Space | None,
    ) -> tuple[S, float | None]:
        """One iteration, told, shown and saved; the next state and how much it changed.

        The last one, after which ``ending`` gives a reason, is left to be saved with that.
        """
        world = self.placement.world
        before = _exchanged(world)
        try:
            state, change = advance(solver, state, measure_change=measure_change, space=space)
        except DivergedError as error:
            self.record_stop(state.iteration + 1, StopReason.DIVERGED, str(error))
            raise
        exchange = [now - then for now, then in zip(_exchanged(world), before, strict=True)]
        due = [clock.is_due(), viewer is not None and viewer.is_due()]
        agreed = _Agreed.on(world, interrupt.signal_number, due, exchange)
        self.record_iteration(state, change, agreed.exchanged)
        if agreed.signal_number or (agreed.save and ending(state, change) is None):
            with clock.saving():
                self.save(state, change)
        if agreed.signal_number:
            interrupt.tell(agreed.signal_number)
            interrupt.raise_if_requested(state.iteration)
        if viewer is not None and agreed.show:
            viewer.show(state)
        return state, change


def _note(measures: dict[str, float]) -> str:
    """The measures that tell most, in a few words."""
    names = [name for name in _TELLING if name in measures] or list(measures)
    return ", ".join(f"{name.replace('_', ' ')} {measures[name]:.4g}" for name in names[:_MOST_TOLD])


def drive(
    solver: Solver[S],
    *,
    iterations: int,
    run: RunFolder,
    progress: Progress,
    interrupt: Interrupt,
    stage: str = STAGE,
    start: Callable[[], S] | None = None,
    checkpoint_seconds: float = 30.0,
    tolerance: float = 0.0,
    settled: Callable[[S], bool] | None = None,
    viewer: Viewer[S] | None = None,
    placement: Placement | None = None,
    space: Space | None = None,
    kept: int = KEPT,
    cost: Callable[[S], Work] | None = None,
) -> tuple[S, StopReason]:
    """Run a solver as a stage of a run, from its newest checkpoint if the run is resumed.

    Killed at any moment and called again in the same way, it gives bit-identical results, as long as the
    solver's step depends on its state and fixed data alone. The last state is kept until the run is done: a
    stage that has ended is not run again.

    Parameters
    ----------
    iterations
        Iterations in all.
    interrupt
        Looked at after every iteration; a request to stop is met with a checkpoint.
    stage
        Its name among the stages of the run, which follow each other in the same order at every call.
    start
        Makes the first state, whose measures are told in the event ``start``; left out: ``solver.init``.
    checkpoint_seconds
        Least time between two checkpoints; longer where saving would take more than a tenth of the run. 0
        saves after every iteration.
    tolerance
        Stop when the relative change of the iterate falls below it; 0 never.
    settled
        Says of a state whether to stop there; the same in all ranks. Left out: never.
    viewer
        Shows states.
    placement
        Which part of the state this rank holds; left out: all of it. All ranks call this at the same time.
    space
        Where the volumes live; left out: whole ones in memory.
    kept
        Checkpoints to keep.
    cost
        What the iteration that led to a state took, and what all to come will: for the time left. Left out:
        they are alike.

    Returns
    -------
    tuple
        The last state and why the loop ended.

    Raises
    ------
    DivergedError
        If the iterate gets NaN, infinite or constant; the event ``stop`` tells the iteration.
    Interrupted
        If a signal came.
    InputError
        If events or checkpoints cannot be written.
    ValueError
        If the run has several ranks and there is no ``placement``.
    """
    if placement is None and run.world.size > 1:
        raise ValueError("a run of several ranks needs a placement")
    begin = start or solver.init
    state = begin()
    placement = (placement or Placement.alone()).holding(type(state))
    loop: _Loop[S] = _Loop(stage, run, progress, placement, kept, cost)
    resumed: tuple[S, float | None, StopReason | None] | None = None
    if run.resumed and placement.world.broadcast(has_checkpoints(run.path, stage)):
        kind, device = type(state), state.iterate.device
        del state  # memory for one state is enough
        resumed = loop.resume(kind, device, space)
        state = begin() if resumed is None else resumed[0]
    change, ended = (None, None) if resumed is None else resumed[1:]
    del resumed
    if ended is not None:
        return state, ended
    if run.resumed:
        run.rewind(stage, state.iteration)
    if not loop.resumed:
        loop.record_start(state)
    clock = _CheckpointClock(checkpoint_seconds)
    loop.start(iterations, state.iteration)

    def ending(state: S, change: float | None) -> StopReason | None:
        return stop_reason(state.iteration, iterations, change, tolerance)

    while (reason := ending(state, change)) is None:
        if settled is not None and settled(state):
            reason = StopReason.CONVERGED
            break
        state, change = loop.advance(solver, state, clock, interrupt, viewer, ending, tolerance > 0, space)
    loop.record_stop(state.iteration, reason, "")
    loop.save(state, change, reason)
    return state, reason
