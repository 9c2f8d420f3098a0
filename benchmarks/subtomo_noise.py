"""500 volumes of pure noise aligned to a reference: how far do independent halves then agree?

``python benchmarks/subtomo_noise.py --data DATA --cache FOLDER [--sets 10] [--iterations 4]``

Noise of the paper's experiment (+-60 degrees, CTF, detector), as `subtomo simulate --noise-only` makes it, in sets of
50. The solver of ``manyviews subtomo align`` with GroEL at 60 angstrom as ``--reference``, 10 candidates, C1; and
without a reference, where halves share what is coarser than 60 angstrom. Both halves begin with one map, so up to 60
angstrom (shell 6 of 384 angstrom, and its soft edge, shell 7) noise is turned until it looks like it: the halves agree
there whatever the particles are. Beyond that nothing is shared.

``expected`` is the standard deviation that two noises have in a shell, one over the root of its independent samples,
as many as the soft sphere leaves. Writes ``benchmarks/results/subtomo_noise.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from manyviews.metrics.masked_fsc import masked_fsc
from manyviews.operators.fourier_sums import HALVES
from manyviews.parallel.lanes import lane_of
from manyviews.parallel.world import SingleWorld
from manyviews.subtomo.alignment import Alignment, AlignmentProblem, AlignmentState
from manyviews.subtomo.averaging import add_up
from manyviews.subtomo.halves import halves_by_groups
from manyviews.subtomo.pose_search import SearchPlan
from manyviews.subtomo.refine.objective import Poses
from subtomo_data import BOX, RESULTS, Scene, fourier_set, machine, rounded, specimen
from subtomo_resolution import RADIUS, SET, SHIFT_RANGE, joined

SHOWN = 20
SHARED = 8  # the first shell of which nothing of the start is left


def curves(problem: AlignmentProblem, state: AlignmentState, size: float) -> dict[str, Any]:
    poses = Poses(state.rotations.numpy(), state.shifts.numpy(), problem.own)
    sums = add_up(
        problem.subtomograms, poses, np.ones(len(poses)), problem.halves,
        lanes=problem.lanes, symmetry=problem.search.symmetry, world=SingleWorld(),
    )  # fmt: skip
    first, second = (sums.half_volume(half, BOX).numpy() for half in range(HALVES))
    found = masked_fsc(first, second, size, problem.mask.numpy(), shared=problem.shared_radius)
    share = float((problem.mask.numpy() ** 2).mean())
    expected = 1 / np.sqrt(np.maximum(found.masked.samples * share, 1))
    beyond = found.unmasked.correlation[SHARED:RADIUS]
    deviation = 1 / np.sqrt(found.unmasked.samples[SHARED:RADIUS])
    return {
        "iteration": state.iteration, "searched_to_A": BOX * size / state.searched_radius,
        "resolution_A": found.corrected.resolution(0.143), "mean_score": float(state.score.mean()),
        "unmasked": found.unmasked.correlation[:SHOWN].tolist(), "masked": found.masked.correlation[:SHOWN].tolist(),
        "corrected": found.corrected.correlation[:SHOWN].tolist(), "expected": expected[:SHOWN].tolist(),
        "beyond_mean": float(beyond.mean()), "beyond_largest": float(np.abs(beyond).max()),
        "beyond_rms_over_expected": float(np.sqrt(np.mean((beyond / deviation) ** 2))),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--sets", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=4)
    given = parser.parse_args()
    own = specimen("groel", given.data, given.cache)
    scene = Scene(own, 60.0)
    data = joined(
        [fourier_set(scene, (0.0,), SET, seed, RADIUS, given.cache)[0.0] for seed in range(given.sets)]
    )
    every, start = np.arange(len(data)), own.radius(60.0)
    rows = []
    for reference in (torch.from_numpy(own.volume), None):
        problem = AlignmentProblem(
            data, every, lane_of(every), halves_by_groups("particle", every, every, 0).half,
            SearchPlan(own.diameter_voxels, SHIFT_RANGE, 10, np.eye(3)[None]),
            reference, start, start if reference is None else 0, shared_radius=start,
        )  # fmt: skip
        solver = Alignment(problem)
        state = solver.init()
        for _ in range(given.iterations):
            state = solver.step(state)
            row = {
                "start": "nothing" if reference is None else "GroEL at 60 A",
                **curves(problem, state, own.pixel_size),
            }
            rows.append(rounded(row))
            print(rows[-1], flush=True)
    lines = ["| start | iteration | to A | halves 0.143, A | " + " | ".join(f"shell {n}" for n in range(2, 13)) + " | rms beyond 48 A, over expected |",
             "| " + "--- | " * 16]  # fmt: skip
    for one in rows:
        cells = " | ".join(f"{value:.2f}" for value in one["masked"][2:13])
        lines.append(
            f"| {one['start']} | {one['iteration']} | {one['searched_to_A']:.0f} | {one['resolution_A']:.0f} | {cells} | "
            f"{one['beyond_rms_over_expected']:.2f} |"
        )
    what = {"what": __doc__.splitlines()[0], "volumes": len(data), "rows": rows}
    (RESULTS / "subtomo_noise.json").write_text(json.dumps(what | machine(), indent=1) + "\n")
    (RESULTS / "subtomo_noise.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
