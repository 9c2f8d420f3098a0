"""How long does an outer iteration of `nano reconstruct` take, of what is it made, and what bounds it?

``python benchmarks/nano_speed.py [--sizes 128 256] [--threads 2] [--inner 4] [--method of oftv] [--name NAME]``

A scan of soft blobs, views deformed by up to 2 % of the side, with noise; 196 views of 128 x 128 pixels, then 384 of
256 x 256, 768 of 512 x 512, as in table S1 of Nikitin et al. 2021. Flows by the grid at its finest window. Per iteration,
the least of three: wall and CPU seconds of the whole, wall seconds of its parts, and beside them, in the same run,
what bounds them: a product of matrices (flops), a copy (bytes), and the bare transforms.

Writes ``benchmarks/results/nano_speed_NAME.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from manyviews.kernels.warp_cpu import pull_back
from manyviews.nano.flow.grid import Grid
from manyviews.nano.solve.joint import Joint, JointState, Motion, first_state
from manyviews.nano.solve.problem import LevelProblem
from manyviews.nano.solve.regularity import regularity_of
from manyviews.operators.radon import Radon
from manyviews.parallel.world import SingleWorld

Float32 = NDArray[np.float32]
Record = dict[str, Any]
RESULTS = Path(__file__).parent / "results"
VIEWS = {64: 96, 128: 196, 256: 384, 512: 768, 1024: 1536}
P100_SECONDS = {128: 1.4, 256: 3.9, 512: 32.3, 1024: 315.0}
"""Table S1, one GPU: an ADMM iteration with 4 inner ones."""
FINEST_WINDOW = 24.0
TURNS = 2


def made_scan(size: int, seed: int = 0) -> tuple[Float32, NDArray[np.float64], float]:
    """Projections ``(view, z, x)``, angles, centre."""
    random = np.random.default_rng(seed)
    views, center = VIEWS[size], 0.5 * (size - 1)
    blobs = gaussian_filter(random.standard_normal((64, 64, 64)).astype(np.float32), 1.5)
    place = np.linspace(-1, 1, 64)
    ball = np.sqrt(place[:, None, None] ** 2 + place[:, None] ** 2 + place**2) < 0.85
    volume = zoom(np.maximum(blobs, 0) * ball, size / 64, order=1).astype(np.float32)
    theta = np.arange(views) * 180.0 * TURNS / views
    images = Radon(theta, size, size, center).forward(torch.from_numpy(volume)).numpy()
    knots = gaussian_filter(random.standard_normal((views, 2, 5, 5)), (views / 8, 0, 0.7, 0.7)).astype(
        np.float32
    )
    knots *= 0.02 * size / np.abs(knots).max()
    flow = np.stack([zoom(one, (1, size / 5, size / 5), order=1) for one in knots])
    moved = pull_back(images, np.ascontiguousarray(flow, dtype=np.float32))
    moved += (0.01 * images.max() * random.standard_normal(moved.shape)).astype(np.float32)
    return moved, theta, center


def measured(size: int, method: str, inner: int, repeats: int) -> Record:
    data, theta, center = made_scan(size)
    problem = LevelProblem.of(data, theta, center, SingleWorld())
    variation = 1.0 if method == "oftv" else None
    regularity = regularity_of(data, problem, variation=variation, damping=1.0)
    flow = torch.zeros((len(data), 2, *data.shape[1:]))
    start = first_state(problem, flow, variation=method == "oftv")
    motion = Motion(Grid(damping=0.1, holding=0.1), lambda iteration: FINEST_WINDOW)
    solver = Joint(problem, start, motion, regularity, inner)
    state: JointState = solver.step(solver.step(start))
    walls, spent, parts = [], [], []
    for _ in range(repeats):
        began, cpu = time.perf_counter(), time.process_time()
        found = solver.step(replace(state))
        walls.append(time.perf_counter() - began)
        spent.append(time.process_time() - cpu)
        parts.append((solver.seconds.flow, solver.seconds.warp, solver.seconds.tomography))
    flows, warps, tomography = (min(column) for column in zip(*parts, strict=True))
    return {
        "size": size, "views": len(data), "method": method, "inner": inner, "wall_s": round(min(walls), 3),
        "cpu_s": round(min(spent), 3), "flow_wall_s": round(flows, 3), "warp_wall_s": round(warps, 3),
        "tomography_wall_s": round(tomography, 3), "p100_s": P100_SECONDS.get(size),
        "misfit": round(found.relative_misfit, 5),
    }  # fmt: skip


def limits() -> Record:
    """GFLOP/s of a product of matrices, GB/s of a copy, GFLOP/s of transforms of 512 x 512; one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    matrix = torch.ones((1024, 1024))
    array, other = np.ones(2**25, np.float32), np.empty(2**25, np.float32)
    image = np.ones((512, 512), np.complex64)
    flops = 2 * 1024**3 / _least(lambda: matrix @ matrix)
    copied = 2 * array.nbytes / _least(lambda: np.copyto(other, array))
    transformed = (
        5 * 512 * 512 * math.log2(512 * 512) / _least(lambda: scipy.fft.fft2(image, overwrite_x=True))
    )
    torch.set_num_threads(threads)
    return {
        "gemm_gflops": round(flops / 1e9, 1),
        "copy_gb_s": round(copied / 1e9, 1),
        "fft_gflops": round(transformed / 1e9, 1),
    }


def _least(task: Any, repeats: int = 7) -> float:
    task()
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        task()
        found.append(time.perf_counter() - began)
    return min(found)


def page(record: Record) -> str:
    """The table, from what was stored."""
    limit = record["limits"]
    lines = [
        "# An outer iteration of `nano reconstruct`",
        "",
        f"Threads: {record['threads']}. One thread here: {limit['gemm_gflops']:g} GFLOP/s in a product of matrices, "
        f"{limit['fft_gflops']:g} in a transform of 512 x 512, {limit['copy_gb_s']:g} GB/s in a copy.",
        "",
        "| views x rows x columns | method, inner steps | wall s | CPU s | flow | warp | tomography (wall s) | P100, published |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in record["rows"]:
        published = "" if row["p100_s"] is None else f"{row['p100_s']:g}"
        lines.append(
            f"| {row['views']} x {row['size']} x {row['size']} | {row['method']}, {row['inner']} | {row['wall_s']:.2f} "
            f"| {row['cpu_s']:.2f} | {row['flow_wall_s']:.2f} | {row['warp_wall_s']:.2f} "
            f"| {row['tomography_wall_s']:.2f} | {published} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256], choices=list(VIEWS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--inner", type=int, nargs="+", default=[4])
    parser.add_argument("--method", nargs="+", default=["of", "oftv"], choices=["of", "oftv"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--name", default="2_threads")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    record: Record = {
        "threads": args.threads,
        "limits": limits(),
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "python": platform.python_version(),
        },
        "rows": [],
    }
    for size in args.sizes:
        for method in args.method:
            for inner in args.inner:
                record["rows"].append(measured(size, method, inner, args.repeats))
                print(record["rows"][-1], flush=True)
    path = RESULTS / f"nano_speed_{args.name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(page(record), encoding="utf-8")


if __name__ == "__main__":
    main()
