"""How far does an average from nothing get, beside the one with true poses: GroEL, SNR 0.003, +-60 degrees.

``python benchmarks/subtomo_resolution.py --data DATA --cache FOLDER [--particles 50] [--seeds 10] [--ways ...]``

The solver of ``manyviews subtomo align`` without ``--reference``, with ``--diameter 200``;
sets of 50 particles, more particles are several sets together (see `subtomo_data`). Ways: ``C1`` and ``D7`` are the
job's default, the best of eight random beginnings, and halves that share what is coarser than 60 angstrom only; ``C1 merged`` and ``D7 merged`` the paper's
protocol, both halves aligned to their common map; ``C1 reference`` and ``D7 reference`` start from the truth at 60
angstrom, halves sharing nothing but that. ``C1 perfect`` and ``D7 perfect``: every particle is aligned once to the
truth at full resolution: what alignment can know of these particles at best (its halves are not independent).
*Oracle*: the same particles averaged in their true poses, by the same sums.

``halves_A``: the halves' correlation inside the soft sphere falls below 0.143, corrected by random phases;
``halves_half_A`` below 0.5, uncorrected. ``truth_A``: the correlation of the whole map with the truth, laid over it,
falls below 0.5. Data end at 12.4 angstrom. Shells are of 384 angstrom: ``behind_shells`` is 384 / oracle - 384 / found. The angle is the median
error modulo D7 after a common turn.

Writes ``benchmarks/results/subtomo_resolution_PARTICLES.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from manyviews.alignment.map_alignment import aligned_fsc
from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.metrics.masked_fsc import masked_fsc
from manyviews.metrics.pose_error_3d import spatial_errors
from manyviews.parallel.lanes import lane_of
from manyviews.parallel.world import SingleWorld
from manyviews.subtomo.align_options import AlignOptions
from manyviews.subtomo.alignment import Alignment, AlignmentProblem, has_settled
from manyviews.subtomo.averaging import add_up, solvent_flattened
from manyviews.subtomo.halves import halves_by_groups
from manyviews.subtomo.pose_search import SearchPlan, find_poses
from manyviews.subtomo.refine.objective import Poses
from manyviews.subtomo.starts import RandomStarts
from manyviews.subtomo.volumes import FourierSubtomograms
from subtomo_data import BOX, RESULTS, Scene, Specimen, fourier_set, machine, rounded, specimen, true_poses

RATIO = 0.003
RADIUS = 31
SET = 50
ITERATIONS = 12
SIDE = 384.0
SHIFT_RANGE = 6.4
WAYS = ("C1", "D7", "C1 merged", "D7 merged", "C1 reference", "D7 reference", "C1 perfect", "D7 perfect")


def joined(sets: list[FourierSubtomograms]) -> FourierSubtomograms:
    """Several sets as one; each keeps the transfers that its noise was divided out of."""
    return replace(
        sets[0],
        values=np.concatenate([one.values for one in sets]),
        transfers=np.concatenate([one.transfers for one in sets]),
        transfer_index=np.repeat(np.arange(len(sets)), [len(one) for one in sets]),
    )


def joined_poses(parts: list[Poses]) -> Poses:
    rotations = np.concatenate([one.rotations for one in parts])
    return Poses(rotations, np.concatenate([one.shifts for one in parts]), np.arange(len(rotations)))


def problem_of(
    way: str, data: FourierSubtomograms, own: Specimen, seed: int, candidates: int
) -> AlignmentProblem:
    """What the job makes of its options."""
    count = len(data)
    every = np.arange(count)
    start = own.radius(60.0)
    known = way.endswith("reference")
    group = np.asarray(symmetry_rotations(way.split(maxsplit=1)[0]))
    return AlignmentProblem(
        data,
        every,
        lane_of(every),
        halves_by_groups("particle", every, every, seed).half,
        SearchPlan(own.diameter_voxels, SHIFT_RANGE, candidates, group, seed=seed),
        torch.from_numpy(own.volume) if known else None,
        start,
        0 if known else start,
        shared_radius=None if way.endswith("merged") else start,
        merged=way.endswith("merged"),
        seed=seed,
    )


def judged(problem: AlignmentProblem, own: Specimen, poses: Poses, truth: Poses) -> dict[str, Any]:
    """Of the averages in some poses: resolutions in angstrom."""
    sums = add_up(
        problem.subtomograms, poses, np.ones(len(poses)), problem.halves,
        lanes=problem.lanes, symmetry=problem.search.symmetry, world=SingleWorld(),
    )  # fmt: skip
    first, second = (sums.half_volume(half, BOX).numpy() for half in range(2))
    mask, shared = problem.mask.numpy(), problem.shared_radius
    curves = masked_fsc(first, second, own.pixel_size, mask, shared=shared)
    correlation = np.clip(curves.corrected.correlation[: sums.radius + 1], 0, 0.999)
    whole = solvent_flattened(sums.volume(correlation, BOX), problem.mask).numpy()
    against, _ = aligned_fsc(whole, own.volume, own.pixel_size, radius=own.diameter / 2)
    size = own.pixel_size
    errors = spatial_errors(
        poses.rotations,
        truth.rotations,
        poses.shifts * size,
        truth.shifts * size,
        symmetry=own.group,
        hands=True,
    )
    finest = SIDE / RADIUS  # there is nothing beyond
    return {
        "halves_A": max(finest, curves.corrected.resolution(0.143)),
        "halves_half_A": max(finest, curves.masked.resolution(0.5)),
        "truth_A": max(finest, against.resolution(0.5)),
        "median_angle": float(np.median(errors.angles)),
        "median_shift_A": float(np.median(errors.shifts)),
        "fsc_halves": curves.corrected.correlation[:20].tolist(),
        "fsc_truth": against.correlation[:20].tolist(),
    }


def solved(problem: AlignmentProblem) -> tuple[Poses, int, float, float]:
    """Poses after as many iterations as the job would make, how many that are, CPU and wall seconds."""
    wall, cpu = time.monotonic(), time.process_time()
    if problem.start is None:
        trial = RandomStarts(problem)
        tried = trial.init()
        for _ in range(AlignOptions().starts):
            tried = trial.step(tried)
        problem = replace(problem, start_number=tried.best)
    solver = Alignment(problem)
    state = solver.init()
    for _ in range(ITERATIONS):
        state = solver.step(state)
        if has_settled(state):
            break
    spent = time.process_time() - cpu, time.monotonic() - wall
    poses = Poses(state.rotations.numpy(), state.shifts.numpy(), problem.own)
    return poses, state.iteration, *spent


def aligned_to_the_truth(problem: AlignmentProblem, own: Specimen) -> tuple[Poses, int, float, float]:
    """As `solved`, with the true map and once."""
    wall, cpu = time.monotonic(), time.process_time()
    found = find_poses(problem.subtomograms, torch.from_numpy(own.volume), problem.search)
    spent = time.process_time() - cpu, time.monotonic() - wall
    best = found.poses.select(found.best())
    return best, 1, *spent


def shells_behind(found: float, oracle: float) -> float:
    return SIDE / oracle - SIDE / found


def rows_of(
    ways: list[str], data: FourierSubtomograms, truth: Poses, own: Specimen, seed: int, candidates: int
) -> list[dict[str, Any]]:
    rows, oracles = [], {}
    for way in ways:
        problem = problem_of(way, data, own, seed, candidates)
        symmetry = way.split()[0]
        if symmetry not in oracles:
            oracles[symmetry] = judged(problem, own, truth, truth)
            rows.append({"way": f"{symmetry} oracle", "seed": seed, **oracles[symmetry]})
        poses, iterations, cpu, wall = (
            aligned_to_the_truth(problem, own) if way.endswith("perfect") else solved(problem)
        )
        found = judged(problem, own, poses, truth)
        behind = {
            f"{name}_behind_shells": shells_behind(found[f"{name}_A"], oracles[symmetry][f"{name}_A"])
            for name in ("halves", "truth")
        }
        rows.append(
            {
                "way": way,
                "seed": seed,
                **found,
                **behind,
                "iterations": iterations,
                "cpu_s": cpu,
                "wall_s": wall,
            }
        )
        print({key: rounded(v) for key, v in rows[-1].items() if "fsc" not in key}, flush=True)
    return [rounded(one) for one in rows]


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| way | runs | halves 0.143, A | halves 0.5, A | truth 0.5, A | shells behind the oracle (truth) | within one | "
        "angle | iterations | CPU s |",
        "| " + "--- | " * 10,
    ]
    for way in sorted({one["way"] for one in rows}):
        own = [one for one in rows if one["way"] == way]

        def middle(name: str, own: list[dict[str, Any]] = own) -> str:
            values = [one[name] for one in own if name in one]
            if not values:
                return ""
            return (
                f"{np.median(values):.1f} ({min(values):.1f}-{max(values):.1f})"
                if len(values) > 1
                else f"{values[0]:.1f}"
            )

        behind = [one["truth_behind_shells"] for one in own if "truth_behind_shells" in one]
        within = f"{sum(one <= 1 for one in behind)} of {len(behind)}" if behind else ""
        cells = [
            way,
            str(len(own)),
            *(middle(name) for name in ("halves_A", "halves_half_A", "truth_A", "truth_behind_shells")),
        ]
        cells += [within, *(middle(name) for name in ("median_angle", "iterations", "cpu_s"))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--particles", type=int, default=SET)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--candidates", type=int, default=10)
    parser.add_argument("--ways", nargs="+", default=list(WAYS))
    parser.add_argument("--add", action="store_true", help="keep the rows of an earlier run")
    given = parser.parse_args()
    own = specimen("groel", given.data, given.cache)
    scene = Scene(own, 60.0)
    each = max(1, given.particles // SET)
    name = f"subtomo_resolution_{given.particles}"
    before = RESULTS / f"{name}.json"
    rows: list[dict[str, Any]] = (
        json.loads(before.read_text())["rows"] if given.add and before.exists() else []
    )
    for seed in range(given.seeds):
        numbers = [each * seed + part for part in range(each)]
        sets = [fourier_set(scene, (RATIO,), SET, number, RADIUS, given.cache)[RATIO] for number in numbers]
        data = joined(sets)
        truth = joined_poses([true_poses(scene, SET, number) for number in numbers])
        fresh = rows_of(given.ways, data, truth, own, seed, given.candidates)
        again = {(one["way"], one["seed"]) for one in fresh}
        rows = [one for one in rows if (one["way"], one["seed"]) not in again] + fresh
        what = {
            "what": __doc__.splitlines()[0],
            "particles": given.particles,
            "candidates": given.candidates,
            "rows": rows,
        }
        (RESULTS / f"{name}.json").write_text(json.dumps(what | machine(), indent=1) + "\n")
        (RESULTS / f"{name}.md").write_text(table(rows))


if __name__ == "__main__":
    main()
