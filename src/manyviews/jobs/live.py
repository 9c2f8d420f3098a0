"""A report that is there, and true, while the job still runs."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from manyviews.errors import ManyviewsError

S = TypeVar("S")
_SECONDS = 20.0
_MOST_OF_RUN_TIME = 0.03


class LiveReport(Generic[S]):
    """Writes the present answer and the report now and then: the viewer of `manyviews.runs.driver.drive`.

    It takes little of the run's time and never ends a run: what goes wrong is told once, in a sentence, to
    ``say``. ``preview`` writes the answer of a state, all ranks together; ``refresh`` builds the report, on
    the first rank alone.
    """

    def __init__(
        self, preview: Callable[[S], None], refresh: Callable[[], object], say: Callable[[str], None]
    ) -> None:
        self._preview = preview
        self._refresh = refresh
        self._say = say
        self._written_at = time.monotonic()
        self._cost_seconds = 0.0
        self._given_up = False

    def is_due(self) -> bool:
        """Whether it is time."""
        pause = max(_SECONDS, self._cost_seconds / _MOST_OF_RUN_TIME)
        return not self._given_up and time.monotonic() - self._written_at >= pause

    def show(self, state: S) -> None:
        """Write."""
        began = time.monotonic()
        try:
            self._preview(state)
            self._refresh()
        except (ManyviewsError, OSError) as error:
            self._given_up = True
            self._say(f"the report is not refreshed any more until the run is done: {error}")
        # what drawing leaves in cycles holds this frame, and with it a state that is soon over
        gc.collect()
        self._written_at = time.monotonic()
        self._cost_seconds = self._written_at - began
