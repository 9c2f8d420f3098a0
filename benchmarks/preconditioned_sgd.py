"""Preconditioned SGD at known poses beside plain SGD: ``python benchmarks/preconditioned_sgd.py PDB CTF``.

The setting of Toader, Brubaker & Lederman (2025, Acta Cryst. D 81:327) rebuilt: images of 192 pixels of 2.18
angstrom, frequencies up to 95 Fourier pixels (4.4 angstrom), true poses, batches of a thirtieth of the images,
10 epochs. PDB is a model of 1AON; CTF an npz file with ``defocus_u``, ``defocus_v``, ``defocus_angle`` of real
particles, every image gets one of them. The other object is the house's asymmetric complex. Views are uniform
or a belt of side views. Data are the same for all seeds; a seed is that of start, order and probes.

Fewer images than the authors' 30,000 are offset by a higher signal-to-noise ratio, so that the loss has about
as much to lose to signal, against what fitting the noise gains, as theirs had.

Writes ``benchmarks/results/preconditioned_sgd_BOX.json`` and ``.md`` after every run; runs in it are not done
again, so it can be stopped and called again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

RESULTS = Path(__file__).parent / "results"
EPOCHS = 10
BATCHES = 30
METHODS = (
    "sgd",
    "exact",
    "row-sums",
    "hutchinson",
    "hutchinson, a fifth of each batch",
    "hutchinson, paper's probes",
)
EVERY = 5  # steps from one probe to the next
START_SD = 1 / 320  # of the noise of a coefficient: unit variance beside theirs of 320 pixels
DAMPING = 1e-8
LBFGS_ITERATIONS = 30


@dataclass(frozen=True)
class Scene:
    """What the images are of: 1AON or complex, uniform or belt."""

    specimen: str
    views: Literal["uniform", "belt"]


SCENES = (
    Scene("1AON", "uniform"),
    Scene("1AON", "belt"),
    Scene("complex", "belt"),
    Scene("complex", "uniform"),
)


def make_problem(scene: Scene, given: argparse.Namespace) -> tuple[Any, Any]:
    """The objective, and the vector of the true volume."""
    from manyviews.geometry.poses import euler_to_matrices
    from manyviews.operators.contrast_transfer import Optics, ctf_values
    from manyviews.operators.fourier_ball import FourierBall
    from manyviews.operators.fourier_points import extract, half_plane
    from manyviews.particles.fixed_poses.objective import KnownPoses
    from manyviews.particles.images.fourier_images import FourierImages
    from manyviews.simulate.particle_specimens import particle_specimen
    from manyviews.simulate.particles import VolumeProjector, draw_poses, particle_images, particle_noise

    box, pixel_size, count = given.box, given.pixel_size, given.images
    radius = round(95 * box / 192)
    name = str(given.pdb) if scene.specimen == "1AON" else "complex"
    volume, _ = particle_specimen(name, box, pixel_size, seed=0, resolution=2.1 * pixel_size)
    poses = draw_poses(count, views=scene.views, belt_width=10.0, seed=1)
    table = np.load(given.ctf)
    chosen = np.random.Generator(np.random.PCG64(7)).choice(len(table["defocus_u"]), count, replace=False)
    defocus = np.stack([table["defocus_u"][chosen], table["defocus_v"][chosen]], axis=1)
    optics = Optics.make(300.0, 2.0, 0.1, defocus, table["defocus_angle"][chosen])
    projector, points = VolumeProjector(volume), half_plane(radius, box)
    values = np.empty((count, len(points)), np.complex64)
    ctf = np.empty(values.shape, np.float32)
    scale, step = 0.0, 200
    for first in range(0, count, step):
        block = slice(first, min(first + step, count))
        some = type(poses)(poses.angles[block], poses.shifts[block])
        clean = particle_images(projector, some, optics.select(block), pixel_size)
        scale = scale or float(np.sqrt(given.snr / clean.var(dtype=np.float64)))
        noisy = clean * np.float32(scale) + particle_noise(first, len(clean), box, pixel_size, 0.0, 2)
        values[block] = extract(noisy, points)
        ctf[block] = ctf_values(optics.select(block), points, box, pixel_size).numpy()
    noise = np.full((1, radius + 1), box**2, np.float32)
    group = np.zeros(count, np.int32)
    images = FourierImages(points, values, ctf, noise, group, box, pixel_size, radius)
    truth = FourierBall.of(radius).from_volume(torch.from_numpy(volume * np.float32(scale)))
    return KnownPoses(images, euler_to_matrices(poses.angles), damping=DAMPING), truth


def make_solver(problem: Any, method: str, seed: int) -> Any:
    """The solver of a method, from the start of a seed."""
    from manyviews.particles.fixed_poses.diagonals import fixed_diagonal
    from manyviews.solvers.hutchinson import pooled_pairs
    from manyviews.solvers.preconditioned_sgd import PreconditionedSgd, Probing

    rng = np.random.Generator(np.random.PCG64(100 + seed))
    noise = START_SD * problem.data.box * rng.standard_normal(problem.ball.size)
    start = torch.from_numpy(noise.astype(np.float32))
    diagonal: Any = None
    if method == "exact":
        diagonal = fixed_diagonal(problem, "exact", start)
    elif method == "row-sums":
        diagonal = fixed_diagonal(problem, "row-sums", start)
    elif method == "hutchinson":
        diagonal = Probing(every=EVERY, pool=pooled_pairs)
    elif method == "hutchinson, a fifth of each batch":
        diagonal = Probing(share=0.2, pool=pooled_pairs)
    elif method != "sgd":
        diagonal = Probing()
    batch = -(-problem.images // BATCHES)
    return PreconditionedSgd(
        problem, start, batch=batch, diagonal=diagonal, threshold=problem.paper_threshold(), seed=seed
    )


class Timed:
    """An objective that counts the CPU seconds of its products with the Hessian."""

    def __init__(self, problem: Any) -> None:
        self._problem, self.seconds = problem, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._problem, name)

    def hessian_product(self, x: Any, v: Any, batch: Any) -> Any:
        began = time.process_time()
        found = self._problem.hessian_product(x, v, batch)
        self.seconds += time.process_time() - began
        return found


def run(problem: Any, optimum: Any, method: str, seed: int) -> dict[str, Any]:
    """Excess loss after every epoch, and what it cost in CPU seconds."""
    timed = Timed(problem)
    began = time.process_time()
    solver = make_solver(timed, method, seed)
    spent = time.process_time() - began
    state = solver.init()
    excess = [optimum.excess(problem, state.iterate)]
    lengths, passes = [], []
    for _ in range(EPOCHS):
        began = time.process_time()
        for _ in range(solver.steps_an_epoch):
            state = solver.step(state)
        spent += time.process_time() - began
        excess.append(optimum.excess(problem, state.iterate))
        lengths.append(state.step_length)
        passes.append(state.passes)
    return {"excess": excess, "cpu_s": spent, "hessian_cpu_s": timed.seconds, "passes": passes,
            "step_length": lengths}  # fmt: skip


def reference(problem: Any, given: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """The optimum by conjugate gradients, and what was needed; L-BFGS beside it."""
    from manyviews.particles.fixed_poses.diagonals import fixed_diagonal
    from manyviews.particles.fixed_poses.optimum import least_squares_optimum, limited_memory_bfgs

    like = torch.zeros(problem.ball.size)
    exact = fixed_diagonal(problem, "exact", like)
    assert exact is not None
    began = time.process_time()
    optimum = least_squares_optimum(problem, exact, tolerance=given.tolerance, iterations=given.cg)
    told: dict[str, Any] = {
        "loss": optimum.value,
        "excess_at_zero": optimum.excess(problem, like),
        "relative_residual": optimum.relative_residual,
        "cg_iterations": optimum.iterations,
        "cg_cpu_s": time.process_time() - began,
        "unknowns": problem.ball.size,
        "unseen": int((exact <= 1.001 * problem.damping).sum()),
        "below_threshold": int((exact < problem.paper_threshold()).sum()),
    }
    if given.lbfgs:
        began = time.process_time()
        found = limited_memory_bfgs(problem, like, iterations=LBFGS_ITERATIONS)
        told["lbfgs"] = {
            "iterations": LBFGS_ITERATIONS,
            "excess": optimum.excess(problem, found),
            "cpu_s": time.process_time() - began,
        }
    return optimum, told


def table(result: dict[str, Any]) -> str:
    """The result as a page."""
    lines = [
        f"# Preconditioned SGD at known poses, {result['box']} pixels",
        "",
        f"{result['images']} images of {result['pixel_size']} A a pixel, SNR {result['snr']}, frequencies up "
        f"to {result['radius']} Fourier pixels, {EPOCHS} epochs of {BATCHES} batches; "
        f"{result['threads']} thread(s). Excess: loss an image above its minimum, as a part of that at zero; "
        "mean of the seeds. The last column is the CPU time of products with the Hessian over that of all.",
        "",
        "| object | views | method | seeds | excess, 1 epoch | 5 epochs | 10 epochs | SGD's over it, 10 epochs "
        "(lowest seed) | passes | CPU s | Hutchinson |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for key, scene in result["scenes"].items():
        specimen, views = key.split(", ")
        at_zero = scene["reference"]["excess_at_zero"]
        for method in METHODS:
            runs = scene["runs"].get(method, {})
            if not runs:
                continue
            mean = [statistics.mean(one["excess"][at] for one in runs.values()) for at in (1, 5, 10)]
            plain = scene["runs"].get("sgd", {})
            ratios = [
                plain[seed]["excess"][-1] / one["excess"][-1] for seed, one in runs.items() if seed in plain
            ]
            ratio = f"{statistics.mean(ratios):.2f} ({min(ratios):.2f})" if ratios else ""
            cpu, passes = (
                statistics.mean(value)
                for value in zip(*((one["cpu_s"], one["passes"][-1]) for one in runs.values()), strict=True)
            )
            share = statistics.mean(one["hessian_cpu_s"] / one["cpu_s"] for one in runs.values())
            excesses = " | ".join(f"{value / at_zero:.4f}" for value in mean)
            lines.append(
                f"| {specimen} | {views} | {method} | {len(runs)} | {excesses} | {ratio} | {passes:.0f} | "
                f"{cpu:.0f} | {share:.1%} |"
            )
        told = scene["reference"]
        lbfgs = told.get("lbfgs")
        if lbfgs:
            lines.append(
                f"| {specimen} | {views} | L-BFGS, {lbfgs['iterations']} iterations | | | | "
                f"{lbfgs['excess'] / at_zero:.4f} | | | {lbfgs['cpu_s']:.0f} | |"
            )
        lines.append(
            f"| {specimen} | {views} | conjugate gradients, {told['cg_iterations']} iterations to "
            f"{told['relative_residual']:.1e} | | | | 0 | | | {told['cg_cpu_s']:.0f} | |"
        )
    return "\n".join(lines) + "\n"


def store(given: argparse.Namespace, key: str, entry: dict[str, Any]) -> None:
    """Put one scene into the file as it is now: two scenes may be worked on at a time."""
    path = RESULTS / f"preconditioned_sgd_{given.box}.json"
    result = json.loads(path.read_text()) if path.exists() else settings(given)
    result["scenes"][key] = entry
    path.write_text(json.dumps(result, indent=1) + "\n")
    path.with_suffix(".md").write_text(table(result))


def settings(given: argparse.Namespace) -> dict[str, Any]:
    import numba
    import scipy

    return {
        "box": given.box,
        "pixel_size": given.pixel_size,
        "images": given.images,
        "snr": given.snr,
        "radius": round(95 * given.box / 192),
        "steps_between_probes": EVERY,
        "threads": given.threads,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, shared",
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__,
                     "numba": numba.__version__, "torch": torch.__version__},
        "scenes": {},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("pdb", type=Path)
    parser.add_argument("ctf", type=Path)
    parser.add_argument("--box", type=int, default=192)
    parser.add_argument("--pixel-size", type=float, default=2.18)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--snr", type=float, default=0.15)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scenes", type=int, nargs="+", default=range(len(SCENES)), help="by number, from 0")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--cg", type=int, default=200, help="iterations of conjugate gradients at most")
    parser.add_argument("--tolerance", type=float, default=1e-5)
    parser.add_argument("--lbfgs", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    import numba

    torch.set_num_threads(given.threads)
    numba.set_num_threads(given.threads)
    path = RESULTS / f"preconditioned_sgd_{given.box}.json"
    known = json.loads(path.read_text())["scenes"] if path.exists() else {}
    for scene in (SCENES[number] for number in given.scenes):
        key = f"{scene.specimen}, {scene.views}"
        entry = known.get(key, {"runs": {}})
        wanted = [(method, str(seed)) for seed in range(given.seeds) for method in given.methods]
        missing = [one for one in wanted if one[1] not in entry["runs"].get(one[0], {})]
        if not missing:
            continue
        problem, _ = make_problem(scene, given)
        optimum, told = reference(problem, given)
        entry["reference"] = told
        print(key, told, flush=True)
        for method, seed in missing:
            found = run(problem, optimum, method, int(seed))
            entry["runs"].setdefault(method, {})[seed] = found
            share = found["excess"][-1] / told["excess_at_zero"]
            print(key, method, seed, f"excess {share:.4f}, {found['cpu_s']:.0f} s", flush=True)
            store(given, key, entry)


if __name__ == "__main__":
    main()
