"""What importance sampling of poses saves and costs: ``python benchmarks/importance_sampling.py FOLDER [FOLDER]``.

A FOLDER has ``gt.star``, ``noisy.mrcs`` and ``truth.mrc``: images of a known map by ``relion_project --ctf``. The
map is the truth, as bright as the images ask for. Posteriors start from a full sum at the lowest frequency and
are carried upwards, each radius visited twice ("epochs"), as a reconstruction would; trust in them is that of the
paper after 5,000 iterations. Measured are

- the error of log p against the full sum, for several s_0 (draws for each effective sample), where the full sum
  is possible at all: relative, as in the paper's Fig. 8, and in nats, which is what a posterior weight sees;
  with the paper's independent draws and with systematic ones, from posteriors of the full sum;
- the part of the lattice that is evaluated, against frequency and against the age of the posterior;
- the processor time for value and gradient, against the full sum's, of which at high frequencies a part is timed.

Writes ``benchmarks/results/importance_sampling.json``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.io.particle_images import ParticleImages
from manyviews.io.relion_particles import read_relion_particles
from manyviews.operators.contrast_transfer import ctf_values
from manyviews.operators.fourier_points import extract, half_plane
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.images.fourier_resample import regrid_volume, working_box
from manyviews.particles.images.load import table_optics
from manyviews.particles.images.random_start import power_scale
from manyviews.particles.sagd.importance import PoseDraw, draw_poses, sampled_marginal
from manyviews.particles.sagd.lattice import PoseLattice
from manyviews.particles.sagd.marginal import Marginal, marginal, relative_error
from manyviews.particles.sagd.memory import PoseMemory, SparseRows
from manyviews.particles.sagd.sagd import Sagd, SagdOptions

RESULT = Path(__file__).parent / "results" / "importance_sampling.json"
SETTLED = 5000
SCALES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
AGES = (100, 200, 400, 600, 800, 1000, 1500, 2000, 5000)
MOST_POINTS = 3e7  # of a lattice that is summed in full
RADII = {64: (5, 7, 10, 13, 16, 20, 24, 28), 128: (7, 10, 14, 19, 25, 32, 39)}


def load(folder: Path, count: int, radius: int) -> FourierImages:
    table = read_relion_particles(folder / "gt.star")
    stack = ParticleImages(table)
    chosen = np.arange(min(count, len(table)))
    pixels = stack.read(chosen)
    box = stack.box
    points = half_plane(radius, box)
    optics = table_optics(table).select(chosen)
    return FourierImages(
        points,
        extract(pixels.astype(np.float32), points).astype(np.complex64),
        ctf_values(optics, points, box, stack.pixel_size).numpy(),
        np.full((1, radius + 1), float(box**2), np.float32),  # these images have noise of deviation 1
        np.zeros(len(chosen), np.int32),
        box,
        stack.pixel_size,
        radius,
    )


def remembered(found: Marginal, radius: int) -> PoseMemory:
    rows = [SparseRows.of_dense(part) for part in (found.direction, found.in_plane, found.shift)]
    return PoseMemory(radius, SETTLED, (rows[0], rows[1], rows[2]))


def drawn(
    memory: PoseMemory, old: PoseLattice, new: PoseLattice, scale: float, seed: int, *, even: bool = True
) -> list[PoseDraw]:
    return [
        draw_poses(memory, image, old, new, scale, np.random.default_rng([seed, image]), systematic=even)
        for image in range(len(memory.factors[0]))
    ]


def sizes(draws: Sequence[PoseDraw]) -> dict[str, object]:
    parts = [np.mean([len(d.factors[f].indices) for d in draws]) for f in range(3)]
    return {
        "points_of_an_image": round(float(np.mean([d.size for d in draws]))),
        "directions_angles_shifts": [round(float(part), 1) for part in parts],
    }


def errors(estimate: NDArray[np.float64], exact: NDArray[np.float64]) -> dict[str, float]:
    difference = estimate - exact
    return {
        "relative_error": round(relative_error(estimate, exact), 6),
        "rms_nats": round(float(np.sqrt(np.mean(difference**2))), 4),
        "mean_nats": round(float(difference.mean()), 4),
        "worst_nats": round(float(np.abs(difference).max()), 3),
    }


def part_of(lattice: PoseLattice, directions: int) -> PoseLattice:
    """Some of the directions, for timing."""
    chosen = np.linspace(0, lattice.shape[0] - 1, min(directions, lattice.shape[0])).astype(int)
    return replace(
        lattice, directions=lattice.directions[chosen], log_direction=lattice.log_direction[chosen]
    )


def full_seconds(images: FourierImages, volume: torch.Tensor, lattice: PoseLattice) -> float:
    """Seconds an image for value and gradient of the full sum, from a part of it that fills 0.4 GB."""
    directions = max(1, int(1e8 / len(images) / (lattice.size / lattice.shape[0])))
    some = images.select(slice(0, max(1, min(len(images), int(1e8 / (lattice.size / lattice.shape[0]))))))
    part = part_of(lattice, directions)
    marginal(some, volume, part_of(lattice, 1))
    start = time.process_time()
    marginal(some, volume, part)
    return (time.process_time() - start) * lattice.size / part.size / len(some)


def climb(sagd: Sagd, truth: torch.Tensor) -> tuple[list[dict[str, Any]], dict[int, PoseMemory]]:
    images, rows = sagd.images, []
    memory: PoseMemory | None = None
    memories: dict[int, PoseMemory] = {}
    for radius in RADII[images.box]:
        low, lattice = images.crop(radius), sagd.lattice(radius)
        volume = regrid_volume(truth, working_box(radius, images.box))
        if memory is None:
            memory = remembered(marginal(low, volume, lattice, gradient=False), radius)
        for epoch in (1, 2):
            start = time.process_time()
            draws = drawn(memory, sagd.lattice(memory.radius), lattice, 10.0, 10 * radius + epoch)
            chosen = time.process_time() - start
            found = sampled_marginal(low, volume, lattice, draws, iteration=SETTLED)
            seconds = time.process_time() - start
            memory = found.memory
        memories[radius] = memory
        full = full_seconds(low, volume, lattice)
        row: dict[str, Any] = {
            "radius": radius,
            "resolution_A": round(images.box * images.pixel_size / radius, 1),
            "coefficients": len(low.points),
            "lattice": list(lattice.shape),
            "lattice_points": lattice.size,
            **sizes(draws),
            "fraction": float(f"{np.mean([d.size for d in draws]) / lattice.size:.3g}"),
            "cpu_seconds_an_image": round(seconds / len(low), 5),
            "of_these_drawing": round(chosen / len(low), 5),
            "full_cpu_seconds_an_image": round(full, 4),
            "speed_up": round(full * len(low) / seconds, 1),
        }
        if lattice.size <= MOST_POINTS:
            exact = marginal(low, volume, lattice, gradient=False).log_probability
            row |= errors(found.log_probability, exact)
        rows.append(row)
        print(row, flush=True)
    return rows, memories


def against_scale(sagd: Sagd, truth: torch.Tensor, radius: int) -> list[dict[str, Any]]:
    low, lattice = sagd.images.crop(radius), sagd.lattice(radius)
    volume = regrid_volume(truth, working_box(radius, low.box))
    full = marginal(low, volume, lattice, gradient=False)
    exact, memory = full.log_probability, remembered(full, radius)
    rows: list[dict[str, Any]] = []
    for scale, even in itertools.product(SCALES, (False, True)):
        draws = drawn(memory, lattice, lattice, scale, 99, even=even)
        found = sampled_marginal(low, volume, lattice, draws, gradient=False)
        fraction = float(f"{np.mean([d.size for d in draws]) / lattice.size:.3g}")
        rows.append({"radius": radius, "s0": scale, "systematic": even, "fraction": fraction, **sizes(draws)})
        rows[-1] |= errors(found.log_probability, exact)
        print(rows[-1], flush=True)
    return rows


def against_age(sagd: Sagd, memory: PoseMemory) -> list[dict[str, Any]]:
    lattice = sagd.lattice(memory.radius)
    rows = []
    for age in AGES:
        draws = drawn(replace(memory, iteration=age), lattice, lattice, 10.0, 1)
        fraction = float(f"{np.mean([d.size for d in draws]) / lattice.size:.3g}")
        rows.append({"radius": memory.radius, "iteration": age, "fraction": fraction, **sizes(draws)})
    print(rows, flush=True)
    return rows


def study(folder: Path, count: int) -> dict[str, object]:
    import mrcfile

    truth = torch.from_numpy(mrcfile.read(folder / "truth.mrc").copy())
    box = truth.shape[0]
    images = load(folder, count, RADII[box][-1])
    truth = truth * power_scale(truth, images.crop(RADII[box][2]))
    sagd = Sagd(images, SagdOptions())
    frequency, memories = climb(sagd, truth)
    feasible = [radius for radius in memories if sagd.lattice(radius).size <= MOST_POINTS]
    return {
        "box": box,
        "pixel_size_A": images.pixel_size,
        "images": len(images),
        "shift_sigma_A": sagd.options.shift_sigma,
        "against_frequency": frequency,
        "against_s0": against_scale(sagd, truth, feasible[-1]),
        "against_age": [row for radius in list(memories)[::3] for row in against_age(sagd, memories[radius])],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    import numba

    torch.set_num_threads(given.threads)
    numba.set_num_threads(given.threads)
    result = {
        "data": [study(folder, given.images) for folder in given.folders],
        "threads": given.threads,
        "load_average_at_the_end": os.getloadavg()[0],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "numba": numba.__version__,
            "torch": torch.__version__,
        },
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
