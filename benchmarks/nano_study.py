"""The paper's synthetic study: a specimen that deforms while it is scanned, by several ways, beside the oracle.

``python benchmarks/nano_study.py [--size 64] [--percent 8 12] [--rotations 1 2 4] [--seeds 3] [--kinds object flow]
[--kept move mass] [--ways pcg pcgtv of oftv direct moving movingtv] [--name NAME]``

Tubes, deforming as 1 - exp(-3 t), by so many percent of the side in the end. *object*: the specimen deforms in three
dimensions, which no flow of projections describes in full; *flow*: projections deform by one smooth flow of the
detector. *move* keeps grey levels, *mass* what is in the specimen. Poisson noise and a slow background in each view. The
oracle (oracletv) is pcg (pcgtv) on projections of the same specimen at rest with the same noise.

Errors are of volumes, relative, after a smooth map of the whole is taken out (splines of 2 cells a side): no projection
tells a map that stays for the whole scan. Compared is with the specimen at the mean of its deformation, the oracle with that at rest. ``resolution`` is
where the correlation with the truth falls to 0.5, in pixels. ``closed``: the share of what lies between pcg and oracle, or pcgtv and oracletv.

Writes ``benchmarks/results/nano_study_NAME.json`` after each case, and ``.md``; cases that are there are not done again.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.metrics.fsc import fsc
from manyviews.nano.motion.reconstruct import MovingScan
from manyviews.nano.motion.registration import register_smoothly
from manyviews.nano.simulate_options import SimulateOptions
from manyviews.nano.simulated_scan import SimulatedScan
from nano_study_ways import WAYS, pcg, pcgtv

RESULTS = Path(__file__).parent / "results"
Float32 = NDArray[np.float32]
Record = dict[str, Any]
VIEWS_A_PIXEL = 1.5  # 384 views of 256 pixels
PHOTONS, BACKGROUND = 20_000.0, 0.02


def simulated(case: Record) -> tuple[MovingScan, MovingScan, Float32, Float32]:
    """The scan, the oracle's, and the truth of each."""
    options = SimulateOptions(
        size=(case["size"],), views=round(VIEWS_A_PIXEL * case["size"]), rotations=case["rotations"],
        deformation=case["kind"], deformation_percent=case["percent"], warp=case["kept"], seed=case["seed"],
        photons=PHOTONS, background=BACKGROUND,
    )  # fmt: skip
    scan = SimulatedScan(options)
    moved, still = [], []
    for view in scan.views():
        moved.append(scan.measured(view))
        at_rest = type(view)(view.number, view.still, view.still, view.flow)
        still.append(scan.measured(at_rest))
    truth = np.stack(list(scan.density(0.0 if scan.has_flow else float(scan.growth.mean()))))

    def made(images: list[NDArray[np.generic]]) -> MovingScan:
        logs = -np.log(scan.detector.transmission(np.stack(images)))
        return MovingScan(np.asarray(logs, np.float32), scan.theta_degrees, scan.center)

    return made(moved), made(still), truth, np.stack(list(scan.density()))


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


def one_case(case: Record, ways: list[str]) -> Record:
    scan, oracle, truth, at_rest = simulated(case)
    mass = case["kept"] == "mass"
    found: Record = {}
    for name, way in (("oracle", pcg), ("oracletv", pcgtv)):
        began = time.process_time()
        volume = way(oracle, mass)
        found[name] = judged(volume, at_rest, time.process_time() - began, mass)
    for name in ways:
        began = time.process_time()
        volume = WAYS[name](scan, mass)
        found[name] = judged(volume, truth, time.process_time() - began, mass)
        print(case, name, found[name]["error"], found[name]["cpu seconds"], flush=True)
    return {"case": case, "ways": found}


def closed(row: Record, way: str) -> float:
    """The share of the gap between pcg and oracle, in percent; ways with total variation among themselves."""
    errors: dict[str, float] = {name: result["error"] for name, result in row["ways"].items()}
    end = "tv" if way.endswith("tv") else ""
    worst, best = errors["pcg" + end], errors["oracle" + end]
    return 100.0 * (worst - errors[way]) / (worst - best)


def page(record: Record) -> str:
    """The tables, from what was stored."""
    ways = [
        "oracle",
        "oracletv",
        *(name for name in WAYS if any(name in row["ways"] for row in record["rows"])),
    ]
    head = ["deforms", "keeps", "pixels", "percent", "rotations", "seed", *ways]
    tables = []
    for title, shown in (
        (
            "Relative error of the volume, the gauge taken out",
            lambda row, way: f"{row['ways'][way]['error']:.3f}",
        ),
        ("Where the correlation with the truth falls to 0.5, pixels", _resolution),
        ("Share of the gap between pcg and oracle that is closed, percent", _closed),
        ("CPU seconds, on a busy machine", lambda row, way: f"{row['ways'][way]['cpu seconds']:.0f}"),
    ):
        lines = [
            f"## {title}",
            "",
            "| " + " | ".join(head) + " |",
            "| " + " | ".join("---" for _ in head) + " |",
        ]
        for row in record["rows"]:
            case = row["case"]
            cells = [
                case["kind"],
                case["kept"],
                *(f"{case[name]:g}" for name in ("size", "percent", "rotations", "seed")),
            ]
            cells += [shown(row, way) if way in row["ways"] else "" for way in ways]
            lines.append("| " + " | ".join(cells) + " |")
        tables.append("\n".join(lines))
    return "# A specimen that deforms while it is scanned\n\n" + "\n\n".join(tables) + "\n"


def _resolution(row: Record, way: str) -> str:
    found = row["ways"][way]["resolution"]
    return "none" if found is None else f"{found:.1f}"


def _closed(row: Record, way: str) -> str:
    return "" if "pcg" not in row["ways"] or "pcgtv" not in row["ways"] else f"{closed(row, way):.0f}"


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
    parser.add_argument("--ways", nargs="+", default=list(WAYS))
    parser.add_argument("--name", default="64")
    args = parser.parse_args()
    path = RESULTS / f"nano_study_{args.name}.json"
    machine = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
    record: Record = {"rows": [], "machine": machine}
    if path.exists():
        record = json.loads(path.read_text(encoding="utf-8"))
    known = [row["case"] for row in record["rows"]]
    for case in cases(args):
        if case in known:
            continue
        record["rows"].append(one_case(case, args.ways))
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        path.with_suffix(".md").write_text(page(record), encoding="utf-8")


if __name__ == "__main__":
    main()
