"""How close every method comes to the truth, with error bars: ``python benchmarks/accuracy.py``.

A cell-like slab, different for every seed, seen about four tilt axes with three levels of noise. Writes
``benchmarks/results/accuracy.json`` (every run), ``accuracy.md`` (the tables) and the figures of
``docs/accuracy.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from manyviews.geometry.views import TiltGeometry
from manyviews.kernels.specks import Specks, find_specks
from manyviews.metrics.correlation import ncc, ncc_views
from manyviews.metrics.error import relative_error
from manyviews.metrics.fsc import fsc
from manyviews.operators.tilt_projector import TiltProjector
from manyviews.simulate.specimens import specimen
from manyviews.simulate.tilt_series import GreyLevels, tilt_series_images
from manyviews.solvers.driver import advance
from manyviews.tilt.methods import make_solver
from manyviews.tilt.options import ReconstructOptions
from manyviews.tilt.plan import Plan, resolve_plan
from manyviews.tilt.prior.choose import Chosen, start_prior
from manyviews.tilt.reconstruct import make_problem
from manyviews.tilt.series.images import ImageSource
from manyviews.tilt.series.normalise import PreparedImages
from manyviews.tilt.series.resolve import ResolvedSeries
from manyviews.tilt.solve.problem import TiltProblem

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
IMAGES = ROOT / "docs" / "images"

VOLUME_SHAPE = (24, 64, 64)
PIXEL_SIZE = 8.0
AXES = (0.0, 45.0, 90.0, 135.0)
TILTS = np.arange(-60.0, 61.0, 3.0)
NOISE = (0.1, 0.5, 1.0)
SEEDS = (1, 2, 3, 4, 5)
TILT_CLASSES = {"below 30": (0.0, 29.9), "30 to 50": (30.0, 50.0), "above 50": (50.1, 90.0)}
PICTURED = (0.5, 1)  # noise and seed of the slices

# Strength of total variation, in units of the noise variance over the spread of the density (0.3 to 3 is much
# the same; chosen on one seed of this study).
TOTAL_VARIATION = 1.0

METHODS: dict[str, ReconstructOptions] = {
    "wbp": ReconstructOptions(method="wbp"),
    "direct-combine": ReconstructOptions(method="direct-combine", subsets=len(AXES)),
    "sirt": ReconstructOptions(method="sirt", iterations=100),
    "wang2020": ReconstructOptions(method="wang2020", subsets=32, overlap=2),
    "cg": ReconstructOptions(method="cg"),
    "consensus": ReconstructOptions(method="consensus"),
    "cg, undamped": ReconstructOptions(method="cg", damping=0.0),
    "consensus, undamped": ReconstructOptions(method="consensus", damping=0.0),
    "consensus + TV, >= 0": ReconstructOptions(method="consensus", damping=0.0, non_negative=True),
    "admm": ReconstructOptions(method="admm"),
}
DAMPING_FACTORS = (0.0, 1.0, 3.0, 10.0, 30.0, 100.0)
COLOURS = dict(
    zip(
        METHODS,
        (
            "#999999",
            "#cc79a7",
            "#0072b2",
            "#e69f00",
            "#009e73",
            "#d55e00",
            "#7fceb9",
            "#eaae7f",
            "#222222",
            "#b2182b",
        ),
        strict=True,
    )
)


@dataclass
class Quiet:
    """A job without a folder, for the search."""

    speaks: bool = False
    told: list[str] = field(default_factory=list)

    def solve(
        self, solver: Any, iterations: int, settled: Callable[[Any], bool] | None = None, **_: Any
    ) -> tuple[Any, None]:
        state = solver.init()
        while state.iteration < iterations and not (settled is not None and settled(state)):
            state = solver.step(state)
        return state, None

    def say(self, text: str) -> None:
        self.told.append(text)

    warn = say


class Views(ImageSource):
    """A series in memory, as the reconstruction asks for it: no stacks, ``images (view, y, x)`` instead."""

    def __init__(self, geometry: TiltGeometry, images: NDArray[np.float32]) -> None:
        _, rows, columns = images.shape
        super().__init__(
            ResolvedSeries(
                stacks=(),
                geometry=geometry,
                pixel_size=PIXEL_SIZE,
                image_shape=(rows, columns),
                field_shape=(rows, columns),
                thickness=None,
                choices=(),
                excluded=(),
                warnings=(),
            )
        )
        self.images = images

    def read(self, views: ArrayLike | None = None) -> NDArray[np.float32]:
        """A copy of some images."""
        wanted = np.arange(len(self.images)) if views is None else np.asarray(views, np.int64)
        return self.images[wanted]

    def inspect(self, view: int) -> tuple[NDArray[np.float32], Specks]:
        """One image, and the specks in it."""
        return self.images[view], find_specks(self.images[view][None])


@dataclass(frozen=True)
class Case:
    """One specimen seen with one level of noise."""

    truth: NDArray[np.float32]
    clean: NDArray[np.float32]
    measured: NDArray[np.float32]
    noise_std: float

    @property
    def views(self) -> Views:
        """The series."""
        return Views(tilt_geometry(AXES, TILTS), self.measured)


def tilt_geometry(axes: tuple[float, ...], tilts: NDArray[np.float64]) -> TiltGeometry:
    """The same tilts about every axis."""
    series = [TiltGeometry.from_tilt_axis(tilts, axis, series=i) for i, axis in enumerate(axes)]
    return TiltGeometry.concatenate(series)


def prepared(options: ReconstructOptions, views: Views, depth: int) -> tuple[Plan, TiltProblem, float]:
    """Plan, problem, and the noise-to-signal ratio as the program itself finds them."""
    settings = resolve_plan(replace(options, thickness=depth, device="cpu"), views)
    problem, images = make_problem(views, settings)
    return settings, problem, images.noise_to_signal


def cases(seed: int) -> Iterator[tuple[float, Case]]:
    """One specimen at every level of noise; its standard deviation is in units of the untilted image's."""
    geometry = tilt_geometry(AXES, TILTS)
    phantom = specimen("cell", VOLUME_SHAPE, PIXEL_SIZE, seed)
    truth = phantom.density(VOLUME_SHAPE, PIXEL_SIZE)
    clean = phantom.project(geometry, VOLUME_SHAPE[1:], PIXEL_SIZE)
    signal_std = float(clean[len(TILTS) // 2].std(dtype=np.float64))
    flat = GreyLevels(np.ones(len(TILTS)), np.zeros(len(TILTS)))
    for noise in NOISE:
        measured = np.concatenate(
            [
                list(
                    tilt_series_images(
                        phantom,
                        geometry.select(geometry.series == index),
                        VOLUME_SHAPE[1:],
                        PIXEL_SIZE,
                        grey_levels=flat,
                        noise_std=noise * signal_std,
                        seed=seed,
                        series=index,
                    )
                )
                for index in range(len(AXES))
            ]
        )
        yield noise, Case(truth, clean, measured, noise * signal_std)


def begun(plan: Plan, problem: TiltProblem, images: PreparedImages) -> tuple[Chosen, Any, Any]:
    """What was chosen, if anything is to be, the solver and its first state."""
    chosen = Chosen(plan, problem)
    if plan.method == "admm":
        chosen = start_prior(Quiet(), problem, images, plan)  # type: ignore[arg-type]
    solver: Any = chosen.solver or make_solver(chosen.problem, chosen.plan)
    return chosen, solver, solver.init() if chosen.start is None else chosen.start()


def run(options: ReconstructOptions, case: Case) -> NDArray[np.float32]:
    """The volume."""
    settings = resolve_plan(replace(options, thickness=VOLUME_SHAPE[0], device="cpu"), case.views)
    chosen, solver, state = begun(settings, *make_problem(case.views, settings))
    for _ in range(chosen.plan.iterations):
        state, _ = advance(solver, state, measure_change=False)
    volume = state.iterate.clamp(min=0.0) if chosen.plan.non_negative else state.iterate
    return np.asarray(volume.numpy(), dtype=np.float32)


def run_method(name: str, case: Case) -> tuple[NDArray[np.float32], float]:
    """The volume, and seconds."""
    options = METHODS[name]
    if "TV" in name:
        strength = TOTAL_VARIATION * case.noise_std**2 / float(case.truth.std())
        options = replace(options, total_variation=strength)
    began = time.perf_counter()
    return run(options, case), time.perf_counter() - began


def damped_errors(case: Case) -> dict[str, float]:
    """Relative error of cg for several dampings in units of the noise-to-signal ratio."""
    ratio = prepared(METHODS["cg"], case.views, VOLUME_SHAPE[0])[2]
    return {
        f"{factor:g}": relative_error(
            run(ReconstructOptions(method="cg", damping=factor * ratio), case), case.truth
        )
        for factor in DAMPING_FACTORS
    }


def measure(volume: NDArray[np.float32], case: Case) -> dict[str, Any]:
    """How good a volume is, by itself and by its projections about the first axis."""
    projector = TiltProjector(tilt_geometry(AXES, TILTS), VOLUME_SHAPE, VOLUME_SHAPE[1:], PIXEL_SIZE)
    projected = projector.forward(torch.from_numpy(volume)).numpy()
    first = slice(0, len(TILTS))
    residual = (projected - case.measured).astype(np.float64)
    figures: dict[str, Any] = {
        "relative error": relative_error(volume, case.truth),
        "NCC": ncc(volume, case.truth),
        "resolution at FSC 0.5 (pixels)": fsc(volume, case.truth, PIXEL_SIZE).resolution(0.5) / PIXEL_SIZE,
        "exact objective": 0.5 * float(np.vdot(residual, residual)),
        "exact objective of the truth": 0.5
        * float(np.vdot(*[(case.clean - case.measured).astype(np.float64)] * 2)),
    }
    for kind, images in (("measured", case.measured), ("noise-free", case.clean)):
        values = ncc_views(images[first], projected[first])
        figures[f"NCC with {kind} images"] = [round(float(value), 5) for value in values]
    return figures


def study() -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, NDArray[np.float32]]]:
    """Every run, the errors with other dampings, and the volumes of the pictured case."""
    runs: list[dict[str, Any]] = []
    dampings: list[dict[str, Any]] = []
    pictured: dict[str, NDArray[np.float32]] = {}
    for seed in SEEDS:
        for noise, case in cases(seed):
            dampings.append({"noise": noise, "seed": seed} | damped_errors(case))
            for name in METHODS:
                volume, seconds = run_method(name, case)
                run = {"method": name, "noise": noise, "seed": seed, "seconds": round(seconds, 2)}
                runs.append(run | measure(volume, case))
                if (noise, seed) == PICTURED:
                    pictured |= {"truth": case.truth, name: volume}
                print(seed, noise, f"{name:22s} {seconds:6.1f} s  NCC {runs[-1]['NCC']:.4f}", flush=True)
    return runs, dampings, pictured


