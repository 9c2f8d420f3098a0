"""Priors that held-out views choose, against the best that could be picked with the truth at hand.

``python benchmarks/tilt_priors.py [--parts strengths iterations real] [--seeds 1 2 3 4 5] [--data FOLDER]``

*strengths*: scattered ellipsoids and Gaussians of 32 x 96 x 96 voxels, projected by their formulas about one, two and
four axes with 31 tilts from -60 to 60 degrees, white noise of 5, 10 and 20 % of the deviation of the untilted image.
``--method admm --prior auto`` against the same method with the bound at zero and each of six strengths of total
variation, and the smooth prior, of which the one with the least error against the truth is the best, and against
``--method cg`` as it comes.
Strengths are in units of the noise of a pixel times the root of the number of views. Cost is the search and the last
stage together over one run with a given strength, in CPU seconds of one thread.

*iterations*: the cell-like slab of `tilt simulate`, four axes, noise 0.1, 0.3 and 0.5: the last stage run on to 60
iterations, its error at the program's number and at 60 over the least on the way; the same of cg to 40.

*real*: the HAADF series L2083-K-4-1 (docs/haadf.md), 96 pixels thick, and the etspy needle, 160 thick, aligned by
``tilt align`` from all its views; every fifth view is left out of everything else, and what admm and cg leave of these,
as a share of their variance, is compared.

Writes ``benchmarks/results/tilt_priors.json`` after each case, and ``.md``; what is there is not done again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from accuracy import PIXEL_SIZE, Views, begun, tilt_geometry
from manyviews.metrics.error import relative_error
from manyviews.options import RunOptions
from manyviews.simulate.specimens import specimen
from manyviews.simulate.tilt_series import GreyLevels, tilt_series_images
from manyviews.tilt.align.align import align
from manyviews.tilt.align.options import AlignOptions
from manyviews.tilt.methods import make_solver
from manyviews.tilt.options import ReconstructOptions, SeriesOptions
from manyviews.tilt.plan import Plan, resolve_plan
from manyviews.tilt.prior.choose import Chosen, usual_strength
from manyviews.tilt.reconstruct import make_problem
from manyviews.tilt.series.images import ImageSource
from manyviews.tilt.series.normalise import PreparedImages
from manyviews.tilt.series.resolve import resolve_series
from manyviews.tilt.solve.problem import TiltProblem

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
RESULTS = ROOT / "benchmarks" / "results"
NAME = "tilt_priors"
Record = dict[str, Any]

SHAPE = (32, 96, 96)
TILTS = np.arange(-60.0, 61.0, 4.0)
AXES = {1: (0.0,), 2: (0.0, 90.0), 4: (0.0, 45.0, 90.0, 135.0)}
KINDS, NOISES = ("ellipsoids", "gaussians"), (0.05, 0.1, 0.2)
CELL_NOISES, CELL_SEEDS = (0.1, 0.3, 0.5), (1, 2, 3)
STRENGTHS = tuple(round(2.0 ** (power / 2), 3) for power in range(-2, 4))
LONG, LONG_CG = 60, 40
DUST = "tilt/openncem-haadf/L2083-K-4-1_haadf.mrc"
SHIFTS = "tilt/openncem-haadf/TomVizAlignments.json:3-18"
NEEDLE = "nano/etspy_HAADF.mrc.gz"
DUST_THICKNESS, EVERY = 96, 5


def case(kind: str, axes: int, noise: float, seed: int) -> tuple[Views, NDArray[np.float32]]:
    """A series in memory, and the truth."""
    geometry = tilt_geometry(AXES[axes], TILTS)
    phantom = specimen(kind, SHAPE, PIXEL_SIZE, seed)
    first = phantom.project(geometry.select(geometry.series == 0), SHAPE[1:], PIXEL_SIZE)
    deviation = noise * float(first[len(TILTS) // 2].std(dtype=np.float64))
    flat = GreyLevels(np.ones(len(TILTS)), np.zeros(len(TILTS)))
    images = [
        image
        for index in range(axes)
        for image in tilt_series_images(
            phantom, geometry.select(geometry.series == index), SHAPE[1:], PIXEL_SIZE,
            grey_levels=flat, noise_std=deviation, seed=seed, series=index,
        )
    ]  # fmt: skip
    return Views(geometry, np.stack(images)), phantom.density(SHAPE, PIXEL_SIZE)


def prepared(source: ImageSource, depth: int, **options: Any) -> tuple[Plan, TiltProblem, PreparedImages]:
    """As the job prepares it."""
    plan = resolve_plan(ReconstructOptions(thickness=depth, device="cpu", **options), source)
    return plan, *make_problem(source, plan)


def states(solver: Any, state: Any, iterations: int) -> Iterator[Any]:
    for _ in range(iterations):
        state = solver.step(state)
        yield state


def chosen_volumes(
    source: ImageSource, depth: int, iterations: int = 0, **options: Any
) -> tuple[Chosen, list[torch.Tensor], float, PreparedImages]:
    """What ``admm`` with ``auto`` comes to, iteration by iteration, and CPU seconds without what is common."""
    plan, problem, images = prepared(source, depth, method="admm", **options)
    began = time.process_time()
    chosen, solver, start = begun(plan, problem, images)
    volumes = [state.iterate for state in states(solver, start, iterations or chosen.plan.iterations)]
    seconds = time.process_time() - began
    if chosen.plan.non_negative:
        volumes = [volume.clamp(min=0.0) for volume in volumes]
    return chosen, volumes, seconds, images


def cg_volumes(source: ImageSource, depth: int, iterations: int = 0, **options: Any) -> list[torch.Tensor]:
    """Today's default, iteration by iteration."""
    plan, problem, _ = prepared(source, depth, method="cg", **options)
    solver = make_solver(problem, plan)
    return [state.iterate for state in states(solver, solver.init(), iterations or plan.iterations)]


