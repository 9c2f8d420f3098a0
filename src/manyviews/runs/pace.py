"""The time that is left of a task, from the pace so far and the work to come."""

from __future__ import annotations

import time
from dataclasses import dataclass

_TOO_LITTLE = 0.05  # of the work, to say from the first step how long the rest will take


@dataclass(frozen=True)
class Work:
    """What the last step of a task took, what those to come will, and later tasks; all in the same unit.

    Steps that are not alike tell it, so that the time left is that of the work and not of their number.
    """

    step: float
    left: float
    later: float = 0.0


@dataclass(frozen=True)
class TimeLeft:
    """Seconds of a task, and of it and all that is known to follow."""

    task: float
    run: float


class Pace:
    """Of one task, whose steps are told as they are done."""

    def __init__(self) -> None:
        self._began = self._last_at = time.monotonic()
        self._worked = self._first_work = self._first_at = 0.0
        self._left: TimeLeft | None = None

    def step(self, work: Work) -> None:
        """A step is done."""
        self._last_at = time.monotonic()
        if not self._worked:
            self._first_work, self._first_at = work.step, self._last_at
        self._worked += work.step
        self._left = self._measured(work)

    def left(self) -> TimeLeft | None:
        """From now on; None where it is not known yet."""
        if self._left is None:
            return None
        since = time.monotonic() - self._last_at
        return TimeLeft(max(0.0, self._left.task - since), max(0.0, self._left.run - since))

    def _measured(self, work: Work) -> TimeLeft | None:
        """From the pace so far, but for the first step, in which programs are loaded and compiled too."""
        since, worked = self._first_at, self._worked - self._first_work
        if worked < self._first_work:
            since, worked = self._began, self._worked
            if worked <= _TOO_LITTLE * (worked + work.left):
                return None
        if worked <= 0:
            return None
        pace = (self._last_at - since) / worked
        return TimeLeft(pace * work.left, pace * (work.left + work.later))
