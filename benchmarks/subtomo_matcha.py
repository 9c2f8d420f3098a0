"""Matcha's benchmark (Kruse et al. 2026): copies of an 80S map at SNR 1, rotations only, no wedge.

``python benchmarks/subtomo_matcha.py --data DATA [--copies 1000] [--radii 31] [--methods ...] [--paddings 2]``

The ribosome (EMD-3883, 64 voxels of 8.66 angstrom) is turned by `move_map` (twice oversampled, cubic splines), white
noise of the map's variance over the whole box is added. 10 candidates from the joint search without shifts, made fine
by the default or by frequency marching, up to ``radii`` cycles per box, with the map as the reference. ``padding`` of
the map's transform: we read between its points in straight lines, so more padding is more exact. One thread;
milliseconds of CPU a particle, candidates included.

Writes ``benchmarks/results/subtomo_matcha.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from manyviews.alignment.map_alignment import move_map
from manyviews.geometry.poses import angular_distance, random_rotations
from manyviews.subtomo.pose_search import SearchPlan, find_poses
from manyviews.subtomo.volumes import FourierSubtomograms, SubtomogramMaker
from subtomo_data import BOX, RESULTS, Float64, Specimen, machine, rounded, specimen

CANDIDATES = 10
METHODS = ("levenberg-marquardt", "newton-marching")


def copies(own: Specimen, count: int, radius: int) -> tuple[FourierSubtomograms, Float64]:
    """Turned copies with noise, and their poses."""
    rng = np.random.default_rng(0)
    rotations = random_rotations(count, rng)
    everything = np.ones((BOX, BOX, BOX // 2 + 1), np.float32)
    maker = SubtomogramMaker.of(iter([everything]), BOX, own.pixel_size, radius, own.diameter)
    values = np.empty((count, len(maker.points)), np.complex64)
    power = np.zeros((2, len(maker.points)))
    spread = own.volume.std()
    for number, rotation in enumerate(rotations):
        turned = move_map(own.volume, rotation, np.zeros(3))
        noisy = turned + spread * rng.standard_normal(turned.shape, dtype=np.float32)
        values[number], seen = maker.coefficients(noisy, 0)
        power += seen
    return maker.whitened(values, np.zeros(count, np.int64), power), rotations


def measured(
    data: FourierSubtomograms, rotations: Float64, own: Specimen, method: str, padding: int
) -> dict[str, Any]:
    plan = SearchPlan(own.diameter_voxels, 0.0, CANDIDATES, own.group, method=method)
    reference = torch.from_numpy(own.volume)
    find_poses(data.select(np.arange(2)), reference, plan, padding=padding)  # compiles
    began, spent = time.monotonic(), time.process_time()
    found = find_poses(data, reference, plan, padding=padding)
    cpu, wall = time.process_time() - spent, time.monotonic() - began
    best = found.best()
    errors = angular_distance(found.poses.rotations[best], rotations)
    return {
        "mean": errors.mean(), "median": np.median(errors), "percentile90": np.quantile(errors, 0.9),
        "worst": errors.max(), "over_5_degrees": (errors > 5).mean(),
        "cpu_ms": 1e3 * cpu / len(data), "wall_ms": 1e3 * wall / len(data),
        "shift_voxels": np.linalg.norm(found.poses.shifts[best], axis=1).mean(),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--copies", type=int, default=1000)
    parser.add_argument("--radii", type=int, nargs="+", default=[31])
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--paddings", type=int, nargs="+", default=[2])
    given = parser.parse_args()
    import numba

    torch.set_num_threads(1)
    numba.set_num_threads(1)
    own = specimen("80s", given.data, given.data)
    whole, rotations = copies(own, given.copies, max(given.radii))
    rows = []
    for padding in given.paddings:
        for radius in given.radii:
            for method in given.methods:
                found = measured(whole.crop(radius), rotations, own, method, padding)
                rows.append(
                    rounded(
                        {
                            "method": method,
                            "radius": radius,
                            "padding": padding,
                            "copies": len(whole),
                            **found,
                        }
                    )
                )
                print(rows[-1], flush=True)
    lines = [
        "| method | radius | padding | copies | mean | median | 90th percentile | worst | CPU ms |",
        "| " + "--- | " * 9,
    ]
    lines += [
        f"| {one['method']} | {one['radius']} | {one['padding']} | {one['copies']} | {one['mean']:.3f} | {one['median']:.3f} "
        f"| {one['percentile90']:.3f} | {one['worst']:.2f} | {one['cpu_ms']:.0f} |"
        for one in rows
    ]
    what = {"what": __doc__.splitlines()[0], "candidates": CANDIDATES, "threads": 1, "rows": rows}
    (RESULTS / "subtomo_matcha.json").write_text(json.dumps(what | machine(), indent=1) + "\n")
    (RESULTS / "subtomo_matcha.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
