"""The time that is left of a task, from the pace so far and the work to come."""

from __future__ import annotations

import time
from dataclasses import dataclass

from manyviews.runs.status import counted_down

_TOO_LITTLE = 0.05  # of the work, to say from the first step how long the rest will take


@dataclass(frozen=True)
class Work:
    """What the last step of a task took, and what those to come will, in the same unit.

    Steps that are not alike tell it, so that the time left is that of the work and not of their number.
    """

    step: float
    left: float


@dataclass(frozen=True)
class TimeLeft:
    """Seconds of a task, None if not known, and of all of the run, None where its tasks are not known."""

    task: float | None
    run: float | None


class Pace:
    """Of one task, whose steps are told as they are done."""

    def __init__(self) -> None:
        self._began = self._last_at = time.monotonic()
        self._worked = self._first_work = self._first_at = self._work_left = 0.0

    def step(self, work: Work) -> None:
        """A step is done."""
        self._last_at = time.monotonic()
        if not self._worked:
            self._first_work, self._first_at = work.step, self._last_at
        self._worked += work.step
        self._work_left = work.left

    def left(self) -> float | None:
        """Seconds from now on; None where they are not known yet."""
        seconds, worked = self.measured()
        if worked <= 0:
            return None
        return counted_down(seconds / worked * self._work_left, time.monotonic() - self._last_at)

    def measured(self) -> tuple[float, float]:
        """Seconds and work so far, but for the first step, in which programs are loaded and compiled too.

        Nothing where that is all there is, and too little to tell.
        """
        since, worked = self._first_at, self._worked - self._first_work
        if worked <= 0 or worked < self._first_work:
            since, worked = self._began, self._worked
            if worked <= _TOO_LITTLE * (worked + self._work_left):
                return 0.0, 0.0
        return self._last_at - since, worked
