"""Ways to refine, and ways to begin, beside each other: resolution and likelihood against passes and CPU time.

``python benchmarks/refinement_methods.py SPECIMEN --work FOLDER [--snr 0.3 0.1 0.03] [--seeds 2] [--methods ...]
[--solve stochastic-em sagd] [--name NAME]``

Every method of `particles refine --method` goes from one start (the truth below 40 A) through the same images, with the
same search for poses and the same halves. After each pass stand the resolution against the truth (FSC 0.5, the map
of both halves as it is, laid over the truth), where the halves agree (FSC 0.143), the mean log likelihood of an
image under the map it was found with, the share of the particles' power that the maps explain, and the CPU seconds so
far. ``hutchinson`` is preconditioned-sgd with the diagonal of the true Hessian in place of EM's. ``--solve`` are
whole runs from nothing, by the methods of `particles solve`.

Writes ``benchmarks/results/refinement_methods_NAME.json`` and ``.md`` after each; those that are there are not done again.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from manyviews.alignment.map_alignment import aligned_fsc
from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.io.mrc import read_mrc
from manyviews.io.volume_files import read_volume
from manyviews.metrics.fsc import agreed_radius
from manyviews.options import RunOptions
from manyviews.particles.em.problem import EmProblem
from manyviews.particles.images.fourier_resample import regrid_volume
from manyviews.particles.images.load import noise_spectrum, read_fourier_images
from manyviews.particles.options import (
    AbinitioMethod,
    ParticleOptions,
    RefineMethod,
    RefineOptions,
    SolveOptions,
)
from manyviews.particles.plan import load_table
from manyviews.particles.refine.plan import resolve_refinement
from manyviews.particles.refine.refine import solver_of
from manyviews.particles.refine.scales import one_group
from manyviews.particles.refine.start import read_start, starts_of_halves
from manyviews.particles.solve import solve
from refinement import OF_HALVES, OF_TRUTH, cpu_seconds, simulated

Record = dict[str, Any]
HUTCHINSON = "hutchinson"
METHODS = ("em", "accelerated-em", "preconditioned-sgd", HUTCHINSON, "vdam", "sgd")
BEGINNINGS = ("stochastic-em", "sagd")
RESULTS = Path(__file__).parent / "results"
SHOWN_PASSES = (1, 2, 3, 4, 6)


def problem_of(folder: Path, options: RefineOptions) -> tuple[EmProblem, tuple[torch.Tensor, ...], Any]:
    """The particles of a simulated folder, both halves' starts, and the plan: as `particles refine` has them."""
    table = load_table(ParticleOptions(folder / "particles.star"))
    box = len(read_mrc(folder / "truth.mrc")[0])
    plan = resolve_refinement(options, len(table), box, table.pixel_size)
    images, spectra, counts = read_fourier_images(
        table, np.arange(len(table)), radius=plan.radius, diameter=plan.diameter, threads=1
    )
    problem = EmProblem(
        replace(images, noise_variance=noise_spectrum(spectra, counts, box)),
        np.arange(len(table)), plan.em, shift_sigma=plan.shift_sigma / plan.pixel_size, seed=options.seed,
        positive=False, symmetry=symmetry_rotations("C1"), independent=True,
    )  # fmt: skip
    start = read_start(options.start, box, table.pixel_size)
    return problem, starts_of_halves(problem, start, plan.start_radius), plan


def against_truth(volume: torch.Tensor, truth: np.ndarray, pixel_size: float) -> float:
    whole = regrid_volume(volume, len(truth)).numpy()
    return float(aligned_fsc(whole, truth, pixel_size)[0].resolution(0.5))


def trajectory(folder: Path, name: str, seed: int, args: argparse.Namespace) -> list[Record]:
    """What is reached after each pass until the method settles."""
    method: RefineMethod = "preconditioned-sgd" if name == HUTCHINSON else name  # type: ignore[assignment]
    options = RefineOptions(
        start=folder / "truth.mrc", start_resolution=args.start_resolution, diameter=args.diameter,
        method=method, diagonal="hutchinson" if name == HUTCHINSON else "em", iterations=args.passes, seed=seed,
        threads=args.threads,
    )  # fmt: skip
    problem, starts, plan = problem_of(folder, options)
    truth, side = read_mrc(folder / "truth.mrc")[0], plan.box * plan.pixel_size
    solver = solver_of(problem, starts, plan, one_group(plan.em.particles))
    state, spent, told = solver.init(), 0.0, []
    while state.iteration < solver.steps(args.passes) and not solver.settled(state):
        began = cpu_seconds()
        state = solver.step(state)
        spent += cpu_seconds() - began
        done = state.measures().get("data_passes", float(state.iteration))
        told.append({
            "passes": round(done, 3),
            "cpu seconds": round(spent, 1),
            "resolution": round(against_truth(state.iterate, truth, plan.pixel_size), 2),
            "halves": round(side / max(1, agreed_radius(state.correlation)), 2),
            "radius": state.radius,
            "log likelihood": round(state.log_likelihood, 2),
            "explained": round(float(np.mean(state.explained[2 : plan.start_radius + 1])), 4),
            "everywhere": round(state.everywhere, 3),
        })  # fmt: skip
    return told


