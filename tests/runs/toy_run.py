"""A small real run in a process of its own, to be killed.

``python toy_run.py FOLDER ITERATIONS STEP_SECONDS CHECKPOINT_SECONDS``
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from manyviews.errors import ManyviewsError
from manyviews.runs.driver import drive
from manyviews.runs.folder import RunFolder
from manyviews.runs.interrupt import Interrupt
from manyviews.runs.progress import Progress

SHAPE = (6, 7, 8)


@dataclass
class ToyState:
    """Heavy-ball descent with one volume for each of two agents and random steps."""

    iteration: int
    iterate: torch.Tensor
    agents: tuple[torch.Tensor, ...]
    random: torch.Tensor
    objective: float
    note: str | None = None

    def measures(self) -> dict[str, float]:
        return {"objective": self.objective, "data_passes": float(self.iteration)}


class ToySolver:
    """Minimise |x - b|^2 a little noisily."""

    def __init__(self, step_seconds: float = 0.0) -> None:
        self.step_seconds = step_seconds
        self.target = torch.linspace(-1, 1, 6 * 7 * 8).reshape(SHAPE)

    def init(self) -> ToyState:
        zero = torch.zeros(SHAPE)
        generator = torch.Generator().manual_seed(7)
        return ToyState(0, zero, (zero, zero.clone()), generator.get_state(), 1.0)

    def step(self, state: ToyState) -> ToyState:
        time.sleep(self.step_seconds)
        generator = torch.Generator()
        generator.set_state(state.random)
        noise = 1e-3 * torch.randn(SHAPE, generator=generator)
        first, second = state.agents
        velocity = 0.5 * (state.iterate - second) - 0.2 * (state.iterate - self.target) + noise
        volume = state.iterate + velocity
        objective = float(((volume - self.target) ** 2).sum())
        agents = (first + volume / 3, state.iterate)
        return ToyState(state.iteration + 1, volume, agents, generator.get_state(), objective)


def open_toy(folder: Path, iterations: int = 40) -> RunFolder:
    options = {"iterations": iterations, "nested": {"method": "toy", "left_out": None}}
    return RunFolder.open(
        folder, job="toy", options=options, inputs={"a.mrc": "sha256:1"}, command=["toy", str(folder)], seed=7
    )


def toy_main(folder: Path, iterations: int, step_seconds: float, checkpoint_seconds: float) -> int:
    try:
        with open_toy(folder, iterations) as run, Interrupt() as interrupt, Progress() as progress:
            if run.finished:
                return 0
            run.event("geometry", views=61)
            solver = ToySolver(step_seconds)
            state, _ = drive(
                solver,
                solver.init(),
                iterations=iterations,
                run=run,
                progress=progress,
                interrupt=interrupt,
                checkpoint_seconds=checkpoint_seconds,
            )
            (folder / "volume.mrc").write_bytes(state.iterate.numpy().tobytes())
            run.event("written", name="volume.mrc", wall_seconds=time.perf_counter())
            run.finish(["volume.mrc"])
    except ManyviewsError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(toy_main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])))