def summary(values: list[float], digits: int) -> str:
    """Mean and standard deviation over seeds."""
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"


def class_mean(run: dict[str, Any], kind: str, low: float, high: float) -> float:
    """Mean NCC of the tilts of a class."""
    chosen = (np.abs(TILTS) >= low) & (np.abs(TILTS) <= high)
    return float(np.mean(np.array(run[f"NCC with {kind} images"])[chosen]))


def tables(runs: list[dict[str, Any]]) -> str:
    """Two markdown tables for each level of noise."""
    lines: list[str] = []
    for noise in NOISE:
        lines += [f"**Noise {noise:g}** (standard deviation, in units of the untilted image's)", ""]
        lines += [
            "| method | relative error | NCC | resolution (pixels) | objective / truth's |",
            "|---|---|---|---|---|",
        ]
        for name in METHODS:
            mine = [run for run in runs if run["method"] == name and run["noise"] == noise]
            columns = [
                summary([run["relative error"] for run in mine], 3),
                summary([run["NCC"] for run in mine], 3),
                summary([run["resolution at FSC 0.5 (pixels)"] for run in mine], 2),
                summary([run["exact objective"] / run["exact objective of the truth"] for run in mine], 3),
            ]
            lines.append(f"| {name} | " + " | ".join(columns) + " |")
        classes = [f"{kind} {tilt}" for kind in ("measured", "noise-free") for tilt in TILT_CLASSES]
        lines += ["", "| NCC of reprojections | " + " | ".join(f"{name}°" for name in classes) + " |"]
        lines.append("|---" * (1 + len(classes)) + "|")
        for name in METHODS:
            mine = [run for run in runs if run["method"] == name and run["noise"] == noise]
            columns = [
                summary([class_mean(run, kind, *limits) for run in mine], 4)
                for kind in ("measured", "noise-free")
                for limits in TILT_CLASSES.values()
            ]
            lines.append(f"| {name} | " + " | ".join(columns) + " |")
        lines.append("")
    return "\n".join(lines)


