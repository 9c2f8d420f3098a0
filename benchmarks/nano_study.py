"""The paper's synthetic study: a specimen that deforms while it is scanned, by the methods of the job, beside the oracle.

``python benchmarks/nano_study.py --work FOLDER [--size 64] [--percent 8 12] [--rotations 1 2 4] [--seeds 3]
[--kinds object flow] [--kept move mass] [--methods pcg pcgtv of-printed oftv-printed of oftv space spacetv] [--name NAME]``

Tubes, deforming as 1 - exp(-3 t), by so many percent of the side in the end. *object*: the specimen deforms in three
dimensions, which no flow of projections describes in full; *flow*: projections deform by one smooth flow of the
detector. *move* keeps grey levels, *mass* what is in the specimen. Poisson noise and a slow background in each view.
Each method is ``nano reconstruct --method METHOD --no-halves``, else as it comes; pcg and pcgtv are not aligned at all
(``--no-prealign``), and the oracle (oracletv) is that on projections of the same specimen at rest with the same noise.

Errors are of volumes, relative, after a smooth map of the whole is taken out (splines of 2 cells a side): no projection
tells a map that stays for the whole scan. Compared is with the specimen at the mean of its deformation, the oracle with
that at rest. ``resolution`` is where the correlation with the truth falls to 0.5, in pixels. ``closed``: the share of
what lies between pcg and oracle, or pcgtv and oracletv.

Writes ``benchmarks/results/nano_study_NAME.json`` after each method of a case, and ``.md``; what is there is not done again.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.metrics.fsc import fsc
from manyviews.nano.motion.registration import register_smoothly
from manyviews.nano.simulate_options import SimulateOptions
from manyviews.nano.simulated_scan import SimulatedScan, View
from nano_runs import reconstructed

RESULTS = Path(__file__).parent / "results"
Float32 = NDArray[np.float32]
Record = dict[str, Any]
VIEWS_A_PIXEL = 1.5  # 384 views of 256 pixels
PHOTONS, BACKGROUND = 20_000.0, 0.02
NOT_ALIGNED = ("pcg", "pcgtv")
METHODS = ("pcg", "pcgtv", "of-printed", "oftv-printed", "of", "oftv", "space", "spacetv", "auto")


@dataclass(frozen=True)
class Scan:
    """Sums along rays ``(view, z, x)``, and the specimen that they are compared with ``(z, y, x)``."""

    projections: Float32
    theta_degrees: NDArray[np.float64]
    center: float
    truth: Float32


def simulated(case: Record) -> tuple[Scan, Scan]:
    """The scan, and the oracle's."""
    options = SimulateOptions(
        size=(case["size"],), views=round(VIEWS_A_PIXEL * case["size"]), rotations=case["rotations"],
        deformation=case["kind"], deformation_percent=case["percent"], warp=case["kept"], seed=case["seed"],
        photons=PHOTONS, background=BACKGROUND,
    )  # fmt: skip
    scan = SimulatedScan(options)
    moved, still = [], []
    for view in scan.views():
        moved.append(_sums(scan, view))
        still.append(_sums(scan, replace(view, image=view.still)))
    truth = np.stack(list(scan.density(0.0 if scan.has_flow else float(scan.growth.mean()))))
    at_rest = np.stack(list(scan.density()))
    return (
        Scan(np.stack(moved), scan.theta_degrees, scan.center, truth),
        Scan(np.stack(still), scan.theta_degrees, scan.center, at_rest),
    )


def _sums(scan: SimulatedScan, view: View) -> Float32:
    return np.asarray(-np.log(scan.detector.transmission(scan.measured(view))), np.float32)


def judged(volume: Float32, truth: Float32, seconds: float, mass: bool) -> Record:
    laid = register_smoothly(volume, truth, mass=mass)
    norm = float(np.linalg.norm(truth))
    curve = fsc(laid, truth, 1.0)
    resolution = curve.resolution(0.5)
    return {
        "error": round(float(np.linalg.norm(laid - truth)) / norm, 4),
        "error as it lies": round(float(np.linalg.norm(volume - truth)) / norm, 4),
        "resolution": round(resolution, 2) if math.isfinite(resolution) else None,
        "fsc": [round(float(value), 3) for value in curve.correlation],
        "cpu seconds": round(seconds, 1),
    }


