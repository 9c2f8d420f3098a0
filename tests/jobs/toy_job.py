"""A whole job in few lines: all that a user expects of a run comes from the frame.

``[mpiexec -n N] python toy_job.py OUT STEP_SECONDS CHECKPOINT_SECONDS``
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from manyviews.errors import InputError, ManyviewsError
from manyviews.io.mrc import write_mrc
from manyviews.jobs.run import JobResult, start_job
from manyviews.options import MachineOptions, RunOptions
from manyviews.parallel import launch
from manyviews.report.common import slices_section


@dataclass(frozen=True)
class ToyState:
    iteration: int
    iterate: torch.Tensor
    objective: float = 1.0

    def measures(self) -> dict[str, float]:
        return {"objective": self.objective}


class Halving:
    """Halves the distance to a cube of numbers, all ranks together."""

    def __init__(self, goal, world, seconds):
        self.goal, self.world, self.seconds = goal, world, seconds

    def init(self):
        return ToyState(0, torch.zeros_like(self.goal))

    def step(self, state):
        time.sleep(self.seconds)
        share = (self.goal - state.iterate) / (2 * self.world.size)
        iterate = state.iterate + self.world.sum(share)
        return ToyState(state.iteration + 1, iterate, float((self.goal - iterate).norm()))


def toy(
    run: RunOptions, machine: MachineOptions, *, goal: float = 3.0, seconds: float = 0.0, world=None
) -> JobResult:
    cube = torch.linspace(0, goal, 512).reshape(8, 8, 8)
    with start_job(
        "toy", run, machine, record={"goal": goal}, inputs={}, results=["volume.mrc"], pictures=["slices"],
        sections=lambda data: slices_section(data.path / "volume.mrc"), seed=5, world=world,
    ) as job:  # fmt: skip
        if job.finished:
            return job.result()
        job.warn("the toy is not science")
        if goal < 0:
            raise InputError(f"{goal:g} is below zero", where="--goal", fix="give more")

        def show(state):
            if job.speaks:
                write_mrc(job.folder / "volume.mrc", state.iterate.numpy(), 1.0, overwrite=True)

        first, _ = job.solve(Halving(cube, job.world, seconds), 10, stage="coarse", preview=show)
        solver = Halving(cube.square(), job.world, seconds)
        last, reason = job.solve(solver, 20, stage="fine", start=lambda: first, preview=show)
        show(last)
        return job.finish({"goal": goal, "stopped_because": str(reason)})


if __name__ == "__main__":
    try:
        options = RunOptions(Path(sys.argv[1]), checkpoint_seconds=float(sys.argv[3]))
        toy(options, MachineOptions(threads=1), seconds=float(sys.argv[2]), world=launch.start_world())
        launch.leave_together()
    except ManyviewsError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
