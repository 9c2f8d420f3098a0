"""How far a run is: a bar with the time left on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TextIO, cast

from manyviews.runs.course import Course, Expected
from manyviews.runs.pace import Work
from manyviews.runs.status import RUNNING, Status

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

_LINE_SECONDS = 10.0
_LINE_FRACTION = 0.1


def format_seconds(seconds: float) -> str:
    """A duration for people: ``42 s``, ``3 min 05 s``, ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class _OpenEnded:
    """A stream that may lose its reader; what is written after that is lost, and nobody is told.

    rich would end the process.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._open = True

    def write(self, text: str) -> int:
        """Write, if anybody reads."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush, if anybody reads."""
        self._try(self._stream.flush)

    def _try(self, action: Callable[[], object]) -> None:
        if self._open:
            try:
                action()
            except OSError:  # a closed pipe, or a terminal that is no more
                self._open = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Progress:
    """Tells on ``stream``, or standard error, how far the task at hand is; if quiet, `warn` alone.

    A context manager, so that a bar is always ended. Where the reader has gone (a pipe to ``head``, a
    terminal that was closed) nothing more is said, and the work goes on.
    """

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._stream = _OpenEnded(sys.stderr if stream is None else stream)
        self._quiet = quiet
        self._bar: RichProgress | None = None
        self._bar_task: TaskID | None = None
        self._task = self._note = ""
        self._total = 0
        self._done: int | None = None
        self._course = Course()
        self._said_at = 0.0
        self._said_done = 0

    def expect(self, phases: Mapping[str, Expected], seconds_a_unit: float | None = None) -> None:
        """What tasks to come will take, by name; see `Course.expect`."""
        self._course.expect(phases, seconds_a_unit)

    def start(self, task: str, total: int, done: int | None = None, name: str = "") -> None:
        """Begin a task of ``total`` steps, of which some were ``done`` before.

        Left out: all that are done at the first `update`, but for one. ``name`` is that under which the task
        was expected, if that is not how it is told.
        """
        self._task, self._total, self._note = task, total, ""
        self._said_at = time.monotonic()
        self._done = done
        self._course.begin(name or task, total)
        self._said_done = 0
        if self._quiet:
            return
        if self._stream.isatty():
            self._start_bar()
        else:
            self._write(f"{task}: {total} step{'s' if total != 1 else ''}")

    def phase(self, task: str, *, name: str = "", told: bool = True) -> None:
        """Begin a task whose steps are not counted; not ``told``, the status alone says so.

        ``name`` as of `start`.
        """
        self._task, self._total, self._done, self._note = task, 0, None, ""
        self._course.begin(name or task)
        if self._quiet or not told:
            return
        if self._stream.isatty():
            self._start_bar()
        else:
            self._write(f"{task}{self._time_left()}")

    def part(self, done: float) -> None:
        """This part of a task that counts no steps is done."""
        self._course.part(done)

    def update(self, done: int, note: str = "", work: Work | None = None) -> None:
        """``done`` steps are done; ``note`` is how it goes, ``work`` what they take if they are not alike."""
        before = done - 1 if self._done is None else self._done
        self._done, self._note = done, note
        self._course.step(done, work, before)
        if self._quiet:
            return
        if self._bar is not None and self._bar_task is not None:
            self._bar.update(self._bar_task, completed=done, note=note)
        elif self._is_due(done):
            self._said_at, self._said_done = time.monotonic(), done
            self._write(f"{self._task}: {done} of {self._total}{self._time_left()}{note and f', {note}'}")

    def status(self) -> Status:
        """How the task at hand is, now; of one whose steps are done no time is told."""
        left = self._course.left()
        over = self._total > 0 and self._done == self._total
        return Status(
            RUNNING,
            time.time(),
            task=self._task,
            done=self._done,
            total=self._total or None,
            note=self._note,
            task_seconds_left=None if over else left.task,
            seconds_left=left.run,
        )

    def message(self, text: str) -> None:
        """Say one sentence, above the bar if there is one."""
        if not self._quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        """Say one sentence even if quiet."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            self._write(text)

    def close(self) -> None:
        """End the bar, if there is one."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __enter__(self) -> Progress:
        """Itself."""
        return self

    def __exit__(self, *failure: object) -> None:
        """End the bar."""
        self.close()

    def _is_due(self, done: int) -> bool:
        far = done - self._said_done >= _LINE_FRACTION * self._total
        return far or done >= self._total or time.monotonic() - self._said_at >= _LINE_SECONDS

    def _time_left(self) -> str:
        """Of the task and of the run, as the status has it; empty where it is not known."""
        left = self._course.left()
        if left.task is None or max(left.task, left.run or 0.0) <= 0:
            return ""
        more = f" ({format_seconds(left.run)} of the run)" if left.run and left.run > left.task else ""
        return f", {format_seconds(left.task)} left{more}"

    def _write(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()

    def _start_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn
        from rich.progress import Progress as RichProgress
        from rich.text import Text

        time_left = self._time_left

        class Left(ProgressColumn):
            """The time left, counted down between steps too."""

            def render(self, task: Task) -> Text:
                return Text(time_left().removeprefix(", "))

        self.close()
        self._bar = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            Left(),
            TextColumn("{task.fields[note]}", markup=False),
            console=Console(file=cast(TextIO, self._stream)),
        )
        # a bar without a total goes to and fro
        self._bar_task = self._bar.add_task(self._task, total=self._total or None, note="")
        self._bar.start()
