"""A run over single particles to make a report of: two starts, a refinement, plausible curves."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from manyviews.io.mrc import write_mrc
from manyviews.particles.start_files import write_starts
from manyviews.runs.folder import RunFolder

BOX, PIXEL_SIZE = 24, 5.0
SHIFT_SIGMA = 3.0
STARTS, OF_A_START, REFINEMENTS = 2, 6, 4


def ball(box=BOX, radius=7.0, stretch=(1.0, 1.0, 1.0)):
    """A smooth ellipsoid (z, y, x)."""
    along = np.arange(box) - box // 2
    grids = np.meshgrid(along, along, along, indexing="ij")
    squared = sum((grid / scale) ** 2 for grid, scale in zip(grids, stretch, strict=True))
    return np.exp(-0.5 * squared / (radius / 2) ** 2).astype(np.float32)


def iterations():
    """The measures of every iteration, as stochastic-em tells them."""
    count = 0
    for start in range(STARTS):
        for index in range(OF_A_START):
            count += 1
            judged = index == OF_A_START - 1
            yield {
                "iteration": count,
                "log_likelihood": 40.0 + 3 * index + start,
                "radius": 3.0 + index // 3,
                "agreed_radius": 3.0,
                "poses_an_image": 0.0 if judged else 5000.0,
                "starts_done": float(start + judged),
            }
    for index in range(REFINEMENTS):
        count += 1
        yield {
            "iteration": count,
            "log_likelihood": 80.0 + index,
            "radius": 6.0 + index,
            "agreed_radius": 5.0 + index,
            "poses_an_image": 1200.0,
            "starts_done": float(STARTS),
        }


def write_tables(folder: Path):
    generator = np.random.default_rng(3)
    heights, longitudes = (np.arange(18) + 0.5) / 9 - 1, -175 + 10.0 * np.arange(36)
    counts = generator.poisson(3, (18, 36))
    rows = [
        f"{z:.5f},{x:.3f},{counts[i, j]}" for i, z in enumerate(heights) for j, x in enumerate(longitudes)
    ]
    (folder / "directions.csv").write_text("\n".join(["z,longitude_degrees,particles", *rows]) + "\n")
    frequency = np.arange(10) / (BOX * PIXEL_SIZE)
    for name, middle in (("fsc.csv", 0.05), ("fsc_reference.csv", 0.06)):
        values = 1 / (1 + np.exp((frequency - middle) / 0.004))
        lines = [f"{f:.8f},{c:.6f}" for f, c in zip(frequency, values, strict=True)]
        (folder / name).write_text("\n".join(["frequency_per_angstrom,fsc", *lines]) + "\n")
    edges = np.linspace(0, 8, 21)
    lines = [f"{a},{b},{int(50 * np.exp(-a))}" for a, b in pairwise(edges)]
    (folder / "spread.csv").write_text("\n".join(["from_degrees,to_degrees,particles", *lines]) + "\n")


def write_particle_run(folder: Path, *, method="stochastic-em", independent=False, events=None) -> Path:
    options = {
        "method": method,
        "starts": STARTS,
        "shift_sigma": SHIFT_SIGMA,
        "independent_halves": independent,
    }
    with RunFolder.open(
        folder,
        job="particles abinitio",
        options=options,
        inputs={"particles.star": "sha256:0123"},
        command=["manyviews", "particles", "abinitio", "particles.star", "--out", str(folder)],
    ) as run:
        for measures in iterations() if events is None else events:
            run.event("iteration", **measures)
        run.log("warning: 1 of 1 other random starts came to another structure")
        write_mrc(folder / "volume.mrc", ball(), PIXEL_SIZE, overwrite=True)
        write_tables(folder)
        write_starts(folder, [torch.from_numpy(ball()[::2, ::2, ::2])] * STARTS, [1.5, 3.25], 300.0)
        summary = {
            "particles": 2000,
            "map_voxels": BOX,
            "resolution_fsc0143_of_halves_found_with_one_map_angstrom": 17.25,
            "median_spread_of_angles_degrees": 1.5,
            "wall_seconds": 113.0,
            "peak_memory_bytes": 649641984,
        }
        (folder / "summary.json").write_text(json.dumps(summary))
        run.finish(["volume.mrc", "summary.json"])
    return folder
