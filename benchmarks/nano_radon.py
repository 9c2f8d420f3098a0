"""How fast are projecting, back-projecting, both as a convolution, and the tomography step, and how far off?

``python benchmarks/nano_radon.py [--size 256] [--views 384] [--threads 1] [--astra PYTHON] [--json result.json]``

CPU seconds of the least of some repeats, on noise: the machine may be shared. Beside them the same transforms by
finufft, a slice pair at a time on one thread (its points set once), bare transforms of the sizes that the operator
makes (what remains if reading points and copying cost nothing), and, with ``--astra``, a Python that has
astra-toolbox, its CPU projectors on four slices, times what is left.

The tomography step is that of a volume of the same size: the exact gradient, then so many preconditioned steps.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import finufft
import numpy as np
import scipy.fft
import torch

from manyviews.nano.admm.tomography import Penalties, TomographyProblem, preconditioned_steps, printed_steps
from manyviews.operators.radon import Radon
from manyviews.operators.radon_normal import RadonNormal

ASTRA = """
import json, sys, time
import astra, numpy as np
size, views, kind = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
volume = astra.create_vol_geom(size, size)
lines = astra.create_proj_geom("parallel", 1.0, size, np.arange(views) * np.pi / views)
projector = astra.create_projector(kind, lines, volume)
image = np.random.default_rng(0).standard_normal((size, size)).astype(np.float32)
out = {}
began = time.process_time()
for _ in range(4):
    identity, sinogram = astra.create_sino(image, projector)
    astra.data2d.delete(identity)
out["forward"] = (time.process_time() - began) * size / 4
began = time.process_time()
for _ in range(4):
    identity, _ = astra.create_backprojection(sinogram, projector)
    astra.data2d.delete(identity)
out["adjoint"] = (time.process_time() - began) * size / 4
print(json.dumps(out))
"""


def least(task: Callable[[], object], repeats: int) -> dict[str, float]:
    task()
    cpu, wall = [], []
    for _ in range(repeats):
        began, spent = time.monotonic(), time.process_time()
        task()
        cpu.append(time.process_time() - spent)
        wall.append(time.monotonic() - began)
    return {"cpu_s": round(min(cpu), 3), "wall_s": round(min(wall), 3)}


def by_finufft(radon: Radon, size: int, repeats: int) -> dict[str, Any]:
    """Times of one pair of slices, for all; without the transforms along lines."""
    line, theta = radon.polar.line, np.deg2rad(radon.theta_degrees)[:, None]
    turns = 2.0 * np.pi * scipy.fft.fftfreq(line)
    x, y = ((f(theta) * turns).ravel().astype(np.float32) for f in (np.cos, np.sin))
    plans = []
    for kind, sign in ((2, -1), (1, 1)):
        plan = finufft.Plan(kind, (size, size), 1, 1e-3, sign, dtype="complex64", nthreads=1, upsampfac=1.25)
        plan.setpts(y, x)
        plans.append(plan)
    image = np.ones((size, size), np.complex64)
    points = plans[0].execute(image)
    pairs = size // 2
    return {
        name: {key: round(pairs * value, 3) for key, value in least_fine(task, repeats).items()}
        for name, task in (
            ("forward", lambda: plans[0].execute(image, out=points)),
            ("adjoint", lambda: plans[1].execute(points, out=image)),
        )
    }


def least_fine(task: Callable[[], object], repeats: int) -> dict[str, float]:
    task()
    cpu = []
    for _ in range(repeats):
        spent = time.process_time()
        for _ in range(4):
            task()
        cpu.append((time.process_time() - spent) / 4)
    return {"cpu_s": min(cpu)}


def bare_transforms(radon: Radon, size: int, views: int, repeats: int) -> dict[str, float]:
    """CPU seconds of the transforms alone that one direction makes."""
    grid, line = radon.polar.grid, radon.polar.line
    plane, lines = np.zeros((grid, grid, 8), np.complex64), np.zeros((32, line, 8), np.complex64)
    blocks = size / 16
    seconds = (
        least_fine(lambda: scipy.fft.fft(plane[:size], axis=1, overwrite_x=True), repeats)["cpu_s"] * blocks
        + least_fine(lambda: scipy.fft.fft(plane, axis=0, overwrite_x=True), repeats)["cpu_s"] * blocks
        + least_fine(lambda: scipy.fft.fft(lines, axis=1, overwrite_x=True), repeats)["cpu_s"]
        * blocks * views / 32
    )  # fmt: skip
    return {"cpu_s": round(seconds, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--views", type=int, default=384)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--astra")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    size, views, repeats = given.size, given.views, given.repeats
    radon = Radon(np.arange(views) * 180.0 / views, size, size, 0.5 * (size - 1))
    rng = np.random.default_rng(0)
    u = torch.from_numpy(rng.standard_normal(radon.domain, dtype=np.float32))
    images = radon.forward(u)
    normal = RadonNormal.of(radon)
    problem = TomographyProblem.of(radon)
    rho = Penalties(1.0 / problem.norm, 0.1)
    found: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(), "load": os.getloadavg()[0], "size": size,
        "views": views, "threads": given.threads, "line": radon.polar.line, "grid": radon.polar.grid,
        "forward": least(lambda: radon.forward(u), repeats),
        "adjoint": least(lambda: radon.adjoint(images), repeats),
        "convolution": least(lambda: normal.forward(u, out=torch.empty_like(u)), repeats),
        "kernel": least(lambda: RadonNormal.of(radon), repeats),
        "preconditioner": least(lambda: problem.preconditioner(rho).forward(u), repeats),
        "transforms_of_one_direction": bare_transforms(radon, size, views, repeats),
        "finufft": by_finufft(radon, size, repeats),
    }  # fmt: skip
    for steps in (2, 3, 4):
        task = partial(preconditioned_steps, problem, u, images, None, rho, steps)
        found[f"preconditioned_{steps}"] = least(task, repeats)
    found["printed_4"] = least(lambda: printed_steps(problem, u, images, None, rho, 4), 1)
    if given.astra:
        found["astra"] = {
            kind: json.loads(
                subprocess.run(
                    [given.astra, "-c", ASTRA, str(size), str(views), kind],
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout
            )
            for kind in ("linear", "line")
        }
    found["load_after"] = os.getloadavg()[0]
    text = json.dumps(found, indent=2)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
