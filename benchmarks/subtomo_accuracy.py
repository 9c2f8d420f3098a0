"""The paper's experiment: poses of 20 subtomograms with a reference of 60 angstrom, by every method.

``python benchmarks/subtomo_accuracy.py --data DATA --cache FOLDER [--specimen groel] [--tilt 60] [--seeds 10]``

DATA has ``pdb/1oel.pdb.gz`` and ``subtomo/ribo80s_emd3883_64_8.66A.mrc``; what is simulated is kept in FOLDER. See
`subtomo_data` for the experiment. Particles are compared with the reference (which ends at 60 angstrom, with a soft
edge) at frequencies up to 40 angstrom, in some rows up to 60 only; 10 candidates, 60 at the lowest signal-to-noise
ratio.

Rows: ``search`` is where candidates come from, ``method`` how they are made fine. *Levenberg-Marquardt*, the default,
has fewer candidates at every level of frequencies; the other methods refine every candidate at all frequencies.
*from the truth* is Levenberg-Marquardt started at the true pose: the maximum next to it, and so what any method that
maximises this correlation can reach. The slow methods (printed slices, alternation) run on few particles of few seeds,
always with 10 candidates.

Errors are modulo the symmetry of the specimen, nothing taken out. ``wrong`` is the share of particles more than 10
degrees off. ``p_angle`` and ``p_ccc`` are of Wilcoxon's signed-rank test, particle by particle, against the default
(same search space, joint candidates, symmetry given, 40 angstrom) on the same particles; ``angle_of_default`` is the
default's median on those. ``touched``: coefficients that refinement reads a particle. One thread; the first call is
not timed.

Writes ``benchmarks/results/subtomo_accuracy_SPECIMEN_TILT.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import wilcoxon

from manyviews.metrics.pose_error_3d import spatial_errors
from manyviews.operators.fourier_slice import FourierVolume
from manyviews.subtomo.pose_search import SearchPlan, find_poses
from manyviews.subtomo.refine.levenberg_marquardt import LevenbergMarquardt
from manyviews.subtomo.refine.objective import PoseObjective
from manyviews.subtomo.volumes import FourierSubtomograms
from subtomo_data import (
    CANDIDATES,
    RATIOS,
    RESULTS,
    Float64,
    Scene,
    Specimen,
    fourier_set,
    machine,
    rounded,
    specimen,
    true_poses,
)

COUNT = 20
SHIFT_RANGE = 6.4  # voxels, a tenth of the box: what a job takes when it is told nothing
SLOW = ("alternation", "sag-slices", "sag-slices-optimized")
LM = "levenberg-marquardt"
TRUTH = "from the truth"


@dataclass(frozen=True)
class Way:
    """A row of the table."""

    search: str
    method: str
    symmetry: str = "given"
    resolution: float = 40.0
    seeds: int = 1000
    particles: int = COUNT
    few: bool = False  # 10 candidates, whatever the noise

    @property
    def name(self) -> str:
        return f"{self.search}, {self.method}, {self.symmetry}, {self.resolution:g} A"


@dataclass(frozen=True)
class Outcome:
    """Of some particles: errors in degrees and angstrom, correlations, and what it took."""

    angles: Float64
    shifts: Float64
    correlation: Float64
    cpu: float
    wall: float
    touched: float


def ways(given: argparse.Namespace, own: Specimen) -> list[Way]:
    """The default first."""
    few = {"seeds": given.rotational_seeds}
    found = [
        Way("joint", LM),
        Way("joint", "sag"),
        Way("joint", "newton-marching"),
        Way("joint", LM, resolution=60.0),
        Way("rotational", LM, **few),
        Way("none", TRUTH),
    ]
    if own.symmetry != "C1":
        found += [Way("joint", LM, "C1"), Way("rotational", LM, "C1", **few)]
    slow = {"seeds": given.slow_seeds, "particles": given.slow_particles, "few": True}
    found += [Way("joint", method, **slow) for method in SLOW]
    if given.slow_rotational:
        found += [Way("rotational", method, **slow) for method in ("sag", "newton-marching", *SLOW)]
    return found


def outcome(
    way: Way, data: FourierSubtomograms, own: Specimen, scene: Scene, seed: int, candidates: int
) -> Outcome:
    count = min(len(data), way.particles)
    part = data.crop(own.radius(way.resolution)).select(np.arange(count))
    truth = true_poses(scene, count, seed)
    reference = own.reference
    group = own.group if way.symmetry == "given" else np.eye(3)[None]
    wall, cpu = time.monotonic(), time.process_time()
    if way.method == TRUTH:
        objective = PoseObjective(part, FourierVolume.of(reference, float(part.radius)))
        refined = LevenbergMarquardt(steps=20, radius=0.39 * own.diameter_voxels).refine(objective, truth)
        poses, fit, touched = refined.poses, refined.fit, float(refined.touched.mean())
    else:
        plan = SearchPlan(
            own.diameter_voxels,
            SHIFT_RANGE,
            10 if way.few else candidates,
            group,
            way.search,
            way.method,
            seed,
        )
        found = find_poses(part, reference, plan)
        best = found.best()
        poses, fit, touched = found.poses.select(best), found.fit.select(best), found.touched
    spent = time.process_time() - cpu, time.monotonic() - wall
    size = own.pixel_size
    errors = spatial_errors(
        poses.rotations,
        truth.rotations,
        poses.shifts * size,
        truth.shifts * size,
        symmetry=own.group,
        one_frame=True,
    )
    return Outcome(errors.angles, errors.shifts, fit.correlation, *spent, touched)


def row(way: Way, outcomes: list[Outcome], defaults: list[Outcome]) -> dict[str, Any]:
    """The table's, with the default on the same particles."""
    joined = {
        name: np.concatenate([getattr(one, name) for one in outcomes])
        for name in ("angles", "shifts", "correlation")
    }
    count = [len(one.angles) for one in outcomes]
    beside = {
        name: np.concatenate([getattr(one, name)[:n] for one, n in zip(defaults, count, strict=False)])
        for name in ("angles", "correlation")
    }
    particles = sum(count)
    medians = [float(np.median(one.angles)) for one in outcomes]
    found = {
        "search": way.search, "method": way.method, "symmetry": way.symmetry, "resolution_A": way.resolution,
        "seeds": len(outcomes), "particles": particles,
        "ccc": joined["correlation"].mean(), "median_angle": np.median(joined["angles"]),
        "median_angle_by_seed": [min(medians), max(medians)],
        "median_shift_A": np.median(joined["shifts"]),
        "wrong": (joined["angles"] > 10).mean(),
        "cpu_ms": 1e3 * sum(one.cpu for one in outcomes) / particles,
        "wall_ms": 1e3 * sum(one.wall for one in outcomes) / particles,
        "touched": float(np.mean([one.touched for one in outcomes])),
        "angle_of_default": np.median(beside["angles"]), "ccc_of_default": beside["correlation"].mean(),
        "p_angle": paired(joined["angles"], beside["angles"]),
        "p_ccc": paired(joined["correlation"], beside["correlation"]) if way.resolution == 40 else None,
    }  # fmt: skip
    return {key: rounded(value) for key, value in found.items()}


