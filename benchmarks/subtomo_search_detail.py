"""How much detail should the grid search look at: poses of subtomograms with a coarse and with a finer search.

``python benchmarks/subtomo_search_detail.py --data DATA --cache FOLDER [--phases 9 13] [--seeds 5]``

As `subtomo_accuracy`, default method, +-60 degrees, particles up to 40 angstrom, symmetry given. ``phase`` is that
between the particle's centre and rim at the highest frequency of the search, radians (`SearchPlan.coarse_radius`).

Writes ``benchmarks/results/subtomo_search_detail.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from manyviews.subtomo import pose_search
from subtomo_accuracy import COUNT, LM, TRUTH, Way, outcome
from subtomo_data import CANDIDATES, RATIOS, RESULTS, Scene, fourier_set, machine, rounded, specimen


def shown(phase: float) -> str:
    return f"{phase:g} radians" if phase else "from the truth"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--phases", type=float, nargs="+", default=[9.0, 13.0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--specimens", nargs="+", default=["80s", "groel"])
    parser.add_argument("--groel-set", type=int, nargs=2, default=(50, 24), help="count and radius of sets")
    given = parser.parse_args()
    import numba

    torch.set_num_threads(1)
    numba.set_num_threads(1)
    rows = []
    for name in given.specimens:
        own = specimen(name, given.data, given.cache)
        scene = Scene(own, 60.0)
        count, radius = given.groel_set if name == "groel" else (COUNT, 16)
        whole = [fourier_set(scene, RATIOS, count, seed, radius, given.cache) for seed in range(given.seeds)]
        sets = [
            {r: one.crop(own.radius(40.0)).select(np.arange(COUNT)) for r, one in each.items()}
            for each in whole
        ]
        ways = [(phase, Way("joint", LM)) for phase in given.phases] + [(0.0, Way("none", TRUTH))]
        for ratio in RATIOS:
            for phase, way in ways:
                pose_search._RIM_PHASE = phase or 13.0
                found = [
                    outcome(way, one[ratio], own, scene, seed, CANDIDATES[ratio])
                    for seed, one in enumerate(sets)
                ]
                angles = np.concatenate([one.angles for one in found])
                ccc = np.concatenate([one.correlation for one in found])
                rows.append(rounded({
                    "specimen": name, "snr": ratio, "phase": phase, "particles": len(angles), "ccc": ccc.mean(),
                    "median_angle": np.median(angles), "wrong": (angles > 10).mean(),
                    "cpu_ms": 1e3 * sum(one.cpu for one in found) / len(angles),
                }))  # fmt: skip
                print(rows[-1], flush=True)
    lines = ["| specimen | SNR | search | CCC | angle | wrong | CPU ms |", "| " + "--- | " * 7]
    lines += [
        f"| {one['specimen']} | {one['snr']:g} | {shown(one['phase'])} | "
        f"{one['ccc']:.3f} | {one['median_angle']:.1f} | {100 * one['wrong']:.0f} % | {one['cpu_ms']:.0f} |"
        for one in rows
    ]
    what = {"what": __doc__.splitlines()[0], "threads": 1, "rows": rows}
    (RESULTS / "subtomo_search_detail.json").write_text(json.dumps(what | machine(), indent=1) + "\n")
    (RESULTS / "subtomo_search_detail.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
