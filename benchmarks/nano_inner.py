"""How many conjugate-gradient steps should the volume get in each outer iteration of `nano reconstruct`?

``python benchmarks/nano_inner.py --work FOLDER [--size 64] [--total 64] [--seeds 3] [--methods of-printed of oftv]``

As figure S1 of Nikitin et al. 2021: 1 to 32 inner steps, and so many outer iterations that there are ``--total`` inner
steps in all, on one level. The specimen of `nano_study`, deforming by 12 % in four turns. Relative error of the volume,
a smooth map taken out, and CPU seconds: a step costs alike, an outer iteration adds the search for flows and, for ours,
two projections.

Writes ``benchmarks/results/nano_inner_NAME.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from pathlib import Path
from typing import Any

import torch

from nano_runs import reconstructed
from nano_study import judged, simulated

RESULTS = Path(__file__).parent / "results"
Record = dict[str, Any]
INNER = (1, 2, 4, 8, 16, 32)
METHODS = ("of-printed", "oftv-printed", "of", "oftv")


def measured(args: argparse.Namespace, seed: int) -> list[Record]:
    case = {
        "kind": "object", "kept": "move", "size": args.size, "percent": 12.0, "rotations": 4, "seed": seed
    }  # fmt: skip
    scan, _ = simulated(case)
    rows = []
    for method in args.methods:
        for inner in INNER:
            run = reconstructed(
                scan.projections, scan.theta_degrees, scan.center, method, args, levels=1,
                inner_iterations=inner, iterations=(args.total // inner,),
            )  # fmt: skip
            found = judged(run.volume, scan.truth, run.cpu_seconds, False)
            rows.append({"seed": seed, "method": method, "inner": inner, **found})
            print(seed, method, inner, found["error"], found["cpu seconds"], flush=True)
    return rows


def page(record: Record) -> str:
    """The table, from what was stored: mean and standard deviation over seeds."""
    rows = record["rows"]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    seeds = len({row["seed"] for row in rows})
    lines = [
        f"# Inner steps, {record['total']} in all: {record['size']}^3 voxels, seeds: {seeds}",
        "",
        "Relative error (standard deviation over seeds) and CPU seconds.",
        "",
        "| inner steps | outer iterations | " + " | ".join(methods) + " |",
        "| --- | --- | " + " | ".join("---" for _ in methods) + " |",
    ]
    for inner in INNER:
        cells = [str(inner), str(record["total"] // inner)]
        for method in methods:
            group = [row for row in rows if (row["method"], row["inner"]) == (method, inner)]
            errors, seconds = ([row[name] for row in group] for name in ("error", "cpu seconds"))
            spread = f" ({statistics.stdev(errors):.3f})" if len(errors) > 1 else ""
            cells.append(f"{statistics.fmean(errors):.3f}{spread}, {statistics.fmean(seconds):.0f} s")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--total", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--name", default="64")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    record: Record = {
        "size": args.size, "total": args.total, "rows": [],
        "machine": {"processor": platform.processor() or platform.machine(), "python": platform.python_version()},
    }  # fmt: skip
    path = RESULTS / f"nano_inner_{args.name}.json"
    for seed in range(args.seeds):
        record["rows"] += measured(args, seed)
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        path.with_suffix(".md").write_text(page(record), encoding="utf-8")


if __name__ == "__main__":
    main()
