"""Stochastic average gradients on their own ground: numbers touched, algorithm 1 against 2, basin of attraction.

``python benchmarks/subtomo_claims.py --data DATA --cache FOLDER [--seeds 5]``

80S ribosome, +-60 degrees, SNR 0.03 (see `subtomo_data`), reference of 60 angstrom, particles up to 40 angstrom. The
aim is the maximum of the correlation next to the true pose, found by Levenberg-Marquardt from there: no method that
maximises the same can do better, and distances to the truth would hide what is left.

*Touched*: starts 8 degrees and 1.5 voxels off; median distance to the aim, degrees, against frequencies read, in whole
passes, for every method given 1, 2, 3 ... steps. The full gradient is ``sag`` with one part: the same step, every
number read each time. Slices read everything at each step, though a step uses one slice: those are counted as read.

*Algorithms*: 1 (one slice a step) and 2 (blocks of an eighth) as printed, half as many steps as slices, as in the
authors' program, and ten times more.

*Basin*: share of starts, so many degrees off about random axes and a voxel off, that end within 3 degrees of the aim.

Writes ``benchmarks/results/subtomo_claims.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from manyviews.geometry.poses import angular_distance, rotations_from_vectors
from manyviews.operators.fourier_slice import FourierVolume
from manyviews.subtomo.refine.alternation import FourierAlternation
from manyviews.subtomo.refine.levenberg_marquardt import LevenbergMarquardt
from manyviews.subtomo.refine.newton_marching import FrequencyMarching
from manyviews.subtomo.refine.objective import PoseObjective, Poses, RefinementMethod
from manyviews.subtomo.refine.sag import StochasticAverageGradient
from manyviews.subtomo.refine.sag_slices import SliceAverageGradient
from subtomo_data import RESULTS, Scene, fourier_set, machine, rounded, specimen, true_poses

RATIO, COUNT, RADIUS = 0.03, 20, 16
STARTS = (5, 10, 15, 20, 30, 40, 50, 60)
SHIFT_RANGE = 6.4
SLICES = 4  # particles for methods that take them one by one


class Study:
    """Some sets of particles and their aims."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.own = specimen("80s", given.data, given.cache)
        scene = Scene(self.own, 60.0)
        self.diameter = self.own.diameter_voxels
        self.radius = 0.39 * self.diameter
        most = self.own.radius(40.0)
        reference = FourierVolume.of(self.own.reference, float(most))
        self.cases: list[tuple[PoseObjective, Poses]] = []
        for seed in range(given.seeds):
            data = fourier_set(scene, (RATIO,), COUNT, seed, RADIUS, given.cache)[RATIO].crop(most)
            objective = PoseObjective(data, reference)
            aim = LevenbergMarquardt(steps=30, radius=self.radius).refine(
                objective, true_poses(scene, COUNT, seed)
            )
            self.cases.append((objective, aim.poses))

    def starts(self, aim: Poses, degrees: float, voxels: float, seed: int) -> Poses:
        """Off by so much about random axes and in random directions."""
        rng = np.random.default_rng([seed, 7])
        axis, way = rng.standard_normal((2, len(aim), 3))
        axis *= np.radians(degrees) / np.linalg.norm(axis, axis=1, keepdims=True)
        way *= voxels / np.linalg.norm(way, axis=1, keepdims=True)
        return Poses(rotations_from_vectors(axis) @ aim.rotations, aim.shifts + way, aim.particle)

    def run(
        self, method: RefinementMethod, degrees: float, voxels: float, particles: int = COUNT
    ) -> dict[str, Any]:
        """Errors in degrees and voxels, passes, and CPU milliseconds a pose."""
        angles, shifts, passes, spent = [], [], [], 0.0
        for seed, (objective, aim) in enumerate(self.cases):
            own = aim.select(np.arange(particles))
            start = self.starts(own, degrees, voxels, seed)
            began = time.process_time()
            found = method.refine(objective, start)
            spent += time.process_time() - began
            angles.append(angular_distance(found.poses.rotations, own.rotations))
            shifts.append(np.linalg.norm(found.poses.shifts - own.shifts, axis=1))
            passes.append(found.touched / objective.point_count)
        angle = np.concatenate(angles)
        return {
            "poses": len(angle), "passes": float(np.mean(np.concatenate(passes))), "median_angle": float(np.median(angle)),
            "percentile90": float(np.quantile(angle, 0.9)), "median_shift_voxels": float(np.median(np.concatenate(shifts))),
            "near": float((angle < 3).mean()), "cpu_ms": 1e3 * spent / len(angle),
        }  # fmt: skip


