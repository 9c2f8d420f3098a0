"""A report that is there, and true, while the job still runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

import torch

from manyviews.errors import ManyviewsError
from manyviews.io.mrc import write_mrc
from manyviews.particles.job import Job
from manyviews.particles.report import sections
from manyviews.report.build import build_report

S = TypeVar("S")
VOLUME_FILE = "volume.mrc"
HALVES_FILE = "fsc.csv"
_SECONDS = 20.0
_MOST_OF_RUN_TIME = 0.03


class LiveReport(Generic[S]):
    """Writes the present map and the report now and then; called with every state.

    It takes little of the run's time and never ends a run: what goes wrong is told once.

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
        self._given_up = False

    def __call__(self, state: S) -> None:
        """Write if it is time."""
        pause = max(_SECONDS, self._cost_seconds / _MOST_OF_RUN_TIME)
        idle = self._given_up or self.job.run.world.rank > 0
        if idle or time.monotonic() - self._written_at < pause:
            return
        began = time.monotonic()
        try:
            self._write(state)
        except (ManyviewsError, OSError) as error:
            self._given_up = True
            self.job.say(f"the report is not refreshed any more until the run is done: {error}")
        self._written_at = time.monotonic()
        self._cost_seconds = self._written_at - began

    def _write(self, state: S) -> None:
        folder, plan = self.job.run.path, self.job.plan
        volume = self.volume_of(state)
        # a map of low frequencies may have fewer and larger voxels than the images have pixels
        voxel = plan.box * plan.pixel_size / len(volume)
        write_mrc(folder / VOLUME_FILE, volume.cpu().numpy(), voxel, overwrite=True)
        build_report(folder, sections)
