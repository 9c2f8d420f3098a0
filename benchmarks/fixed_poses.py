"""A map from 2,000 images in known poses, beside relion_reconstruct: ``python benchmarks/fixed_poses.py FOLDER``.

FOLDER has ``gt.star`` (true poses), ``noisy.mrcs`` and ``truth.mrc``: 1AON in 64 pixels of 4 angstrom, projected
by ``relion_project --ctf``, signal-to-noise ratio 0.1. Both programs are started afresh and take turns; the wall
time is that of the whole command, reading and writing included. RELION's is left out where it is not installed.
Writes ``benchmarks/results/fixed_poses.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "fixed_poses.json"
TURNS = 5


def reconstruct_once(star: Path, output: Path, diameter: float | None, threads: int) -> None:
    """What relion_reconstruct does: read, reconstruct, write; no report, no record."""
    from dataclasses import replace

    import numba
    import numpy as np
    import torch

    from manyviews.io.particle_images import ParticleImages
    from manyviews.io.relion_particles import read_relion_particles
    from manyviews.particles.images.load import noise_spectrum, read_fourier_images
    from manyviews.particles.known_poses import (
        reconstruct_as_planned,
        resolve_reconstruction,
        write_reconstruction,
    )
    from manyviews.particles.options import ReconstructOptions

    torch.set_num_threads(threads)
    numba.set_num_threads(threads)
    table = read_relion_particles(star)
    plan = resolve_reconstruction(ReconstructOptions(diameter=diameter), table, ParticleImages(table).box)
    images, spectra, counts = read_fourier_images(
        table, np.arange(len(table)), radius=plan.radius, diameter=plan.diameter, threads=threads
    )
    images = replace(images, noise_variance=noise_spectrum(spectra, counts, plan.box))
    output.mkdir(exist_ok=True)
    write_reconstruction(output, plan, reconstruct_as_planned(images, plan))


def timed(command: list[str], folder: Path) -> dict[str, float]:
    """Wall and CPU seconds of a command."""
    before, start = os.times(), time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return {"wall_s": round(wall, 2), "cpu_s": round(spent, 2)}


def resolution(path: Path, truth: Path) -> dict[str, float]:
    import mrcfile

    from manyviews.metrics.fsc import fsc

    volume, reference = mrcfile.read(path), mrcfile.read(truth)
    with mrcfile.open(truth, header_only=True) as opened:
        curve = fsc(volume, reference, float(opened.voxel_size.x))
    at = {f"fsc_at_{1 / curve.frequency[shell]:.1f}_A": curve.correlation[shell] for shell in (12, 16, 20)}
    found = {"fsc_half_A": curve.resolution(0.5), "fsc_0.143_A": curve.resolution(0.143), **at}
    return {name: round(float(value), 3) for name, value in found.items()}


def commands(folder: Path, scratch: Path, threads: int) -> dict[str, tuple[list[str], Path]]:
    """Command and output of every contestant."""
    found = {}
    for name, diameter in (("ours", ()), ("ours, particle of 217 A", ("--diameter", "217"))):
        output = scratch / name.replace(" ", "_")
        words = [sys.executable, str(Path(__file__).resolve()), str(folder), "--once", str(output), *diameter]
        found[name] = ([*words, "--threads", str(threads)], output / "volume.mrc")
    output = scratch / "command"
    words = [str(Path(sys.executable).with_name("manyviews")), "particles", "reconstruct", "gt.star", "--out",
             str(output), "--overwrite", "--quiet", "--threads", str(threads)]  # fmt: skip
    found["ours, the whole command with its report"] = (words, output / "volume.mrc")
    relion = shutil.which("relion_reconstruct")
    if relion:
        output = scratch / "relion.mrc"
        words = [relion, "--i", "gt.star", "--o", str(output), "--ctf", "--angpix", "4.0", "--pad", "2"]
        found["relion_reconstruct"] = (words, output)  # it has one thread
    return found


def compare(folder: Path, threads: int) -> dict[str, dict[str, object]]:
    with tempfile.TemporaryDirectory() as scratch:
        contestants = commands(folder, Path(scratch), threads)
        times: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
        for turn in range(TURNS + 1):
            for name, (command, _) in contestants.items():
                spent = timed(command, folder)
                if turn:  # the first fills caches, ours of compiled kernels too
                    times[name].append(spent)
                print(turn, name, spent)
        rows = {}
        for name, (_, output) in contestants.items():
            rows[name] = {
                "median_wall_s": statistics.median(spent["wall_s"] for spent in times[name]),
                "median_cpu_s": statistics.median(spent["cpu_s"] for spent in times[name]),
                "turns": times[name],
                **resolution(output, folder / "truth.mrc"),
            }
            print(name, {key: value for key, value in rows[name].items() if key != "turns"})
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--once", type=Path, metavar="OUTPUT", help="only reconstruct, once")
    parser.add_argument("--diameter", type=float)
    given = parser.parse_args()
    folder = given.folder.resolve()
    if given.once:
        reconstruct_once(folder / "gt.star", given.once, given.diameter, given.threads)
        return
    load_before = os.getloadavg()[0]
    rows = compare(folder, given.threads)

    import numba
    import numpy as np
    import torch

    result = {
        "results": rows,
        "threads": given.threads,
        "load_average_before": round(load_before, 2),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "numba": numba.__version__,
            "torch": torch.__version__,
            "relion": "3.1.3",
        },
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
