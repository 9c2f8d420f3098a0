"""Which methods end at the least-squares answer: ``python benchmarks/least_squares_limit.py``.

A small problem with projectors instead of convolutions, so that the answer f* (from many conjugate-gradient
iterations) is beyond dispute; then the distance (f - f*) / f* of every method against passes over the data.
The
limits themselves come from ``least_squares_dense.py``. Writes ``benchmarks/results/least_squares_limit.json``, ``least_squares_limit.md`` and a figure.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from accuracy import (
    IMAGES,
    PIXEL_SIZE,
    RESULTS,
    Views,
    machine,
    prepared,
    set_threads,
    summary,
    tilt_geometry,
)
from least_squares_dense import limits
from manyviews.metrics.error import relative_error
from manyviews.operators.tilt_projector import TiltProjector
from manyviews.simulate.phantoms import Gaussians
from manyviews.solvers.driver import Solver
from manyviews.solvers.least_squares import LeastSquares
from manyviews.solvers.state import SolverState
from manyviews.tilt.methods import make_solver
from manyviews.tilt.options import ReconstructOptions, SubsetOrder

VOLUME_SHAPE = (10, 28, 28)
AXES = (0.0, 45.0, 90.0, 135.0)
TILTS = np.linspace(-60.0, 60.0, 25)
NOISE = 0.05
SEEDS = (1, 2, 3, 4, 5)
REFERENCE_ITERATIONS = 1200
BLOBS, SIGMA_PIXELS = 40, 1.2


@dataclass(frozen=True)
class Limit:
    """A small problem and its least-squares answer, ``lowest`` being f*."""

    truth: NDArray[np.float32]
    views: Views
    whole: LeastSquares
    lowest: float
    answer: NDArray[np.float32]

    def solver(self, options: ReconstructOptions) -> Solver[SolverState]:
        """A method on this problem, by the projectors."""
        settings, problem, _ = prepared(replace(options, normal="exact"), self.views, VOLUME_SHAPE[0])
        return make_solver(problem, settings)

    def distance(self, volume: torch.Tensor) -> float:
        """``(f - f*) / f*`` by the projectors."""
        assert self.whole.exact_gradient is not None
        return 0.5 * self.whole.exact_gradient(volume)[1] / self.lowest - 1.0


def limit(seed: int) -> Limit:
    """Scattered Gaussians well inside the slab, 5 % noise."""
    rng = np.random.default_rng(seed)
    depth, height, width = VOLUME_SHAPE
    reach = PIXEL_SIZE * np.array([0.36 * width, 0.36 * height, 0.25 * depth])
    phantom = Gaussians.isotropic(
        rng.uniform(0.5, 1.5, BLOBS), rng.uniform(-1, 1, (BLOBS, 3)) * reach, SIGMA_PIXELS * PIXEL_SIZE
    )
    geometry = tilt_geometry(AXES, TILTS)
    truth = phantom.density(VOLUME_SHAPE, PIXEL_SIZE)
    # Projections of the voxels, not of the formula: then noise is all that keeps f* from zero.
    projector = TiltProjector(geometry, VOLUME_SHAPE, (height, width), PIXEL_SIZE)
    clean = projector.forward(torch.from_numpy(truth)).numpy()
    noise = NOISE * float(clean.std()) * rng.standard_normal(clean.shape, dtype=np.float32)
    views = Views(geometry, clean + noise)
    whole = prepared(ReconstructOptions(normal="exact", damping=0.0), views, depth)[1].least_squares()
    lowest, answer = least_squares_answer(whole)
    return Limit(truth, views, whole, lowest, answer.numpy())


def least_squares_answer(whole: LeastSquares) -> tuple[float, torch.Tensor]:
    """f* and its volume, by conjugate gradients restarted from exact residuals until they stop falling."""
    assert whole.exact_gradient is not None
    x = torch.zeros_like(whole.target)
    gradient, energy = whole.exact_gradient(x)
    for _ in range(REFERENCE_ITERATIONS // 300):
        x = x + conjugate_gradient(whole, gradient, 300)
        gradient, energy = whole.exact_gradient(x)
    return 0.5 * energy, x


def conjugate_gradient(whole: LeastSquares, right_side: torch.Tensor, iterations: int) -> torch.Tensor:
    """``iterations`` steps on ``H x = right_side`` from zero."""
    x, residual = torch.zeros_like(right_side), right_side.clone()
    direction, slope = residual.clone(), float(residual.double().square().sum())
    for _ in range(iterations):
        bent = whole.normal(direction)
        length = slope / float((direction.double() * bent.double()).sum())
        x += length * direction
        residual -= length * bent
        previous, slope = slope, float(residual.double().square().sum())
        if slope == 0.0:
            break
        direction = residual + slope / previous * direction
    return x


@dataclass(frozen=True)
class Contender:
    """A method without damping, and at which iterations to look at it."""

    name: str
    options: ReconstructOptions
    looks: tuple[int, ...]
    colour: str
    style: str = "-"


def _consensus(overlap: int, order: SubsetOrder) -> ReconstructOptions:
    return ReconstructOptions(method="consensus", subsets=8, overlap=overlap, subset_order=order, damping=0.0)


def _wang2020(overlap: int) -> ReconstructOptions:
    return ReconstructOptions(method="wang2020", subsets=8, overlap=overlap)


_PASSES = (1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 100, 150, 200, 300)
_OUTER = (1, 2, 3, 5, 8, 12, 20, 30, 50, 75, 100, 150, 200, 250, 300)
LAST_FOR_ALL_SEEDS, LAST = 100, 300  # the first seed goes on to the last look
CONTENDERS = (
    Contender("sirt, relaxation 0.3", ReconstructOptions(method="sirt"), _PASSES, "#0072b2"),
    Contender(
        "landweber, relaxation 1", ReconstructOptions(method="sirt", relaxation=1.0), _PASSES, "#56b4e9"
    ),
    Contender("cg", ReconstructOptions(method="cg", refresh=0, damping=0.0), _PASSES, "#009e73"),
    Contender("wang2020, no overlap", _wang2020(0), _OUTER, "#e69f00"),
    Contender("wang2020, overlap 2", _wang2020(2), _OUTER, "#e69f00", "--"),
    Contender("consensus, no overlap", _consensus(0, "interleaved"), _OUTER, "#d55e00"),
    Contender("consensus, overlap 2", _consensus(2, "interleaved"), _OUTER, "#d55e00", "--"),
    Contender("consensus, adjacent angles, overlap 2", _consensus(2, "adjacent"), _OUTER, "#cc79a7"),
)


def follow(contender: Contender, case: Limit, last: int) -> list[dict[str, float]]:
    """How far from the answer and from the truth a method is, at every look up to iteration ``last``."""
    solver = case.solver(contender.options)
    state, found = solver.init(), []
    for iteration in range(1, min(last, contender.looks[-1]) + 1):
        state = solver.step(state)
        if iteration in contender.looks:
            volume = state.iterate.numpy()
            found.append(
                {
                    "iteration": iteration,
                    "data passes": state.measures()["data_passes"],
                    "(f - f*) / f*": case.distance(state.iterate),
                    "distance to the answer": relative_error(volume, case.answer),
                    "error": relative_error(volume, case.truth),
                }
            )
    return found


def table(runs: Sequence[dict[str, Any]]) -> str:
    """Means and standard deviations over seeds, and the last looks of the first seed."""
    lines = [
        "| method | passes | (f − f*) / f* | distance to the answer | error against the truth |",
        "|---|---|---|---|---|",
    ]
    for contender in CONTENDERS:
        mine = [run["looks"] for run in runs if run["method"] == contender.name]
        for look in [i for i, at in enumerate(contender.looks) if at in (20, 100, 300)]:
            at = [run[look] for run in mine if look < len(run)]
            columns = [[row[key] for row in at] for key in list(at[0])[2:]]
            figures = [summary(one, 4) if len(one) > 1 else f"{one[0]:.4f} (one seed)" for one in columns]
            lines.append(f"| {contender.name} | {at[0]['data passes']:.0f} | " + " | ".join(figures) + " |")
    return "\n".join(lines) + "\n"


def draw(runs: Sequence[dict[str, Any]], path: Path) -> None:
    """Distance from the least-squares minimum, and from the truth, against passes.

    Lines are the first seed, bands the range of all.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, key in zip(panels, ("(f - f*) / f*", "error"), strict=True):
        for contender in CONTENDERS:
            mine = [run["looks"] for run in runs if run["method"] == contender.name]
            passes = [row["data passes"] for row in mine[0]]
            common = min(len(rows) for rows in mine)
            values = np.array([[row[key] for row in rows[:common]] for rows in mine])
            low, high = values.min(axis=0), values.max(axis=0)
            style = {"color": contender.colour, "linestyle": contender.style}
            axes.plot(passes, [row[key] for row in mine[0]], label=contender.name, linewidth=1.6, **style)
            axes.fill_between(passes[:common], low, high, color=contender.colour, alpha=0.15)
        axes.set(xscale="log", yscale="log", xlabel="passes over the data", xlim=(1, None))
        axes.grid(color="0.92")
    panels[0].set(ylabel="(f − f*) / f*", ylim=(1e-4, 30))
    panels[1].set(ylabel="relative error against the truth")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=0)
    set_threads(parser.parse_args().threads)
    began, runs = time.monotonic(), []
    for seed in SEEDS:
        case = limit(seed)
        print(
            f"seed {seed}: f* = {case.lowest:.5g}, error of the answer {relative_error(case.answer, case.truth):.4f}"
        )
        for contender in CONTENDERS:
            looks = follow(contender, case, LAST if seed == SEEDS[0] else LAST_FOR_ALL_SEEDS)
            runs.append({"method": contender.name, "seed": seed, "looks": looks})
            print(f"  {contender.name:40s} {looks[-1]}  {time.monotonic() - began:.0f} s", flush=True)
    fixed, text = limits()
    record = {
        "volume (z, y, x)": VOLUME_SHAPE,
        "axes_degrees": AXES,
        "tilts_degrees": TILTS.tolist(),
        "noise": NOISE,
        "subsets": 8,
        "limits": fixed,
        "seconds": round(time.monotonic() - began),
        **machine(),
    }
    rows = ",\n".join(json.dumps(run) for run in runs)
    (RESULTS / "least_squares_limit.json").write_text(
        json.dumps(record, indent=1)[:-2] + f',\n "runs": [\n{rows}\n]}}\n'
    )
    (RESULTS / "least_squares_limit.md").write_text(table(runs) + "\n" + text)
    draw(runs, IMAGES / "least-squares-limit.png")


if __name__ == "__main__":
    main()