def add_methods(case: Record, known: Record, args: argparse.Namespace) -> Iterator[None]:
    """What methods that are not among ``known`` come to, one after the other."""
    mass, warp = case["kept"] == "mass", {"warp": case["kept"]}
    tasks = [("oracle", "pcg"), ("oracletv", "pcgtv"), *((method, method) for method in args.methods)]
    tasks = [(name, method) for name, method in tasks if name not in known]
    if not tasks:
        return
    scan, oracle = simulated(case)
    for name, method in tasks:
        given = oracle if name.startswith("oracle") else scan
        kept = {} if method in NOT_ALIGNED else warp
        run = reconstructed(given.projections, given.theta_degrees, given.center, method, args, **kept)
        known[name] = judged(run.volume, given.truth, run.cpu_seconds, mass)
        print(case, name, known[name]["error"], known[name]["cpu seconds"], flush=True)
        yield


def closed(row: Record, method: str) -> float | None:
    """The share of the gap between pcg and oracle, in percent; methods with total variation among themselves."""
    errors: dict[str, float] = {name: result["error"] for name, result in row["methods"].items()}
    end = "tv" if "tv" in method or method == "auto" else ""
    if not {"pcg" + end, "oracle" + end} <= errors.keys():
        return None
    worst, best = errors["pcg" + end], errors["oracle" + end]
    return 100.0 * (worst - errors[method]) / (worst - best)


def page(record: Record) -> str:
    """The tables, from what was stored: mean and standard deviation over seeds."""
    rows = record["rows"]
    methods = [
        "oracle",
        "oracletv",
        *(name for name in METHODS if any(name in row["methods"] for row in rows)),
    ]
    head = ["deforms", "keeps", "pixels", "percent", "rotations", "seeds", *methods]
    shown: dict[str, tuple[str, Callable[[Record, str], float | None]]] = {
        "Relative error of the volume, the gauge taken out": (".3f", lambda row, name: _of(row, name, "error")),
        "Where the correlation with the truth falls to 0.5, pixels":
            (".1f", lambda row, name: _of(row, name, "resolution")),
        "Share of the gap between pcg and oracle that is closed, percent": (".0f", closed),
        "CPU seconds": (".0f", lambda row, name: _of(row, name, "cpu seconds")),
    }  # fmt: skip
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for row in rows:
        case = row["case"]
        groups.setdefault(
            (case["kind"], case["kept"], case["size"], case["percent"], case["rotations"]), []
        ).append(row)
    tables = []
    for title, (pattern, value) in shown.items():
        lines = [
            f"## {title}",
            "",
            "| " + " | ".join(head) + " |",
            "| " + " | ".join("---" for _ in head) + " |",
        ]
        for key, group in groups.items():
            cells = [str(part) if isinstance(part, str) else f"{part:g}" for part in (*key, len(group))]
            cells += [
                _cell([value(row, name) for row in group if name in row["methods"]], pattern)
                for name in methods
            ]
            lines.append("| " + " | ".join(cells) + " |")
        tables.append("\n".join(lines))
    return "# A specimen that deforms while it is scanned\n\n" + "\n\n".join(tables) + "\n"


def _of(row: Record, method: str, name: str) -> float | None:
    found: float | None = row["methods"][method][name]
    return found


def _cell(values: list[float | None], pattern: str) -> str:
    """Mean and standard deviation; "none" where any has none."""
    known = [value for value in values if value is not None]
    if not values or len(known) < len(values):
        return "none" if values else ""
    mean = f"{statistics.fmean(known):{pattern}}"
    return mean if len(known) == 1 else f"{mean} ({statistics.stdev(known):{pattern}})"


def cases(args: argparse.Namespace) -> list[Record]:
    return [
        {
            "kind": kind,
            "kept": kept,
            "size": args.size,
            "percent": percent,
            "rotations": rotations,
            "seed": seed,
        }
        for seed in range(args.seeds)
        for kind in args.kinds
        for kept in args.kept
        for percent in args.percent
        for rotations in args.rotations
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--percent", type=float, nargs="+", default=[8.0, 12.0])
    parser.add_argument("--rotations", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", default=["object", "flow"])
    parser.add_argument("--kept", nargs="+", default=["move", "mass"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--name", default="64")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    path = RESULTS / f"nano_study_{args.name}.json"
    machine = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
    record: Record = {"rows": [], "machine": machine}
    if path.exists():
        record = json.loads(path.read_text(encoding="utf-8"))
    for case in cases(args):
        row = next((row for row in record["rows"] if row["case"] == case), None)
        if row is None:
            row = {"case": case, "methods": {}}
            record["rows"].append(row)
        for _ in add_methods(case, row["methods"], args):
            path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            path.with_suffix(".md").write_text(page(record), encoding="utf-8")


if __name__ == "__main__":
    main()
