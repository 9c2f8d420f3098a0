"""A small real run of several ranks: threads of a test, or processes of MPI, to be stopped and killed.

``mpiexec -n N python spread_run.py FOLDER GROUPSxSLABS STEP_SECONDS CHECKPOINT_SECONDS`` leaves its pids in
``FOLDER.pids`` and the volume in ``FOLDER.npy``.
"""

import io
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from manyviews.errors import ManyviewsError
from manyviews.parallel import launch
from manyviews.parallel.layout import Layout, Place, take_place
from manyviews.runs.driver import drive
from manyviews.runs.folder import RunFolder
from manyviews.runs.interrupt import Interrupt
from manyviews.runs.placement import Placement
from manyviews.runs.progress import Progress
from manyviews.solvers.space import Space

DEPTH, AGENTS, ITERATIONS = 5, 3, 12


@dataclass(frozen=True)
class SpreadState:
    """A slab, and one for each agent of this rank."""

    iteration: int
    iterate: torch.Tensor
    states: tuple[torch.Tensor, ...]
    objective: float
    disagreement: float = 0.5

    def measures(self):
        return {"data_passes": 2.0, "objective": self.objective, "disagreement": self.disagreement}


class SpreadSolver:
    """Agents that draw towards numbers of their own, and their mean."""

    def __init__(self, place: Place, wrong_at: int | None = None, step_seconds: float = 0.0) -> None:
        self.place = place
        self.step_seconds = step_seconds
        self.slab = place.slab(DEPTH)
        self.agents = place.own(AGENTS)
        self.wrong_at = wrong_at
        grid = torch.arange(DEPTH * 12.0, dtype=torch.float64).reshape(DEPTH, 4, 3)
        self.targets = [torch.sin(grid * (1 + agent))[self.slab] for agent in self.agents]

    def init(self):
        zero = torch.zeros((self.slab.stop - self.slab.start, 4, 3), dtype=torch.float64)
        return SpreadState(0, zero, tuple(zero.clone() for _ in self.agents), 1.0)

    def step(self, state):
        time.sleep(self.step_seconds)
        pairs = zip(state.states, self.targets, strict=True)
        states = tuple(own + 0.3 * (target - own) + 0.1 * state.iterate for own, target in pairs)
        padded = torch.zeros((DEPTH, 4, 3), dtype=torch.float64)
        for one in states:
            padded[self.slab] += one
        volume = self.place.world.sum(padded)[self.slab] / AGENTS
        if state.iteration + 1 == self.wrong_at and self.slab.stop == DEPTH:
            volume = volume * float("nan")
        objective = float(self.place.world.sum(padded.square().sum()))
        return SpreadState(state.iteration + 1, volume, states, objective)

    def space(self):
        return Space(self.init_volume, self.place.within)

    def init_volume(self):
        return torch.empty((self.slab.stop - self.slab.start, 4, 3), dtype=torch.float64)


def run_at(place, folder, stream=None, seconds=0.0, interrupt=None, solver=None, **options):
    """Drive the solver in a run folder; a checkpoint an iteration by default."""
    solver = solver or SpreadSolver(place)
    opened = RunFolder.open(folder, job="toy", options={}, inputs={}, command=["toy"], world=place.world)
    with opened as run, Progress(stream=stream or io.StringIO()) as progress:
        return drive(
            solver,
            solver.init(),
            iterations=ITERATIONS,
            run=run,
            progress=progress,
            interrupt=interrupt or Interrupt(),
            checkpoint_seconds=seconds,
            placement=Placement.at(place, DEPTH, AGENTS),
            space=solver.space(),
            **options,
        )


def spread_main(folder: Path, layout: Layout, step_seconds: float, checkpoint_seconds: float) -> None:
    place = take_place(launch.start_world(), layout)
    pids = place.world.gather(os.getpid())
    if place.world.rank == 0:
        folder.with_suffix(".pids").write_text(" ".join(map(str, pids)))
    with Interrupt() as interrupt:
        state, _ = run_at(
            place,
            folder,
            stream=sys.stderr,
            seconds=checkpoint_seconds,
            interrupt=interrupt,
            solver=SpreadSolver(place, step_seconds=step_seconds),
        )
    counts = [place.slab(DEPTH).stop - place.slab(DEPTH).start]
    whole = place.within.all_gather(
        state.iterate, [count for one in place.within.gather(counts) for count in one]
    )
    if place.world.rank == 0:
        np.save(folder.with_suffix(".npy"), whole.numpy())
    launch.leave_together()


if __name__ == "__main__":
    try:
        spread_main(Path(sys.argv[1]), Layout.parse(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
    except ManyviewsError as error:
        if launch.is_shared():
            launch.end_job(str(error), error.exit_code, orderly=error.exit_code > 128)
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
