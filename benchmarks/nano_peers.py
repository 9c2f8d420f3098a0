"""Whole views that drift and jump about: how near do we and others come to the true shifts, and in what time?

``python benchmarks/nano_peers.py --work FOLDER [--mumott PYTHON] [--nabu PYTHON] [--columns 32] [--rows 24] [--views 48]``

Scans of ``manyviews nano simulate``, 10,000 photons a pixel, one full turn of an even number of views: ``drift``, smooth,
up to 3 pixels; ``jitter``, 1 pixel standard deviation. Ours is the command ``manyviews nano reconstruct --method shifts``, its CPU
seconds with everything that the command does; mumott 2.3's two alignments by reprojection at their defaults (twenty rounds of
twenty iterations); nabu's polynomials of the motion between opposite views, for drift only. All get our minus
logarithms. Peers run with Pythons of their own.

The error is the root mean square of what is left of the shifts, along both axes, less what moves the specimen as a whole
and where the axis is taken to be, a number that each program finds or is given. Directions
of a peer's shifts are taken as fits best. Writes ``benchmarks/results/nano_peers.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.io.tables import read_numbers
from manyviews.nano.results import read_shifts
from manyviews.nano.scan.options import ScanOptions
from manyviews.nano.scan.prepare import prepare
from manyviews.nano.scan.scan import open_scan

Float64 = NDArray[np.float64]

RESULTS = Path(__file__).parent / "results"
PEERS = Path(__file__).parent / "peers"
MOTIONS = {"drift": ("--drift", "3"), "jitter": ("--jitter", "1")}
TRUE_SHIFTS = ("shift_x_pixels", "shift_z_pixels")


def command(*words: str) -> tuple[float, float]:
    """CPU and wall seconds of a program."""
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NABU_DISABLE_MATPLOTLIB": "1"}
    subprocess.run(words, check=True, env=environment, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.monotonic() - wall


def left(shifts: Float64, theta_degrees: Float64) -> float:
    theta = np.radians(theta_degrees)
    still = np.ones(len(theta))
    seen = (np.stack([np.cos(theta), np.sin(theta), still], axis=1), still[:, None])
    rest = [
        own - model @ np.linalg.lstsq(model, own, rcond=None)[0]
        for own, model in zip(shifts.T, seen, strict=True)
    ]
    return float(np.sqrt(np.sum(np.square(rest), axis=0).mean()))


def error(found: Float64, truth: Float64, theta_degrees: Float64) -> float:
    """Of the best of all directions of both axes."""
    signs = [np.array(pair) for pair in product((1, -1), repeat=2)]
    return min(left(found * sign - truth, theta_degrees) for sign in signs)


def case(kind: str, given: argparse.Namespace) -> list[dict[str, Any]]:
    folder = given.work / kind
    words = [sys.executable, "-m", "manyviews.cli", "nano"]
    command(*words, "simulate", "--out", str(folder), "--overwrite", "--deformation", "none", "--rotations", "1",
            "--size", str(given.columns), str(given.rows), "--views", str(given.views), "--seed", "1", *MOTIONS[kind])  # fmt: skip
    scan = folder / "scan.h5"
    options = ScanOptions(scan=scan)
    prepared = prepare(open_scan(scan, options), options, None, threads=1)
    theta = prepared.theta_degrees
    truth = read_numbers(folder / "truth_views.csv", TRUE_SHIFTS)
    rows = [{"motion": kind, "program": "none", "error_pixels": left(truth, theta)}]

    run = given.work / f"{kind}_run"
    cpu, wall = command(*words, "reconstruct", str(scan), "--method", "shifts", "--no-halves", "--threads", "1",
                        "--out", str(run), "--overwrite", "--quiet")  # fmt: skip
    found = read_shifts(run / "shifts.csv")
    assert found is not None
    rows.append({"motion": kind, "program": "manyviews", "error_pixels": error(found[1], truth, theta),
                 "cpu_s": cpu, "wall_s": wall})  # fmt: skip
    print(rows, flush=True)

    file = given.work / f"{kind}.npz"
    np.savez(file, projections=prepared.projections, theta_degrees=theta, center=prepared.center)
    peers = [
        (f"mumott {way}", given.mumott, "mumott_align.py", [way])
        for way in ("optical_flow", "phase_matching")
    ]
    if kind == "drift":
        peers.append(("nabu", given.nabu, "nabu_motion.py", []))
    for name, python, script, more in peers:
        if python is None:
            continue
        answer = given.work / f"{kind}_{name.replace(' ', '_')}.npz"
        command(str(python), str(PEERS / script), str(file), str(answer), *more)
        told = np.load(answer)
        rows.append({"motion": kind, "program": name, "error_pixels": error(told["shifts"], truth, theta),
                     "cpu_s": float(told["cpu"]), "wall_s": float(told["wall"])})  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| motion | program | error, pixels rms | CPU s |", "| " + "--- | " * 4]
    for one in rows:
        cpu = f"{one['cpu_s']:.1f}" if "cpu_s" in one else ""
        lines.append(f"| {one['motion']} | {one['program']} | {one['error_pixels']:.3f} | {cpu} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--mumott", type=Path)
    parser.add_argument("--nabu", type=Path)
    parser.add_argument("--columns", type=int, default=32)
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--views", type=int, default=48)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    rows = [row for kind in MOTIONS for row in case(kind, given)]
    what = {
        "what": __doc__.splitlines()[0],
        "columns": given.columns,
        "rows_of_detector": given.rows,
        "views": given.views,
        "machine": {"processor": platform.machine(), "python": platform.python_version()},
        "rows": rows,
    }
    (RESULTS / "nano_peers.json").write_text(json.dumps(what, indent=1) + "\n")
    (RESULTS / "nano_peers.md").write_text(table(rows))


if __name__ == "__main__":
    main()
