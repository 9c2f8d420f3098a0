"""What a run goes through, phase after phase, and the time that is left of all of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from manyviews.runs.pace import Pace, TimeLeft, Work
from manyviews.runs.status import OVERDUE, counted_down

REPORT = "report"
"""The phase in which the page is drawn, the last of every run."""
_TOLD_SHARE = 0.1  # of all work


@dataclass(frozen=True)
class Expected:
    """What a phase takes: ``work``, in a unit that all phases of a run share, and ``seconds`` beside it.

    Seconds are of what has its own pace: pictures, programs that are loaded. ``steps`` are those that are
    usually enough, where the phase may end before all that it may take; 0: all.
    """

    work: float = 0.0
    seconds: float = 0.0
    steps: int = 0


class Course:
    """The phases of a run in their order; of the one at hand, its own steps say what is left.

    Seconds of a unit of work are those measured so far in this run, and ``seconds_a_unit`` as they were told
    with what is expected, which count as if a tenth of all work had been measured: a first phase, of which
    less may be known than of others, says little of the rest. Where there are neither, nothing is known.
    """

    def __init__(self) -> None:
        self._phases: dict[str, Expected] = {}
        self._begun: set[str] = set()
        self._name = ""
        self._began = time.monotonic()
        self._steps: int | None = None
        self._pace: Pace | None = None
        self._part: tuple[float, float] | None = None
        self._over = False
        self._seconds = self._worked = 0.0
        self._seconds_a_unit: float | None = None

    def expect(self, phases: Mapping[str, Expected], seconds_a_unit: float | None = None) -> None:
        """What phases to come will take, by name: new ones follow those that are known, but for the report.

        What was expected of a name before is replaced.
        """
        known = {**self._phases, **phases}
        if REPORT in known:
            known[REPORT] = known.pop(REPORT)
        self._phases = known  # all at once, as another thread may be reading
        if seconds_a_unit is not None:
            self._seconds_a_unit = seconds_a_unit

    def begin(self, name: str, steps: int | None = None) -> None:
        """Begin a phase, of so many steps if they are counted. What was expected before it is over."""
        self._measure()
        self._name, self._steps = name, steps
        self._began = time.monotonic()
        self._pace = None if steps is None else Pace()
        self._part, self._over = None, False
        if name in self._phases:
            names = list(self._phases)
            self._begun = self._begun | set(names[: names.index(name) + 1])

    def step(self, done: int, work: Work | None, before: int) -> None:
        """``done`` steps of the phase are done, ``before`` were; ``work`` where they are not alike."""
        assert self._pace is not None
        assert self._steps is not None
        expected = self._phases.get(self._name, Expected())
        usual = min(expected.steps or self._steps, self._steps)
        each = expected.work / usual if expected.work > 0 and usual else 1.0
        left = min(self._steps - done, max(usual - done, OVERDUE * done))
        self._pace.step(work or Work(each * (done - before), each * left))
        self._over = done >= self._steps

    def part(self, done: float) -> None:
        """This part of the phase at hand is done, which counts no steps."""
        self._part = done, time.monotonic()

    def left(self) -> TimeLeft:
        """Seconds from now on; of the run not before one that was expected has begun, or is about to.

        One that nobody expected among others is taken to be short.
        """
        task = self._task_left()
        if task is None and self._name in self._phases:
            return TimeLeft(None, None)
        known = self._begun or (self._over and set(self._phases) - {REPORT} and self._rate() is not None)
        return TimeLeft(task, (task or 0.0) + self._later() if known else None)

    def _task_left(self) -> float | None:
        """Of the phase at hand, from its own pace or from what was expected."""
        measured = None if self._pace is None else self._pace.left()
        if measured is not None:
            return measured
        if self._part is not None and self._part[0] > 0:
            done, at = self._part
            return counted_down((at - self._began) * (1 - done) / done, time.monotonic() - at)
        expected, rate = self._phases.get(self._name), self._rate()
        if expected is None or (expected.work > 0 and rate is None):
            return None
        if expected == Expected() and self._pace is not None:
            return None  # steps of which nothing is known
        whole = expected.work * (rate or 0.0) + expected.seconds
        return counted_down(whole, time.monotonic() - self._began)

    def _later(self) -> float:
        """Of all phases that have not begun; what nothing is known of counts as nothing."""
        rate = self._rate() or 0.0
        left = [one for name, one in self._phases.items() if name not in self._begun]
        return sum(one.work * rate + one.seconds for one in left)

    def _rate(self) -> float | None:
        """Seconds of a unit of work, as it has been so far and as was told."""
        now = self._measured()
        seconds, worked = self._seconds + now[0], self._worked + now[1]
        if self._seconds_a_unit is not None:
            told = _TOLD_SHARE * sum(one.work for one in self._phases.values())
            seconds, worked = seconds + told * self._seconds_a_unit, worked + told
        return seconds / worked if worked > 0 else self._seconds_a_unit

    def _measured(self) -> tuple[float, float]:
        """Seconds and work of the phase at hand so far, nothing where it has no known work."""
        expected = self._phases.get(self._name)
        if expected is None or expected.work <= 0 or self._pace is None:
            return 0.0, 0.0
        return self._pace.measured()

    def _measure(self) -> None:
        """The phase at hand is over."""
        expected = self._phases.get(self._name)
        if expected is None or expected.work <= 0:
            return
        seconds, worked = self._measured()
        if self._pace is None:
            seconds, worked = time.monotonic() - self._began - expected.seconds, expected.work
        if seconds > 0 and worked > 0:
            self._seconds += seconds
            self._worked += worked
