"""Ways to refine beside each other: resolution and likelihood against passes through the images and CPU time.

Every method of `particles refine --method` goes from one start through the same images, with the same search
for poses and the same halves. After each pass stand the resolution against the truth (FSC 0.5, the map of
both halves as it is, laid over the truth), where the halves agree (FSC 0.143), the mean log likelihood of an
image under the map it was found with, the share of the particles' power that the maps explain, and the CPU
seconds so far.

Prints a line a pass, or a batch where the method takes batches; nothing is stored.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from manyviews.alignment.map_alignment import aligned_fsc
from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.io.mrc import read_mrc
from manyviews.metrics.fsc import agreed_radius
from manyviews.particles.em.problem import EmProblem
from manyviews.particles.images.fourier_resample import regrid_volume
from manyviews.particles.images.load import noise_spectrum, read_fourier_images
from manyviews.particles.options import ParticleOptions, RefineMethod, RefineOptions
from manyviews.particles.plan import load_table
from manyviews.particles.refine.plan import resolve_refinement
from manyviews.particles.refine.refine import solver_of
from manyviews.particles.refine.scales import one_group
from manyviews.particles.refine.start import read_start, starts_of_halves
from refinement import cpu_seconds

Record = dict[str, Any]
METHODS = ("em", "accelerated-em", "preconditioned-sgd", "vdam", "sgd")


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


def trajectory(folder: Path, method: RefineMethod, passes: int, args: argparse.Namespace) -> list[Record]:
    """What is reached after each pass until the method settles."""
    options = RefineOptions(
        start=folder / "truth.mrc", start_resolution=args.start_resolution, diameter=args.diameter,
        method=method, iterations=passes, batch=args.batch, seed=args.seed, threads=args.threads,
    )  # fmt: skip
    problem, starts, plan = problem_of(folder, options)
    truth, side = read_mrc(folder / "truth.mrc")[0], plan.box * plan.pixel_size
    solver = solver_of(problem, starts, plan, one_group(plan.em.particles))
    state, spent, told = solver.init(), 0.0, []
    while state.iteration < solver.steps(passes) and not solver.settled(state):
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
        print(method, told[-1], flush=True)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="+", help="folders of `particles simulate`")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--diameter", type=float, default=280.0)
    parser.add_argument("--start-resolution", type=float, default=40.0)
    parser.add_argument("--passes", type=int, default=12)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for folder in args.data:
        for method in args.methods:
            trajectory(folder, method, args.passes, args)


if __name__ == "__main__":
    main()
