"""One way to run a job in a folder: what it says, saves, shows and leaves, whatever its science.

    with start_job("tilt reconstruct", run, machine, record=..., inputs=..., results=...) as job:
        if job.finished:
            return job.result()
        state, reason = job.solve(solver, iterations, stage="reconstruct")
        return job.finish(summary)

A run begins with its first stage. Whatever is wrong with the input before that is one sentence, and the
folder is as it was. A run is a list of stages, each saved by itself; one that has ended is not run again.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from manyviews.errors import InputError
from manyviews.io.atomic import atomic_write
from manyviews.jobs.device import load_of_a_core, use_threads
from manyviews.jobs.heartbeat import Heartbeat
from manyviews.jobs.live import LiveReport
from manyviews.options import MachineOptions, RunOptions
from manyviews.parallel.world import SingleWorld, World
from manyviews.report.build import REPORT_NAME, build_report, refresh_status
from manyviews.report.chimerax import VIEW_FILE, write_view_script
from manyviews.report.sections import Sections
from manyviews.runs.checkpoint import KEPT, STAGE
from manyviews.runs.course import REPORT, Expected
from manyviews.runs.driver import drive
from manyviews.runs.folder import FIGURES_FOLDER, LOG_FILE, SUMMARY_FILE, RunFolder
from manyviews.runs.interrupt import Interrupt, Interrupted
from manyviews.runs.map_names import VOLUME_FILE
from manyviews.runs.memory import peak_memory_bytes
from manyviews.runs.pace import Work
from manyviews.runs.placement import Placement
from manyviews.runs.progress import Progress
from manyviews.runs.sessions import earlier_seconds
from manyviews.runs.status import FAILED, FINISHED, STOPPED, Status
from manyviews.runs.toml import TomlValue
from manyviews.solvers.driver import Solver, StopReason
from manyviews.solvers.space import Space
from manyviews.solvers.state import SolverState

S = TypeVar("S", bound=SolverState)

# That a page takes, measured: of one core, for it, and for each picture.
_PAGE_SECONDS, _PICTURE_SECONDS = 0.5, 0.32


@dataclass(frozen=True)
class JobResult:
    """Where the result is, and its key figures by name (on the first rank; empty on the others)."""

    run_folder: Path
    report: Path
    summary: dict[str, object]

    @classmethod
    def elsewhere(cls, folder: Path) -> JobResult:
        """What a rank returns that does not speak, or has nothing to do."""
        return cls(folder, folder / REPORT_NAME, {})


@dataclass(frozen=True)
class Job:
    """A job at work in its folder; `start_job` makes it.

    Attributes
    ----------
    run, progress, interrupt
        Where it is written down, shown and stopped.
    options
        Of the run.
    results
        Files that it may leave, less its pictures.
    sections
        What it adds to its report.
    began
        When, by `time.monotonic`.
    heartbeat
        Tells in files that it lives.
    report_seconds
        That its last page takes, of one core.
    """

    run: RunFolder
    progress: Progress
    interrupt: Interrupt
    options: RunOptions
    results: tuple[str, ...]
    sections: Sections
    began: float
    heartbeat: Heartbeat
    report_seconds: float = _PAGE_SECONDS
    warnings: list[str] = field(default_factory=list)

    @property
    def world(self) -> World:
        """The ranks at work."""
        return self.run.world

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.run.path

    @property
    def finished(self) -> bool:
        """Whether an earlier call has done it all."""
        return self.run.finished

    @property
    def speaks(self) -> bool:
        """Whether this is the rank that writes and tells."""
        return self.world.rank == 0

    def say(self, text: str) -> None:
        """Tell the log and the user, from the first rank."""
        if self.speaks:
            self.run.log(text)
            self.progress.message(text)

    def expect(self, phases: Mapping[str, Expected], seconds_a_unit: float | None = None) -> None:
        """What stages and phases to come take, by name and in their order; see `Course.expect`.

        What comes after a stage until something else begins has the name `after` gives it. ``seconds_a_unit``
        are those of a machine that does nothing else.
        """
        busy = None if seconds_a_unit is None else seconds_a_unit * load_of_a_core()
        self.progress.expect(phases, busy)
        if self.speaks:
            self._expect_report()

    def phase(self, task: str, name: str = "") -> None:
        """Begin something that takes a while and counts no steps; told like `say`.

        ``name`` is that under which it was expected, if that is not how it is told.
        """
        if self.speaks:
            self.run.log(task)
            self._expect_report()
            self.progress.phase(task, name=name)

    def warn(self, *warnings: str) -> None:
        """Tell what the user should know, each once, even if quiet; the report and the result repeat it."""
        for text in warnings:
            if text not in self.warnings:
                self.warnings.append(text)
                if self.speaks:
                    self.run.log(f"warning: {text}")
                    self.progress.warn(f"warning: {text}")

    def begin(self) -> None:
        """From here on the folder holds a run, and its page; `solve` and `finish` say so by themselves."""
        self.run.begin()
        if self.speaks and not self.heartbeat.beats:
            self.heartbeat.start()
            self._refresh()

    def solve(
        self,
        solver: Solver[S],
        iterations: int,
        *,
        stage: str = STAGE,
        start: Callable[[], S] | None = None,
        tolerance: float = 0.0,
        settled: Callable[[S], bool] | None = None,
        preview: Callable[[S], None] | None = None,
        placement: Placement | None = None,
        space: Space | None = None,
        kept: int = KEPT,
        cost: Callable[[S], Work] | None = None,
        note: Callable[[S], None] | None = None,
    ) -> tuple[S, StopReason]:
        """Run a solver as a stage; parameters as of `manyviews.runs.driver.drive`.

        ``note`` is told every state that a step leads to, on all ranks.
        ``preview`` writes the present answer where the report finds it, all ranks together. ``cost`` is in
        the unit of what was expected, see `expect`.
        """
        self.begin()
        viewer = None if preview is None else LiveReport(preview, self._refresh, self.say)
        found = drive(
            solver if note is None else _Noted(solver, note),
            iterations=iterations,
            run=self.run,
            progress=self.progress,
            interrupt=self.interrupt,
            stage=stage,
            start=start,
            checkpoint_seconds=self.options.checkpoint_seconds,
            tolerance=tolerance,
            settled=settled,
            viewer=viewer,
            placement=placement or Placement.same(self.world),
            space=space,
            kept=kept,
            cost=cost,
        )
        self._expect_report()
        # until something else is begun
        self.progress.phase(f"after {stage}: making results", name=after(stage), told=False)
        return found

    def result(self) -> JobResult:
        """What a run that was finished before has left."""
        self.run.begin()
        if not self.speaks:
            return JobResult.elsewhere(self.folder)
        self.progress.message(f"{self.folder} holds this run already, finished; nothing to do")
        summary: dict[str, object] = json.loads((self.folder / SUMMARY_FILE).read_text())
        return JobResult(self.folder, build_report(self.folder, self.sections), summary)

    def finish(self, summary: Mapping[str, object], *, mapped: bool = False) -> JobResult:
        """Write the key figures, close the run and build its report; all ranks make this call.

        ``summary`` has names like ``pixel_size_angstrom``, with the unit at the end, and plain values.
        ``mapped``: volumes or images were in files, of which the system counts what it has at hand.
        """
        self.begin()
        peaks = self.world.gather(peak_memory_bytes())
        if not self.speaks:
            return JobResult.elsewhere(self.folder)
        session = time.monotonic() - self.began
        earlier = earlier_seconds(self.folder / LOG_FILE)
        whole = {
            **{name: _plain(value) for name, value in summary.items()},
            "wall_seconds": round(earlier + session, 2),
            **({"wall_seconds_of_the_last_session": round(session, 2)} if earlier else {}),
            **({"ranks": len(peaks)} if len(peaks) > 1 else {}),
            "peak_memory_of_a_rank_bytes" if len(peaks) > 1 else "peak_memory_bytes": max(peaks),
            **({"peak_memory_counts_mapped_files": True} if mapped else {}),
            **({"warnings": list(self.warnings)} if self.warnings else {}),
        }
        atomic_write(self.folder / SUMMARY_FILE, json.dumps(whole, indent=1).encode(), overwrite=True)
        self._write_view()
        self.run.finish([name for name in self.results if (self.folder / name).exists()])
        self._expect_report()
        self.progress.phase("drawing the report", name=REPORT, told=False)
        try:
            self._refresh(self.progress.part)
        finally:  # the results are there, whatever becomes of the page
            self.heartbeat.end(Status(FINISHED, time.time()))
        return JobResult(self.folder, self.folder / REPORT_NAME, whole)

    def _write_view(self) -> None:
        """The maps for ChimeraX; that they cannot be shown ends no run."""
        try:
            write_view_script(self.folder)
        except InputError as error:
            self.run.log(f"no {VIEW_FILE}: {error}")

    def _refresh(self, tell: Callable[[float], None] | None = None) -> None:
        """Draw the page; what that took is expected of the last one at least."""
        if not self.speaks:
            return
        began = time.monotonic()
        with self.heartbeat.writing():
            build_report(self.folder, self.sections, tell)
        self._expect_report(time.monotonic() - began)

    def _expect_report(self, least: float = 0.0) -> None:
        """One thread draws the last page, as quick as the machine has time for it now."""
        self.progress.expect({REPORT: Expected(seconds=max(least, load_of_a_core() * self.report_seconds))})


class _Noted(Generic[S]):
    """A solver whose steps are told."""

    def __init__(self, solver: Solver[S], note: Callable[[S], None]) -> None:
        self.init, self._step, self._note = solver.init, solver.step, note

    def step(self, state: S) -> S:
        """One iteration."""
        found = self._step(state)
        self._note(found)
        return found


def after(stage: str) -> str:
    """Name of what follows a stage until something else begins; see `Job.expect`."""
    return f"after {stage}"


def _plain(value: object) -> object:
    """A key figure as JSON has it, which knows neither NaN nor infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextlib.contextmanager
