"""A report that is there, and true, while the job still runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

import torch

from manyviews.io.mrc import write_mrc
from manyviews.particles.job import Job
from manyviews.report.build import build_report

S = TypeVar("S")
VOLUME_FILE = "volume.mrc"
_SECONDS = 20.0
_MOST_OF_RUN_TIME = 0.03


class LiveReport(Generic[S]):
    """Writes the present map and the report now and then; called with every state.

    Parameters
    ----------
    job
        The run.
    volume_of
        The map of a state.
    """

    def __init__(self, job: Job, volume_of: Callable[[S], torch.Tensor]) -> None:
        self.job = job
        self.volume_of = volume_of
        self._written_at = time.monotonic()
        self._cost_seconds = 0.0

    def __call__(self, state: S) -> None:
        """Write if it is time."""
        pause = max(_SECONDS, self._cost_seconds / _MOST_OF_RUN_TIME)
        if self.job.run.world.rank > 0 or time.monotonic() - self._written_at < pause:
            return
        began = time.monotonic()
        folder, pixel_size = self.job.run.path, self.job.settings.pixel_size
        write_mrc(folder / VOLUME_FILE, self.volume_of(state).numpy(), pixel_size, overwrite=True)
        build_report(folder)
        self._written_at = time.monotonic()
        self._cost_seconds = self._written_at - began