def picked(source: Views, truth: NDArray[np.float32], strength: float | None) -> tuple[float, float]:
    """Error of one strength with the bound at zero (None: of the smooth prior), and CPU seconds of the run."""
    prior = "smooth" if strength is None else "none"
    plan, problem, images = prepared(source, SHAPE[0], method="admm", prior=prior, non_negative=True)
    variation = 0.0 if strength is None else strength * usual_strength(images, len(problem.weights))
    plan = replace(plan, total_variation=variation)
    began = time.process_time()
    _, solver, start = begun(plan, problem, images)
    *_, state = states(solver, start, plan.iterations)
    seconds = time.process_time() - began
    return relative_error(state.iterate.clamp(min=0.0).numpy(), truth), seconds


@cache
def compiled(axes: int) -> None:
    """A search for its programs, which are compiled once a process and do not count as cost."""
    chosen_volumes(case("gaussians", axes, NOISES[0], 0)[0], SHAPE[0])


def strengths(kind: str, axes: int, noise: float, seed: int) -> Record:
    """One case of the first table."""
    compiled(axes)
    source, truth = case(kind, axes, noise, seed)
    chosen, volumes, seconds, images = chosen_volumes(source, SHAPE[0])
    by_hand = [picked(source, truth, strength) for strength in (*STRENGTHS, None)]
    plan, usual = chosen.plan, usual_strength(images, len(source.binned_geometry))
    return {
        "auto": round(relative_error(volumes[-1].numpy(), truth), 4),
        "NCC": round(correlation(volumes[-1], truth), 4),
        "strength": round(plan.total_variation / usual, 3),
        "smooth": plan.prior == "smooth",
        "non-negative": plan.non_negative,
        "by hand": [round(error, 4) for error, _ in by_hand],
        "cg": round(relative_error(cg_volumes(source, SHAPE[0])[-1].numpy(), truth), 4),
        "cost": round(seconds / statistics.median(own for _, own in by_hand), 2),
    }


def correlation(volume: torch.Tensor, truth: NDArray[np.float32]) -> float:
    return float(np.corrcoef(volume.numpy().ravel(), truth.ravel())[0, 1])