def start_job(
    name: str,
    options: RunOptions,
    machine: MachineOptions,
    *,
    record: Mapping[str, TomlValue],
    inputs: Mapping[str, str],
    results: Sequence[str],
    pictures: Sequence[str],
    sections: Sections,
    seed: int | None = None,
    world: World | None = None,
    began: float | None = None,
) -> Iterator[Job]:
    """Hold a folder for a job; all ranks make this call.

    Parameters
    ----------
    name
        The job, e.g. ``"tilt reconstruct"``.
    options, machine
        Where it runs, and with what.
    record
        All options that the result depends on, resolved.
    inputs
        Fingerprint of every input by its name.
    results
        Files that the job may leave in its folder, beside summary and report.
    pictures
        Names of the pictures that its report may have.
    sections
        What the job adds to its report; see `manyviews.report.build.build_report`.
    seed
        Of all random numbers, if there are any.
    world
        The processes that work on it; left out: this one alone.
    began
        When the job was called, by `time.monotonic`; left out: now.

    Raises
    ------
    InputError
        If the folder cannot be taken: see `manyviews.runs.folder.RunFolder.open`.
    """
    began = time.monotonic() if began is None else began
    world = world or SingleWorld()
    use_threads(machine, world)
    files = (*results, SUMMARY_FILE, *([VIEW_FILE] if VOLUME_FILE in results else []))
    with contextlib.ExitStack() as stack:
        run = stack.enter_context(
            RunFolder.open(
                options.out,
                job=name,
                options=record,
                inputs=inputs,
                command=options.command,
                seed=seed,
                results=(*files, *(f"{FIGURES_FOLDER}/{name}.png" for name in pictures)),
                overwrite=options.overwrite,
                begin=False,
                world=world,
            )
        )
        progress = stack.enter_context(Progress(quiet=options.quiet or world.rank > 0))
        interrupt = stack.enter_context(Interrupt())
        heartbeat = Heartbeat(run.path, progress.status, partial(refresh_status, run.path))
        with _last_words(heartbeat):
            drawing = _PAGE_SECONDS + _PICTURE_SECONDS * len(pictures)
            yield Job(run, progress, interrupt, options, files, sections, began, heartbeat, drawing)


@contextlib.contextmanager
def _last_words(heartbeat: Heartbeat) -> Iterator[None]:
    """How a job ended that did not finish."""
    try:
        yield
    except Interrupted as stopped:
        heartbeat.end(Status(STOPPED, time.time(), str(stopped)))
        raise
    except BaseException as error:
        heartbeat.end(Status(FAILED, time.time(), str(error) or type(error).__name__))
        raise
    heartbeat.end(Status(STOPPED, time.time()))