def damping_table(dampings: list[dict[str, Any]]) -> str:
    """Relative error of cg against damping."""
    names = [f"{factor:g}" for factor in DAMPING_FACTORS]
    lines = [
        "| noise | " + " | ".join(f"{name} × N/S" for name in names) + " |",
        "|---" * (1 + len(names)) + "|",
    ]
    for noise in NOISE:
        mine = [row for row in dampings if row["noise"] == noise]
        lines.append(
            f"| {noise:g} | " + " | ".join(summary([row[name] for row in mine], 3) for name in names) + " |"
        )
    return "\n".join(["**Relative error of cg against damping**", "", *lines, ""])


def draw_correlations(runs: list[dict[str, Any]], path: Path) -> None:
    """NCC of reprojections against tilt, like Fig. 6 of the paper; bars are standard deviations over seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.2), layout="constrained")
    grid = figure.subplots(2, len(NOISE), sharex=True)
    for row, kind in zip(grid, ("measured", "noise-free"), strict=True):
        for axes, noise in zip(row, NOISE, strict=True):
            for number, (name, colour) in enumerate(COLOURS.items()):
                mine = [run for run in runs if run["method"] == name and run["noise"] == noise]
                values = np.array([run[f"NCC with {kind} images"] for run in mine])
                axes.errorbar(
                    TILTS[::2] + 0.2 * (number - 4),
                    values.mean(axis=0)[::2],
                    values.std(axis=0, ddof=1)[::2],
                    color=colour,
                    linewidth=1.2,
                    elinewidth=0.6,
                    label=name,
                )
            axes.set_title(f"{kind} images, noise {noise:g}", fontsize=9)
            axes.grid(color="0.92")
            axes.tick_params(labelsize=8)
    for axes in grid[1]:
        axes.set_xlabel("tilt (degrees)", fontsize=8)
    for axes in grid[:, 0]:
        axes.set_ylabel("NCC of reprojections, axis 0°", fontsize=8)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    figure.savefig(path, dpi=80)


def draw_slices(pictured: dict[str, NDArray[np.float32]], path: Path) -> None:
    """Central slices of every method, all with the grey levels of the truth."""
    from matplotlib.figure import Figure

    depth, height, _ = VOLUME_SHAPE
    figure = Figure(figsize=(12, 5.8), layout="constrained")
    low, high = np.percentile(pictured["truth"], (0.5, 99.8))
    panels = figure.subplots(2, 6).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, (name, volume) in zip(panels, pictured.items(), strict=False):
        gap = np.full((2, volume.shape[2]), high, dtype=np.float32)
        tile = np.concatenate([volume[depth // 2], gap, volume[:, height // 2]])
        axes.imshow(tile, cmap="gray", vmin=low - 0.15 * (high - low), vmax=high, interpolation="bicubic")
        axes.set_title(name, fontsize=9)
    figure.savefig(path, dpi=75)


def machine() -> dict[str, Any]:
    """Where and with what it was measured."""
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "torch": torch.__version__,
        },
    }


def set_threads(count: int) -> None:
    """Use that many threads everywhere; 0: all."""
    import numba

    if count:
        torch.set_num_threads(count)
        numba.set_num_threads(count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=0)
    set_threads(parser.parse_args().threads)
    began = time.monotonic()
    runs, dampings, pictured = study()
    RESULTS.mkdir(exist_ok=True)
    IMAGES.mkdir(exist_ok=True)
    record = {
        "volume (z, y, x)": VOLUME_SHAPE,
        "axes_degrees": AXES,
        "tilts_degrees": TILTS.tolist(),
        "total variation (noise variance / density spread)": TOTAL_VARIATION,
        "relative error of cg by damping / (noise / signal)": dampings,
        "seconds": round(time.monotonic() - began),
        **machine(),
    }
    rows = ",\n".join(json.dumps(run) for run in runs)
    (RESULTS / "accuracy.json").write_text(
        json.dumps(record, indent=1)[:-2] + f',\n "runs": [\n{rows}\n]}}\n'
    )
    (RESULTS / "accuracy.md").write_text(tables(runs) + "\n" + damping_table(dampings))
    draw_correlations(runs, IMAGES / "accuracy-ncc.png")
    draw_slices(pictured, IMAGES / "accuracy-slices.png")


if __name__ == "__main__":
    main()
