"""A real series by every method: ``python benchmarks/haadf.py``.

The HAADF series L2083-K-4-1 of the openNCEM data sets, with the shifts published beside it, through the
command line; then NCC of reprojections with and without the shifts, and pictures. Writes
``benchmarks/results/haadf.json``, ``haadf.md`` and the figures of ``docs/haadf.md``.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.io.mrc import read_mrc
from manyviews.tilt.options import METHODS

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data" / "tilt" / "openncem-haadf"
RESULTS = ROOT / "benchmarks" / "results"
IMAGES = ROOT / "docs" / "images"
STACK, SHIFTS = "L2083-K-4-1_haadf.mrc", "TomVizAlignments.json:3-18"
THICKNESSES = (64, 96, 128, 160)
THICKNESS = 128
POSITIVE = "consensus, >= 0, not normalised"
NORMALISATIONS = ("none", "background", "statistics")

Figures = dict[str, Any]


def reconstruct(data: Path, out: Path, *options: str, shifts: bool = True) -> Figures:
    """One run of the command, and the figures it left."""
    command = [sys.executable, "-m", "manyviews.cli", "tilt", "reconstruct", str(data / STACK), *options]
    command += ["--shifts", str(data / SHIFTS)] if shifts else []
    command += ["--axis-angle", "0", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    summary = json.loads((out / "summary.json").read_text())
    with open(out / "ncc.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    found = {
        "mean NCC": summary["mean_ncc_of_reprojections"],
        "lowest NCC": summary["lowest_ncc_of_reprojections"],
        "wall seconds": summary["wall_seconds"],
        "tilt": [float(row["tilt_degrees"]) for row in rows],
        "NCC": [float(row["ncc"]) for row in rows],
    }
    print(f"{out.name:34s} NCC mean {found['mean NCC']:.4f} lowest {found['lowest NCC']:.4f}", flush=True)
    return found


def study(data: Path, work: Path, threads: int) -> tuple[dict[str, Figures], dict[str, NDArray[np.float32]]]:
    """All runs by name, and the volumes of the methods."""
    common = ("--threads", str(threads))
    runs: dict[str, Figures] = {}
    for thickness in THICKNESSES:
        for normalise in NORMALISATIONS:
            options = ("--thickness", str(thickness), "--normalise", normalise, *common)
            name = f"cg-{thickness}-{normalise}"
            runs[name] = reconstruct(data, work / name, *options)
    volumes: dict[str, NDArray[np.float32]] = {}
    best = ("--thickness", str(THICKNESS), "--normalise", "background", *common)
    for method in METHODS:
        for aligned in (True, False):
            name = method if aligned else f"{method}, no shifts"
            runs[name] = reconstruct(
                data, work / name.replace(", ", "-"), *best, "--method", method, shifts=aligned
            )
        volumes[method] = read_mrc(work / method / "volume.mrc")[0]
    # Grey levels as they are: subtracting a background would make half of the specimen negative.
    name, plain = POSITIVE, ("--thickness", str(THICKNESS), *common)
    runs[name] = reconstruct(data, work / "non-negative", *plain, "--method", "consensus", "--non-negative")
    volumes[name] = read_mrc(work / "non-negative" / "volume.mrc")[0]
    return runs, volumes


def tables(runs: dict[str, Figures]) -> str:
    lines = [
        "| thickness (pixels) | " + " | ".join(f"{name}: mean (lowest)" for name in NORMALISATIONS) + " |"
    ]
    lines.append("|---" * (1 + len(NORMALISATIONS)) + "|")
    for thickness in THICKNESSES:
        found = [runs[f"cg-{thickness}-{name}"] for name in NORMALISATIONS]
        cells = [f"{run['mean NCC']:.4f} ({run['lowest NCC']:.4f})" for run in found]
        lines.append(f"| {thickness} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "| method | mean NCC | lowest NCC | mean without shifts | lowest without shifts | seconds |",
    ]
    lines.append("|---|---|---|---|---|---|")
    for name in (method for method in (*METHODS, POSITIVE) if method in runs):
        run, other = runs[name], runs.get(f"{name}, no shifts")
        without = [f"{other[key]:.4f}" if other else "" for key in ("mean NCC", "lowest NCC")]
        cells = [f"{run['mean NCC']:.4f}", f"{run['lowest NCC']:.4f}", *without, f"{run['wall seconds']:.0f}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw_correlations(runs: dict[str, Figures], path: Path) -> None:
    """NCC of reprojections against tilt, with and without the shifts."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    for number, method in enumerate(method for method in METHODS if method in runs):
        for name, style in ((method, "-"), (f"{method}, no shifts", ":")):
            axes.plot(
                runs[name]["tilt"], runs[name]["NCC"], style, color=f"C{number}", marker=".", label=name
            )
    axes.set(xlabel="tilt (degrees)", ylabel="NCC of reprojections")
    axes.grid(color="0.92")
    figure.legend(loc="outside right center", fontsize=8, frameon=False)
    figure.savefig(path, dpi=80)


def draw_slices(volumes: dict[str, NDArray[np.float32]], path: Path) -> None:
    """Central slices across z and across y, first row at the bottom as microscopes show it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    panels = figure.subplots(2, 4).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, (name, volume) in zip(panels, volumes.items(), strict=False):
        depth, height, width = volume.shape
        face, side = volume[depth // 2], volume[:, height // 2]
        low, high = np.percentile(face, (1.0, 99.7))
        tile = np.concatenate([side, np.full((3, width), high, dtype=np.float32), face])
        axes.imshow(tile, cmap="gray", vmin=low, vmax=high, origin="lower", interpolation="bicubic")
        axes.set_title(name, fontsize=11)
    figure.savefig(path, dpi=54)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the series")
    parser.add_argument("--work", type=Path, help="folder for the runs; left out: a temporary one")
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()
    if not (given.data / STACK).exists():
        raise SystemExit(f"{given.data / STACK} is not there; give its folder by --data")
    with tempfile.TemporaryDirectory() as temporary:
        runs, volumes = study(given.data, given.work or Path(temporary), given.threads)
    IMAGES.mkdir(exist_ok=True)
    rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(run)}" for name, run in runs.items())
    (RESULTS / "haadf.json").write_text("{\n" + rows + "\n}\n")
    (RESULTS / "haadf.md").write_text(tables(runs))
    draw_correlations(runs, IMAGES / "haadf-ncc.png")
    draw_slices(volumes, IMAGES / "haadf-slices.png")


if __name__ == "__main__":
    main()