def from_nothing(folder: Path, method: AbinitioMethod, seed: int, args: argparse.Namespace) -> Record:
    """What a run of `particles solve` comes to, and its first map."""
    spent, truth = cpu_seconds(), folder / "truth.mrc"
    options = SolveOptions(
        method=method, diameter=args.diameter, seed=seed, reference=truth, threads=args.threads
    )
    out = args.work / "solved"
    told = solve(
        ParticleOptions(folder / "particles.star"), options, RunOptions(out, overwrite=True, quiet=True)
    ).summary
    first, header = read_volume(out / "abinitio.mrc")
    assert header.pixel_size is not None
    curve, _ = aligned_fsc(first, read_mrc(truth)[0], header.pixel_size)
    return {
        "first map": round(float(curve.resolution(0.5)), 2), "resolution": told[OF_TRUTH], "halves": told[OF_HALVES],
        "explained": told["power_explained_at_the_start_resolution"], "passes": told["passes"],
        "cpu seconds": round(cpu_seconds() - spent, 1),
    }  # fmt: skip


def page(record: Record) -> str:
    """Tables, from what was stored: means over seeds, and standard deviations of the end."""
    parts = ["# Ways to refine beside each other", ""]
    for snr in dict.fromkeys(row["snr"] for row in record["refined"]):
        names = [f"pass {number}, A" for number in SHOWN_PASSES]
        heads = [
            "method",
            "seeds",
            *names,
            "end, A",
            "log likelihood",
            "passes",
            "CPU seconds",
            "to 5 % of the best, CPU s",
        ]
        parts += [f"## Signal-to-noise ratio {snr:g}", "", "| " + " | ".join(heads) + " |", "| " + " | ".join("---" for _ in heads) + " |"]  # fmt: skip
        rows = [row for row in record["refined"] if row["snr"] == snr]
        goal = 1.05 * min(row["trajectory"][-1]["resolution"] for row in rows)
        for method in dict.fromkeys(row["method"] for row in rows):
            runs = [row["trajectory"] for row in rows if row["method"] == method]
            cells = [method, str(len(runs))]
            cells += [_mean([_after(run, number) for run in runs], 2) for number in SHOWN_PASSES]
            cells += [_spread([run[-1]["resolution"] for run in runs], 2)]
            cells += [_mean([run[-1]["log likelihood"] for run in runs], 1)]
            cells += [_mean([run[-1][name] for run in runs], 0) for name in ("passes", "cpu seconds")]
            cells += [_mean([_reached(run, goal) for run in runs], 0)]
            parts.append("| " + " | ".join(cells) + " |")
        parts.append("")
    if record["solved"]:
        heads = ["snr", "first map by", "seeds", "first map, A", "end, A", "halves, A", "explained", "passes of the halves", "CPU seconds"]  # fmt: skip
        parts += ["## From nothing", "", "| " + " | ".join(heads) + " |", "| " + " | ".join("---" for _ in heads) + " |"]  # fmt: skip
    for snr, method in dict.fromkeys((row["snr"], row["method"]) for row in record["solved"]):
        group = [row for row in record["solved"] if (row["snr"], row["method"]) == (snr, method)]
        cells = [f"{snr:g}", method, str(len(group))]
        cells += [
            _spread([row[name] for row in group], 2)
            for name in ("first map", "resolution", "halves", "explained")
        ]
        cells += [_mean([row[name] for row in group], 0) for name in ("passes", "cpu seconds")]
        parts.append("| " + " | ".join(cells) + " |")
    return "\n".join(parts).rstrip() + "\n"


def _after(run: list[Record], passes: int) -> float | None:
    """Resolution where a method has gone through all images so many times, if it went on for so long."""
    reached = [point["resolution"] for point in run if point["passes"] >= passes - 1e-6]
    return reached[0] if reached else None


def _reached(run: list[Record], goal: float) -> float | None:
    """CPU seconds until a resolution was reached."""
    spent = [point["cpu seconds"] for point in run if point["resolution"] <= goal]
    return spent[0] if spent else None


def _mean(values: list[float | None], digits: int) -> str:
    """Of all seeds; "-" where one of them has none."""
    known = [value for value in values if value is not None]
    return f"{statistics.fmean(known):.{digits}f}" if len(known) == len(values) else "-"


def _spread(values: list[float], digits: int) -> str:
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({statistics.stdev(values):.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("specimen", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--snr", type=float, nargs="+", default=[0.3, 0.1, 0.03])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--solve", nargs="*", choices=BEGINNINGS, default=list(BEGINNINGS))
    parser.add_argument("--box", type=int, default=64)
    parser.add_argument("--pixel-size", type=float, default=5.0)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--diameter", type=float, default=280.0)
    parser.add_argument("--start-resolution", type=float, default=40.0)
    parser.add_argument("--passes", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--name", required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    path = RESULTS / f"refinement_methods_{args.name}.json"
    record: Record = json.loads(path.read_text()) if path.exists() else {"refined": [], "solved": []}
    tasks = [("refined", method) for method in args.methods] + [("solved", method) for method in args.solve]
    for seed in range(args.seeds):
        for snr in args.snr:
            folder = simulated(snr, seed, args)
            for kind, method in tasks:
                case = {"snr": snr, "seed": seed, "method": method}
                if any(case.items() <= row.items() for row in record[kind]):
                    continue
                found = (
                    {"trajectory": trajectory(folder, method, seed, args)}
                    if kind == "refined"
                    else from_nothing(folder, method, seed, args)
                )
                record[kind].append(case | found)
                print(case, found["trajectory"][-1] if "trajectory" in found else found, flush=True)
                path.write_text(json.dumps(record, indent=1) + "\n")
                path.with_suffix(".md").write_text(page(record))


if __name__ == "__main__":
    main()
