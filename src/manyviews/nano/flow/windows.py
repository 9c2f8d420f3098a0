"""Windows from coarse to fine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FINEST_WINDOW = 12.0
"""Pixels; with smaller windows Farneback's flow diverges."""


@dataclass(frozen=True)
class WindowSchedule:
    """``start - step i`` pixels in iteration i, not below ``finest``: 2 pixels an iteration in the paper."""

    start: float
    step: float = 2.0
    finest: float = FINEST_WINDOW

    def window(self, iteration: int) -> float:
        """Pixels of the window in an iteration, the first of which is 0."""
        return max(self.finest, self.start - self.step * iteration)


def level_schedules(start: float, iterations: Sequence[int], step: float = 2.0) -> list[WindowSchedule]:
    """One schedule a level, the coarsest first, with so many iterations each.

    Images double from level to level, so each starts with twice the pixels that the one before would have
    gone on with: 256, 128, 64 for 96, 48, 24 iterations, as in the published experiments.
    """
    schedules = [WindowSchedule(start, step)]
    for count in iterations[:-1]:
        schedules.append(WindowSchedule(2 * schedules[-1].window(count), step))
    return schedules


def annealed_window(start: float, finest: float, part: float) -> float:
    """From ``start`` to ``finest`` pixels by equal factors, where ``part`` of the way from 0 to 1 is done."""
    return float(start * (min(finest, start) / start) ** min(max(part, 0.0), 1.0))