def touched(study: Study) -> list[dict[str, Any]]:
    """Error against numbers read. The last pass of each method only measures the fit, and is not counted."""
    r = study.radius
    methods: list[tuple[str, RefinementMethod]] = [
        *[
            ("sag, 16 parts, step 0.35", StochasticAverageGradient(parts=16, passes=p, radius=r, relative_step=0.35))
            for p in (0.5, 1, 3, 6)
        ],
        *[("sag, 16 parts", StochasticAverageGradient(parts=16, passes=p, radius=r)) for p in (0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 12)],
        *[("full gradient", StochasticAverageGradient(parts=1, passes=p, radius=r, relative_step=0.35)) for p in (1, 2, 3, 4, 6, 12, 24)],
        *[("Levenberg-Marquardt", LevenbergMarquardt(steps=n, radius=r, least_gain=0.0)) for n in (1, 2, 3, 4, 6, 12)],
        *[("newton-marching", FrequencyMarching(SHIFT_RANGE, radius=r, steps=n)) for n in (1, 2, 3)],
    ]  # fmt: skip
    rows = []
    for name, method in methods:
        found = study.run(method, 8.0, 1.5)
        found["passes"] -= 2 if name == "newton-marching" else 1
        rows.append(rounded({"method": name, **found}))
        print(rows[-1], flush=True)
    return rows


def algorithms(study: Study) -> list[dict[str, Any]]:
    rows = []
    for passes in (0.5, 5.0):
        for optimized in (False, True):
            method = SliceAverageGradient(study.diameter, optimized=optimized, passes=passes)
            found = study.run(method, 8.0, 1.5, SLICES)
            rows.append(rounded({"algorithm": 2 if optimized else 1, "steps_over_slices": passes, **found}))
            print(rows[-1], flush=True)
    return rows


def basin(study: Study) -> list[dict[str, Any]]:
    r = study.radius
    methods: list[tuple[str, RefinementMethod, int]] = [
        ("levenberg-marquardt", LevenbergMarquardt(radius=r), COUNT),
        ("sag", StochasticAverageGradient(radius=r), COUNT),
        ("newton-marching", FrequencyMarching(SHIFT_RANGE, radius=r), COUNT),
        ("alternation", FourierAlternation(study.diameter, SHIFT_RANGE, rounds=4), 2),
        ("sag-slices-optimized", SliceAverageGradient(study.diameter, optimized=True), 2),
    ]
    rows = []
    for name, method, particles in methods:
        for degrees in STARTS if particles == COUNT else STARTS[1:6:2]:
            rows.append(
                rounded(
                    {"method": name, "start_degrees": degrees, **study.run(method, degrees, 1.0, particles)}
                )
            )
            print(rows[-1], flush=True)
    return rows


def table(parts: dict[str, list[dict[str, Any]]]) -> str:
    lines = ["| method | passes | median angle | 90th percentile | shift, voxels |", "| " + "--- | " * 5]
    lines += [
        f"| {one['method']} | {one['passes']:.2f} | {one['median_angle']:.3f} | {one['percentile90']:.2f} | "
        f"{one['median_shift_voxels']:.3f} |"
        for one in parts["touched"]
    ]
    lines += [
        "",
        "| algorithm | steps over slices | passes | median angle | CPU ms a pose |",
        "| " + "--- | " * 5,
    ]
    lines += [
        f"| {one['algorithm']} | {one['steps_over_slices']} | {one['passes']:.1f} | {one['median_angle']:.2f} | {one['cpu_ms']:.0f} |"
        for one in parts["algorithms"]
    ]
    lines += [
        "",
        "| method | poses | " + " | ".join(f"{d} deg" for d in STARTS) + " |",
        "| " + "--- | " * (2 + len(STARTS)),
    ]
    for name in dict.fromkeys(one["method"] for one in parts["basin"]):
        own = {one["start_degrees"]: one for one in parts["basin"] if one["method"] == name}
        cells = [f"{100 * own[d]['near']:.0f} %" if d in own else "" for d in STARTS]
        lines.append(f"| {name} | {next(iter(own.values()))['poses']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    import numba

    torch.set_num_threads(1)
    numba.set_num_threads(1)
    study = Study(given)
    parts = {"touched": touched(study), "algorithms": algorithms(study), "basin": basin(study)}
    what = {"what": __doc__.splitlines()[0], "snr": RATIO, "seeds": given.seeds, "threads": 1}
    (RESULTS / "subtomo_claims.json").write_text(json.dumps(what | parts | machine(), indent=1) + "\n")
    (RESULTS / "subtomo_claims.md").write_text(table(parts))


if __name__ == "__main__":
    main()