def iterations(noise: float, seed: int) -> Record:
    """One case of the second table."""
    source, truth = case("cell", 4, noise, seed)
    chosen, volumes, _, _ = chosen_volumes(source, SHAPE[0], LONG)
    errors = [relative_error(volume.numpy(), truth) for volume in volumes]
    others = [relative_error(volume.numpy(), truth) for volume in cg_volumes(source, SHAPE[0], LONG_CG)]
    return {
        "auto": [round(error, 4) for error in errors],
        "iterations": chosen.plan.iterations,
        "cg": [round(error, 4) for error in others],
    }


def dust_series(data: Path) -> SeriesOptions:
    """The HAADF series of a section, with its published shifts."""
    return SeriesOptions(stacks=(data / DUST,), shifts=(data / SHIFTS,), axis_angle=(0.0,))


def dust(data: Path, normalise: str) -> Record:
    return real(dust_series(data), DUST_THICKNESS, normalise)


def needle(data: Path, normalise: str) -> Record:
    """The raw HAADF series of a needle, aligned first."""
    with tempfile.TemporaryDirectory() as name:
        stack = Path(name) / "needle.mrc"
        with gzip.open(data / NEEDLE) as packed, stack.open("wb") as plain:
            shutil.copyfileobj(packed, plain)
        shutil.copy((data / NEEDLE).with_name("etspy_HAADF.rawtlt"), stack.with_suffix(".rawtlt"))
        series = SeriesOptions(stacks=(stack,), axis_angle=(90.0,))
        run = Path(name) / "run"
        align(series, AlignOptions(thickness=160, threads=1), RunOptions(run, quiet=True))
        return real(SeriesOptions(stacks=(stack,), alignment=run), 160, normalise)


