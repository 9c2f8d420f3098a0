"""SAGD with three priors, and how much posteriors change from epoch to epoch: the paper's Figs. 13 and 3.

``python benchmarks/sagd_study.py FOLDER --maps MAPS [--seeds 0 1] [--priors uniform exponential car]``

FOLDER has ``gt.star``, ``noisy.mrcs`` and ``truth.mrc`` (of RELION's projections); only ``truth.mrc`` and what the
images look like are used. Images are prepared as ``manyviews particles abinitio`` does. Each run is `Sagd` with its
quick options, from a random start, up to 1/13.3 angstrom.

Between epochs: each time a mini-batch is visited, its direction posteriors (eq. 14) are held against those of its
last visit, ``KL(now || before)`` in nats, mean over images. Memories leave out what is below 1e-6 of an image's
largest mass, so that is the floor of ``before``; ``smoothed`` has both posteriors spread by the kernel of eq. 21
first, at the spacing of the present lattice, so that a step to the neighbouring point counts little. Where
the radius rose between two visits, a direction takes the mass of the nearest one of the old lattice, shared among
those that have the same nearest; such visits are marked, and the table and the curves leave them out.

Writes ``benchmarks/results/sagd_study.json`` and ``.png``, run by run; runs in the file are not made again, and MAPS
keeps their maps.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter

from manyviews.alignment.map_alignment import aligned_fsc, soft_sphere
from manyviews.io.mrc import read_mrc
from manyviews.io.relion_particles import read_relion_particles
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.images.load import noise_spectrum, read_fourier_images
from manyviews.particles.sagd.lattice import PoseLattice
from manyviews.particles.sagd.memory import LEAST_MASS, PoseMemory
from manyviews.particles.sagd.priors import PriorName
from manyviews.particles.sagd.sagd import Sagd, SagdOptions
from manyviews.solvers.stochastic_average_gradient import batch_of

RESULT = Path(__file__).parent / "results" / "sagd_study.json"
LAST_FREQUENCY = 0.075
SHIFT_SIGMA = 5.0
FILLED = 0.8
ITERATIONS = 500
MOVED = 2.0  # spacings that a most likely direction must go to count as elsewhere
MEASURES = ("kl", "kl_median", "smoothed_kl", "smoothed_kl_median", "best_elsewhere", "directions_held")
LEAST_SHOWN = 1e-4  # on a logarithmic scale
Floats = NDArray[np.float64]


def load(folder: Path) -> FourierImages:
    """All images of a folder, up to the last radius."""
    table = read_relion_particles(folder / "gt.star")
    truth, _ = read_mrc(folder / "truth.mrc")
    side = len(truth) * table.pixel_size
    images, spectra, counts = read_fourier_images(
        table, np.arange(len(table)), radius=math.floor(LAST_FREQUENCY * side + 1e-9), diameter=FILLED * side
    )
    images.noise_variance[:] = noise_spectrum(spectra, counts, images.box)
    return images


def direction_masses(memory: PoseMemory, lattice: PoseLattice) -> Floats:
    """``(n, D)`` posterior of each image, summing to 1."""
    rows = memory.factors[0]
    dense = np.zeros((len(rows), lattice.shape[0]))
    for number in range(len(rows)):
        columns, values = rows.row(number)
        dense[number, columns] = values
    return np.asarray(dense / dense.sum(1, keepdims=True))


def carried(masses: Floats, old: PoseLattice, new: PoseLattice) -> Floats:
    """The same on another lattice, by nearest direction."""
    cosines = new.directions @ old.directions.T
    nearest = np.argmax(cosines, axis=1)
    sharers = np.bincount(nearest, minlength=old.shape[0])
    found = masses[:, nearest] / sharers[nearest]
    for lost in np.flatnonzero(sharers == 0):  # nearest to none of the new
        found[:, np.argmax(cosines[:, lost])] += masses[:, lost]
    return np.asarray(found / found.sum(1, keepdims=True))


def information(p: NDArray[Any], q: NDArray[Any]) -> NDArray[Any]:
    """Kullback-Leibler divergence ``sum_j p_j log(p_j / q_j)`` of each row, in nats (the paper's Fig. 3).

    Rows are normalised; a zero of q where p is not counts as the smallest normal float32.
    """
    tiny = float(np.finfo(np.float32).tiny)
    first = p / p.sum(axis=1, keepdims=True, dtype=np.float64)
    second = np.maximum(q / q.sum(axis=1, keepdims=True, dtype=np.float64), tiny)
    terms = np.where(first > 0, first * np.log(np.maximum(first, tiny) / second), 0.0)
    return np.asarray(terms.sum(axis=1), dtype=np.float64)


def compare(sagd: Sagd, before: PoseMemory, now: PoseMemory) -> dict[str, Any]:
    """How far the posteriors of a mini-batch went in an epoch."""
    lattice = sagd.lattice(now.radius)
    p, q = direction_masses(now, lattice), direction_masses(before, sagd.lattice(before.radius))
    if before.radius != now.radius:
        q = carried(q, sagd.lattice(before.radius), lattice)
    sharpness = math.log(4.0) / (1.0 - math.cos(lattice.direction_spacing))
    cosines = lattice.directions @ lattice.directions.T
    kernel = np.exp(sharpness * (cosines - 1.0))
    raw = information(p, np.maximum(q, LEAST_MASS * q.max(1, keepdims=True)))
    smoothed = information(p @ kernel, q @ kernel)
    turn = np.arccos(np.clip(cosines[p.argmax(1), q.argmax(1)], -1, 1))
    return {
        "same_radius": before.radius == now.radius,
        "kl": round(float(raw.mean()), 4),
        "kl_median": round(float(np.median(raw)), 4),
        "smoothed_kl": round(float(smoothed.mean()), 4),
        "smoothed_kl_median": round(float(np.median(smoothed)), 4),
        "best_elsewhere": round(float(np.mean(turn > MOVED * lattice.direction_spacing)), 4),
        "directions_held": round(float(np.mean(1.0 / np.sum(p * p, axis=1))), 2),
    }


def run(images: FourierImages, prior: PriorName, seed: int) -> tuple[torch.Tensor, dict[str, Any]]:
    """One reconstruction, watched at every step."""
    options = SagdOptions(
        seed=seed, shift_sigma=SHIFT_SIGMA, last_frequency=LAST_FREQUENCY, prior=prior
    ).quick()
    sagd = Sagd(images, options)
    began = time.process_time()
    state = sagd.init()
    seconds, wall = time.process_time() - began, time.monotonic()
    steps: list[dict[str, Any]] = []
    values: list[float] = []
    for iteration in range(ITERATIONS):
        batch = batch_of(iteration, len(sagd.batches), seed)
        before = state.memories[batch]
        began = time.process_time()
        state = sagd.step(state)
        seconds += time.process_time() - began
        values.append(state.value)
        now = PoseMemory.from_tensors(state.memories[batch])
        step: dict[str, Any] = {
            "iteration": iteration,
            "radius": now.radius,
            "work": float(f"{state.work:.3g}"),
        }
        if before:
            step |= compare(sagd, PoseMemory.from_tensors(before), now)
        steps.append(step)
        if iteration % 50 == 49:
            print(prior.value, seed, f"{seconds:.0f} s", step, flush=True)
    return sagd.final_volume(state), {
        "prior": prior.value,
        "seed": seed,
        "cpu_seconds": round(seconds, 1),
        "wall_seconds": round(time.monotonic() - wall, 1),
        "batches": len(sagd.batches),
        "objective_of_last_epoch": round(sum(values[-len(sagd.batches) :]), 1),
        "epochs": by_epoch(steps, len(sagd.batches)),
    }


def by_epoch(steps: list[dict[str, Any]], batches: int) -> list[dict[str, Any]]:
    """Means over the visits of each epoch, in which the radius does not change."""
    found = []
    for first in range(0, len(steps), batches):
        visits = steps[first : first + batches]
        means = {
            name: float(f"{np.mean([visit[name] for visit in visits]):.4g}")
            for name in ("work", *MEASURES)
            if all(name in visit for visit in visits)
        }
        head = {name: visits[0].get(name) for name in ("radius", "same_radius")}
        found.append({"epoch": first // batches, **head, **means})
    return found


def specimen(truth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where the particle is: the blurred truth above a twentieth of its maximum, and two voxels more."""
    blurred = gaussian_filter(truth, 1.5)
    return np.asarray(binary_dilation(blurred > 0.05 * blurred.max(), iterations=2))


def judge(volume: torch.Tensor, truth: NDArray[np.float32], pixel_size: float) -> tuple[Any, dict[str, Any]]:
    """Resolution, likeness and background of a map."""
    curve, alignment = aligned_fsc(volume.numpy(), truth, pixel_size)
    inside = specimen(truth)
    outside = (soft_sphere(len(truth), len(truth) / 2 - 2) > 0.99) & ~inside
    map_ = alignment.volume
    return map_, {
        "resolution_0.5": round(curve.resolution(0.5), 2),
        "resolution_0.143": round(curve.resolution(0.143), 2),
        "correlation": round(alignment.correlation, 4),
        "mirrored": alignment.mirrored,
        "background_over_inside": round(float(map_[outside].std() / map_[inside].std()), 4),
        "background_mean_over_inside": round(float(map_[outside].mean() / map_[inside].std()), 4),
        "empty_voxels": round(float((volume <= 0).float().mean()), 3),
        "fsc": np.round(curve.correlation, 4).tolist(),
    }


def curve_of(run: dict[str, Any], name: str) -> tuple[list[int], list[float]]:
    """Epochs and values of a measure, without those before which the radius changed."""
    chosen = [epoch for epoch in run["epochs"] if epoch["same_radius"]]
    return [epoch["epoch"] for epoch in chosen], [max(epoch[name], LEAST_SHOWN) for epoch in chosen]


def draw(data: dict[str, Any], maps: Path, truth: NDArray[np.float32], path: Path) -> None:
    """The three priors' slices above, divergences below."""
    from matplotlib.figure import Figure

    first = min(run["seed"] for run in data["runs"])
    chosen = [run for run in data["runs"] if run["seed"] == first]
    panels = {"truth": truth}
    for one in chosen:
        title = f"{one['prior']}: {one['resolution_0.5']} Å, background {one['background_over_inside']:.3f}"
        panels[title] = np.load(maps / f"{one['prior']}{one['seed']}.npy")
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    rows = figure.add_gridspec(2, 1)
    above, below = figure.add_subfigure(rows[0]), figure.add_subfigure(rows[1])
    middle = len(truth) // 2
    for axes, (title, volume) in zip(above.subplots(1, len(panels)), panels.items(), strict=True):
        plane = volume[:, middle]
        axes.imshow(plane, cmap="turbo", vmin=0, vmax=np.percentile(plane, 99.7), origin="lower")
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    labels = {
        "kl": "KL of direction posteriors (nats)",
        "smoothed_kl": "the same, spread by eq. 21",
        "best_elsewhere": "images whose best direction moved",
    }
    colours = {"uniform": "tab:orange", "exponential": "tab:blue", "car": "tab:green"}
    for axes, (name, label) in zip(below.subplots(1, 3), labels.items(), strict=True):
        for one in data["runs"]:
            style = "-" if one["seed"] == first else "--"
            numbers, values = curve_of(one, name)
            label_ = f"{one['prior']}, seed {one['seed']}"
            axes.semilogy(
                numbers, values, style, color=colours[one["prior"]], linewidth=1, marker=".", label=label_
            )
        axes.set_xlabel("epoch", fontsize=8)
        axes.set_title(label, fontsize=9)
        axes.grid(color="0.92")
        axes.tick_params(labelsize=8)
    below.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=7)
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--maps", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--priors", type=PriorName, nargs="+", default=list(PriorName))
    given = parser.parse_args()
    torch.set_num_threads(1)
    import numba

    numba.set_num_threads(1)
    given.maps.mkdir(parents=True, exist_ok=True)
    data: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {"runs": []}
    images = load(given.folder)
    truth, _ = read_mrc(given.folder / "truth.mrc")
    data |= {
        "what": __doc__.splitlines()[0],
        "images": len(images),
        "box": images.box,
        "pixel_size": images.pixel_size,
        "iterations": ITERATIONS,
        "last_frequency": LAST_FREQUENCY,
        "shift_sigma": SHIFT_SIGMA,
        "machine": {
            "processor": platform.machine(), "cores": os.cpu_count(), "threads": 1,
            "torch": torch.__version__, "numba": numba.__version__, "python": platform.python_version(),
        },
    }  # fmt: skip
    for seed in given.seeds:
        for prior in given.priors:
            if any(one["seed"] == seed and one["prior"] == prior for one in data["runs"]):
                continue
            volume, found = run(images, prior, seed)
            aligned, judged = judge(volume, truth, images.pixel_size)
            np.save(given.maps / f"{prior.value}{seed}.npy", aligned)
            found = {**found, **judged, "load_average": round(os.getloadavg()[0], 1)}
            data["runs"].append(found)
            RESULT.write_text(json.dumps(data, indent=1) + "\n")
            print({key: found[key] for key in found if key not in ("epochs", "fsc")}, flush=True)
    draw(data, given.maps, truth, RESULT.with_suffix(".png"))


if __name__ == "__main__":
    main()