def paired(one: Float64, other: Float64) -> float | None:
    """Wilcoxon's signed-rank test, two-sided; None where nothing differs."""
    return None if np.allclose(one, other) else float(wilcoxon(one, other).pvalue)


def table(rows: list[dict[str, Any]]) -> str:
    head = (
        "| SNR | candidates | method | symmetry | to A | particles | CCC | angle | of the default | p | shift A | "
        "wrong | CPU ms | touched |"
    )
    lines = [head, "| " + "--- | " * 14]
    for one in rows:
        p = "" if one["p_angle"] is None else f"{one['p_angle']:.1g}"
        lines.append(
            f"| {one['snr']:g} | {one['candidates']} {one['search']} | {one['method']} | {one['symmetry']} | "
            f"{one['resolution_A']:g} | {one['particles']} | {one['ccc']:.3f} | {one['median_angle']:.1f} | "
            f"{one['angle_of_default']:.1f} | {p} | {one['median_shift_A']:.1f} | {100 * one['wrong']:.0f} % | "
            f"{one['cpu_ms']:.0f} | {one['touched']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def measured(
    given: argparse.Namespace,
    own: Specimen,
    scene: Scene,
    ratio: float,
    sets: list[dict[float, FourierSubtomograms]],
) -> list[dict[str, Any]]:
    """All rows at one signal-to-noise ratio."""
    rows: list[dict[str, Any]] = []
    defaults: list[Outcome] = []
    for way in ways(given, own):
        if way.method in SLOW and given.no_slow:
            continue
        candidates = 10 if way.few else CANDIDATES[ratio]
        outcomes = [
            outcome(way, data[ratio], own, scene, seed, candidates)
            for seed, data in enumerate(sets[: way.seeds])
        ]
        defaults = defaults or outcomes
        shown = 0 if way.method == TRUTH else candidates
        rows.append({"snr": ratio, "candidates": shown, **row(way, outcomes, defaults)})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--specimen", choices=("groel", "80s"), default="groel")
    parser.add_argument("--tilt", type=float, default=60.0)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument(
        "--simulated", type=int, nargs=2, default=(COUNT, 16), help="count and radius of sets"
    )
    parser.add_argument("--rotational-seeds", type=int, default=10)
    parser.add_argument("--slow-seeds", type=int, default=3)
    parser.add_argument("--slow-particles", type=int, default=4)
    parser.add_argument(
        "--slow-rotational", action="store_true", help="slow methods from rotational candidates too"
    )
    parser.add_argument("--no-slow", action="store_true")
    given = parser.parse_args()
    import numba

    torch.set_num_threads(1)
    numba.set_num_threads(1)
    own = specimen(given.specimen, given.data, given.cache)
    scene = Scene(own, given.tilt)
    count, radius = given.simulated
    sets = []
    for seed in range(given.seeds):
        whole = fourier_set(scene, RATIOS, count, seed, radius, given.cache)
        most = own.radius(40.0)
        sets.append({r: one.crop(most).select(np.arange(COUNT)) for r, one in whole.items()})
    for way in ways(given, own):  # compiles
        if way.method not in SLOW or not given.no_slow:
            outcome(replace(way, particles=1, few=True), sets[0][0.03], own, scene, 0, 2)
    rows: list[dict[str, Any]] = []
    for ratio in RATIOS:
        rows += measured(given, own, scene, ratio, sets)
    name = f"subtomo_accuracy_{own.name}_{given.tilt:g}"
    what = {
        "what": __doc__.splitlines()[0],
        "specimen": own.name,
        "tilt": given.tilt,
        "threads": 1,
        "rows": rows,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(what | machine(), indent=1) + "\n")
    (RESULTS / f"{name}.md").write_text(table(rows))


if __name__ == "__main__":
    main()