def keep_apart(series: SeriesOptions) -> tuple[ImageSource, NDArray[np.intp], ImageSource]:
    """All views, which are left out, and the others."""
    every = ImageSource(resolve_series(series))
    kept_apart = np.arange(EVERY // 2, every.shape[0], EVERY)
    listed = ",".join(str(every.binned_geometry.sections[view] + 1) for view in kept_apart)
    return every, kept_apart, ImageSource(resolve_series(replace(series, exclude=(listed,))))


def real(series: SeriesOptions, thickness: int, normalise: str) -> Record:
    """Views that neither the search nor the reconstruction has seen."""
    every, kept_apart, source = keep_apart(series)
    chosen, volumes, _, _ = chosen_volumes(source, thickness, normalise=normalise)
    other = cg_volumes(source, thickness, normalise=normalise)[-1]
    _, problem, _ = prepared(every, thickness, method="cg", normalise=normalise)
    apart = problem.select(kept_apart)
    return {
        "auto": round(left(apart, volumes[-1]), 5),
        "cg": round(left(apart, other), 5),
        "words": "" if chosen.choice is None else chosen.choice.words,
    }


def left(problem: TiltProblem, volume: torch.Tensor) -> float:
    """Of the variance of some views."""
    rest = size = 0.0
    for views, projected in problem.project_blocks(volume):
        measured = problem.read(views)
        rest += float((projected - measured).square().sum())
        size += float((measured - measured.mean(dim=(1, 2), keepdim=True)).square().sum())
    return rest / size


def cases(parts: list[str], seeds: list[int], data: Path) -> Iterator[tuple[str, Callable[[], Record]]]:
    """Name and work of every case."""
    if "strengths" in parts:
        for seed in seeds:
            for kind in KINDS:
                for axes in AXES:
                    for noise in NOISES:
                        own = kind, axes, noise, seed
                        yield f"strengths {kind} {axes} {noise:g} {seed}", partial(strengths, *own)
    if "iterations" in parts:
        for noise in CELL_NOISES:
            for seed in CELL_SEEDS:
                pair = noise, seed
                yield f"iterations {noise:g} {seed}", partial(iterations, *pair)
    if "real" in parts and (data / DUST).exists():
        for name, work in (("dust", dust), ("needle", needle)):
            for how in ("none", "background"):
                yield f"real {name} {how}", partial(work, data, how)


def page(found: Record) -> str:
    """All tables."""
    rows = found["cases"]
    return "\n".join([*strength_lines(rows), *iteration_lines(rows), *real_lines(rows)]) + "\n"


def strength_lines(rows: Record) -> Iterator[str]:
    yield "Relative error against the truth, mean over seeds; ratio: of auto to the best by hand, mean and largest."
    yield ""
    yield "| specimen | axes | noise | seeds | cg | auto | best by hand | ratio | largest | NCC | bound taken | smooth taken | best by hand was smooth | cost |"
    yield "|---" * 14 + "|"
    for kind in KINDS:
        for axes in AXES:
            for noise in NOISES:
                start = f"strengths {kind} {axes} {noise:g} "
                own = [row for name, row in rows.items() if name.startswith(start)]
                if own:
                    yield _strength_line(f"| {kind} | {axes} | {100 * noise:g} % |", own)


def _strength_line(start: str, own: list[Record]) -> str:
    def mean(values: list[float]) -> float:
        return statistics.fmean(values)

    ratios = [row["auto"] / min(row["by hand"]) for row in own]
    return (
        f"{start} {len(own)} | {mean([row['cg'] for row in own]):.3f} | {mean([row['auto'] for row in own]):.4f} | "
        f"{mean([min(row['by hand']) for row in own]):.4f} | {mean(ratios):.3f} | {max(ratios):.3f} | "
        f"{mean([row['NCC'] for row in own]):.3f} | {sum(row['non-negative'] for row in own)} | "
        f"{sum(row['smooth'] for row in own)} | {sum(row['by hand'][-1] == min(row['by hand']) for row in own)} | "
        f"{mean([row['cost'] for row in own]):.1f} |"
    )


def iteration_lines(rows: Record) -> Iterator[str]:
    names = [name for name in rows if name.startswith("iterations ")]
    if not names:
        return
    yield ""
    yield f"Cell-like slab: error after the program's iterations, and over the least of {LONG} (cg: of {LONG_CG})."
    yield ""
    yield "| noise | seed | auto | over its least | after 60 over its least | cg | over its least | after 40 over its least |"
    yield "|---" * 8 + "|"
    for name in names:
        _, noise, seed = name.split()
        row = rows[name]
        auto, cg = row["auto"], row["cg"]
        here, there = auto[row["iterations"] - 1], cg[14]
        yield (
            f"| {noise} | {seed} | {here:.4f} | {here / min(auto):.3f} | {auto[-1] / min(auto):.3f} | "
            f"{there:.4f} | {there / min(cg):.3f} | {cg[-1] / min(cg):.3f} |"
        )


def real_lines(rows: Record) -> Iterator[str]:
    names = [name for name in rows if name.startswith("real ")]
    if not names:
        return
    yield ""
    yield "HAADF series: share of the variance of views left out of everything."
    yield ""
    yield "| series | normalised | auto | cg | said |"
    yield "|---" * 5 + "|"
    for name in names:
        _, series, how = name.split()
        row = rows[name]
        yield f"| {series} | {how} | {row['auto']:.4f} | {row['cg']:.4f} | {row['words']} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parts", nargs="+", default=["iterations", "real", "strengths"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--data", type=Path, default=DATA)
    given = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / f"{NAME}.json"
    found: Record = json.loads(path.read_text()) if path.exists() else {"cases": {}}
    found |= {"machine": platform.processor() or platform.machine(), "threads": 1}
    for part in given.parts:
        for name, work in cases([part], given.seeds, given.data):
            if name in found["cases"]:
                continue
            found["cases"][name] = work()
            print(name, found["cases"][name], flush=True)
            path.write_text(json.dumps(found, indent=1) + "\n")
            path.with_suffix(".md").write_text(page(found))


if __name__ == "__main__":
    main()
