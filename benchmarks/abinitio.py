"""Ab initio from many seeds: time, resolution against the truth, agreement, and what true poses would give.

``python benchmarks/abinitio.py FOLDER --name NAME [--seeds 10] [-- options of particles abinitio]``

FOLDER has ``truth.mrc`` and ``blind.star`` and ``gt.star`` (of RELION's projections), or ``particles.star`` and
``truth.star`` (of ``manyviews particles simulate``). Every seed is the command that a user would type, in a new
process. The resolution is where the Fourier shell correlation with the truth, after alignment, either hand, both
maps in the largest soft sphere of the box, falls to 0.5. Pairwise correlations are of the maps aligned to the
truth. Writes ``benchmarks/results/abinitio_NAME.json``, run by run, and takes finished runs from there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from manyviews.alignment.map_alignment import aligned_fsc, soft_sphere
from manyviews.geometry.poses import euler_to_matrices
from manyviews.io.mrc import read_mrc
from manyviews.io.particle_images import ParticleImages
from manyviews.io.relion_particles import read_relion_particles
from manyviews.metrics.fsc import fsc
from manyviews.operators.fourier_sums import HALVES
from manyviews.parallel.lanes import LANES
from manyviews.particles.em.maximisation import (
    RealSpaceConstraint,
    add_up,
    as_fourier_sums,
    half_correlation,
    whole_volume,
)
from manyviews.particles.em.pose_samples import PoseSamples
from manyviews.particles.images.load import noise_spectrum, read_fourier_images
from manyviews.particles.options import AbinitioOptions
from manyviews.particles.plan import resolve_plan

RESULTS = Path(__file__).parent / "results"


def star_files(folder: Path) -> tuple[Path, Path]:
    """Without and with poses."""
    if (folder / "blind.star").exists():
        return folder / "blind.star", folder / "gt.star"
    return folder / "particles.star", folder / "truth.star"


def run_seed(folder: Path, out: Path, seed: int, options: list[str]) -> dict[str, Any]:
    """One command line; children's CPU seconds are of this call alone."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    command = [
        str(Path(sys.executable).with_name("manyviews")), "particles", "abinitio", str(star_files(folder)[0]),
        "--out", str(out), "--overwrite", "--quiet", "--seed", str(seed), *options,
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    summary = json.loads((out / "summary.json").read_text())
    return {"seed": seed, "wall_seconds": round(wall, 1), "cpu_seconds": round(cpu, 1),
            "load_average": round(os.getloadavg()[0], 1), "starts": summary.get("log_likelihood_of_the_starts")}  # fmt: skip


def true_pose_resolution(folder: Path, diameter: float | None) -> dict[str, float]:
    """What the same M step, mask and positivity make of the true poses."""
    table = read_relion_particles(star_files(folder)[1])
    box, pixel_size = ParticleImages(table).box, table.pixel_size
    settings = resolve_plan(AbinitioOptions(diameter=diameter), len(table), box, pixel_size)
    assert table.angles is not None
    assert table.shifts is not None
    numbers = np.arange(len(table))
    images, spectra, counts = read_fourier_images(
        table, numbers, radius=settings.radius, diameter=settings.diameter, threads=2
    )
    images.noise_variance[:] = noise_spectrum(spectra, counts, box)
    samples = PoseSamples(
        numbers,
        euler_to_matrices(table.angles).astype(np.float32),
        (table.shifts / pixel_size).astype(np.float32),
        np.ones(len(table), np.float32),
    )
    lane, alone = numbers % LANES, np.eye(3)[None]
    halves = (add_up(images, samples, lane, half, settings.radius, alone) for half in range(HALVES))
    sums = as_fourier_sums(halves, settings.radius, 1.0)
    truth, _ = read_mrc(folder / "truth.mrc")
    found = {}
    for name, positive in (("true poses", False), ("true poses, not negative", True)):
        shape = RealSpaceConstraint.sphere(box, settings.diameter / (box * pixel_size), positive)
        volume = whole_volume(sums, half_correlation(sums, shape), shape).numpy()
        curve = fsc(volume, truth, pixel_size, mask=soft_sphere(box, box / 2))
        found[name] = round(curve.resolution(0.5), 2)
    return found


def pairwise(maps: list[np.ndarray[Any, Any]], pixel_size: float) -> dict[str, Any]:
    """Mean and spread of the correlations of all pairs, by shell, and where their mean falls to 0.5."""
    box = len(maps[0])
    mask = soft_sphere(box, box / 2)
    curves = [fsc(a, b, pixel_size, mask=mask) for a, b in combinations(maps, 2)]
    table = np.array([curve.correlation for curve in curves])
    limits = [curve.resolution(0.5) for curve in curves]
    return {
        "pairs": len(curves),
        "resolution_0.5_mean": round(float(np.mean(limits)), 2),
        "resolution_0.5_spread": round(float(np.std(limits)), 2),
        "resolution_0.5_worst": round(float(np.max(limits)), 2),
        "mean": np.round(table.mean(0), 4).tolist(),
        "spread": np.round(table.std(0), 4).tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="run seeds again that are in the file")
    parser.add_argument("options", nargs="*", help="options of particles abinitio, after --")
    given = parser.parse_args()
    result = RESULTS / f"abinitio_{given.name}.json"
    data: dict[str, Any] = json.loads(result.read_text()) if result.exists() else {"runs": []}
    truth, header = read_mrc(given.folder / "truth.mrc")
    assert header.pixel_size is not None
    pixel_size = float(header.pixel_size[0])
    diameter = None
    if "--diameter" in given.options:
        diameter = float(given.options[given.options.index("--diameter") + 1])
    data |= {
        "what": __doc__.splitlines()[0],
        "options": given.options,
        "particles": len(read_relion_particles(star_files(given.folder)[1])),
        "box": len(truth),
        "pixel_size": pixel_size,
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(),
                    "torch": torch.__version__, "python": platform.python_version()},
        "limits": true_pose_resolution(given.folder, diameter),
    }  # fmt: skip
    print(data["limits"], flush=True)
    maps: list[np.ndarray[Any, Any]] = []
    with tempfile.TemporaryDirectory(dir=given.folder) as scratch:
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            known = [run for run in data["runs"] if run["seed"] == seed]
            if known and not given.again:
                continue
            out = Path(scratch) / f"seed{seed}"
            run = run_seed(given.folder, out, seed, given.options)
            curve, alignment = aligned_fsc(read_mrc(out / "volume.mrc")[0], truth, pixel_size)
            maps.append(alignment.volume)
            run |= {
                "resolution_0.5": round(curve.resolution(0.5), 2),
                "mirrored": alignment.mirrored,
                "correlation": round(alignment.correlation, 4),
            }
            data["runs"] = [*(r for r in data["runs"] if r["seed"] != seed), run]
            data["runs"].sort(key=lambda r: r["seed"])
            print(run, flush=True)
            if len(maps) > 1:
                data["agreement"] = pairwise(maps, pixel_size)
            result.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
