"""How long does one pass over subtomograms take, and how much memory: GroEL, candidates and refinement.

``python benchmarks/subtomo_speed.py --data DATA --cache FOLDER [--many 1000] [--grow 1000 4000]``

The default method on two threads, kernels compiled, subtomograms already read (see `subtomo_data`;
``reading_cpu_ms`` is what making the coefficients of a volume in memory takes): 20 particles with
10 candidates at SNR 0.03, with 60 at 0.003, to 60 and to 40 angstrom, the symmetry given or not; ``--many`` particles
with 10 candidates (sets over and over). Every pass is repeated; the median of wall and of CPU seconds is given, and
the least wall time, for on a shared machine wall time tells more of the others.

Memory: peak resident size of a process of its own that holds N particles to a radius and makes one pass over them.
`subtomogram_bytes` is what the coefficients take.

Writes ``benchmarks/results/subtomo_speed.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.subtomo.pose_search import SearchPlan, find_poses
from manyviews.subtomo.volumes import FourierSubtomograms, SubtomogramMaker, subtomogram_bytes
from subtomo_data import BOX, RESULTS, Scene, Specimen, fourier_set, machine, rounded, specimen

SET, RADIUS = 50, 24
SHIFT_RANGE = 6.4
CASES = ((0.03, 10), (0.003, 60))


def timed(
    data: FourierSubtomograms, own: Specimen, symmetry: str, candidates: int, repeats: int
) -> dict[str, Any]:
    """Of a pass: medians of seconds, and how many numbers were read."""
    group = np.asarray(symmetry_rotations(symmetry))
    plan = SearchPlan(own.diameter_voxels, SHIFT_RANGE, candidates, group)
    wall, cpu, reference = [], [], own.reference
    for _ in range(repeats):
        began, spent = time.monotonic(), time.process_time()
        found = find_poses(data, reference, plan)
        wall.append(time.monotonic() - began)
        cpu.append(time.process_time() - spent)
    return {
        "wall_s": float(np.median(wall)), "least_wall_s": min(wall), "cpu_s": float(np.median(cpu)),
        "grid_poses": found.searched, "touched": found.touched,
    }  # fmt: skip


def reading(own: Specimen, radius: int, count: int = 20) -> float:
    """CPU milliseconds to make the coefficients of a volume in memory: two transforms, background, noise."""
    rng = np.random.default_rng(0)
    volumes = rng.standard_normal((count, BOX, BOX, BOX), dtype=np.float32)
    maker = SubtomogramMaker.of(iter([Scene(own, 60.0).transfer]), BOX, own.pixel_size, radius, own.diameter)
    maker.coefficients(volumes[0], 0)
    began = time.process_time()
    for volume in volumes:
        maker.coefficients(volume, 0)
    return 1e3 * (time.process_time() - began) / count


def repeated(data: FourierSubtomograms, count: int) -> FourierSubtomograms:
    """As many particles, over and over."""
    index: NDArray[np.int64] = np.resize(np.arange(len(data)), count)
    return data.select(index)


def peak(given: argparse.Namespace) -> None:
    """Prints peak resident size in MiB before and after a pass over so many particles."""
    own = specimen("groel", given.data, given.cache)
    data = fourier_set(Scene(own, 60.0), (0.03,), SET, 0, RADIUS, given.cache)[0.03].crop(given.radius)
    timed(data.select(np.arange(2)), own, "D7", 10, 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    whole = repeated(data, given.peak)
    timed(whole, own, "D7", 10, 1)
    print(json.dumps([before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def growth(given: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for radius in given.radii:
        for count in given.grow:
            words = [sys.executable, __file__, "--data", str(given.data), "--cache", str(given.cache),
                     "--peak", str(count), "--radius", str(radius)]  # fmt: skip
            before, after = json.loads(
                subprocess.run(words, check=True, capture_output=True, text=True).stdout
            )
            held = subtomogram_bytes(count, radius) / 2**20
            rows.append(
                {
                    "particles": count,
                    "radius": radius,
                    "coefficients_MiB": held,
                    "before_MiB": before,
                    "peak_MiB": after,
                }
            )
            print(rows[-1], flush=True)
    return rows


def passes(given: argparse.Namespace, own: Specimen) -> list[dict[str, Any]]:
    rows = []
    scene = Scene(own, 60.0)
    sets = fourier_set(scene, tuple(ratio for ratio, _ in CASES), SET, 0, RADIUS, given.cache)
    timed(sets[0.03].crop(6).select(np.arange(2)), own, "C1", 10, 1)  # compiles
    cases: list[tuple[float, int, int, int]] = [(*case, 20, given.repeats) for case in CASES]
    cases.append((0.03, 10, given.many, 1))
    for ratio, candidates, count, repeats in cases:
        for resolution in (60.0, 40.0):
            data = repeated(sets[ratio].crop(own.radius(resolution)), count)
            for symmetry in ("D7", "C1"):
                found = timed(data, own, symmetry, candidates, repeats)
                rows.append({"particles": count, "snr": ratio, "candidates": candidates, "symmetry": symmetry,
                             "resolution_A": resolution, **found})  # fmt: skip
                print(rows[-1], flush=True)
    return rows


def table(rows: list[dict[str, Any]], grown: list[dict[str, Any]]) -> str:
    lines = [
        "| particles | candidates | to A | symmetry | wall s | least | CPU s | CPU ms a particle |",
        "| " + "--- | " * 8,
    ]
    for one in rows:
        lines.append(
            f"| {one['particles']} | {one['candidates']} | {one['resolution_A']:g} | {one['symmetry']} | "
            f"{one['wall_s']:.2f} | {one['least_wall_s']:.2f} | {one['cpu_s']:.2f} | "
            f"{1e3 * one['cpu_s'] / one['particles']:.1f} |"
        )
    lines += [
        "",
        "| particles | radius | coefficients MiB | peak of the process MiB | of it before |",
        "| " + "--- | " * 5,
    ]
    for one in grown:
        lines.append(
            f"| {one['particles']} | {one['radius']} | {one['coefficients_MiB']:.1f} | {one['peak_MiB']:.0f} | "
            f"{one['before_MiB']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--many", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--grow", type=int, nargs="+", default=[1000, 4000])
    parser.add_argument("--radii", type=int, nargs="+", default=[6, 16])
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--radius", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(2)
    if given.peak:
        peak(given)
        return
    own = specimen("groel", given.data, given.cache)
    rows = [rounded(one) for one in passes(given, own)]
    grown = [rounded(one) for one in growth(given)]
    what = {
        "what": __doc__.splitlines()[0],
        "threads": 2,
        "reading_cpu_ms": rounded(reading(own, 9)),
        "passes": rows,
        "memory": grown,
    }
    (RESULTS / "subtomo_speed.json").write_text(json.dumps(what | machine(), indent=1) + "\n")
    (RESULTS / "subtomo_speed.md").write_text(table(rows, grown))


if __name__ == "__main__":
    main()
