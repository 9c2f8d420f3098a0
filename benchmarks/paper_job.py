"""The paper's own job at full size: 4 x 121 views of 1024 x 1024 into 1024 x 1024 x 58, every method.

    python benchmarks/paper_job.py DATA RUNS [--methods cg sirt ...] --json benchmarks/results/paper_job.json

DATA is made by ``manyviews tilt simulate`` if it is not there. Every method runs as a user would run it, in a
process of its own; wall time, CPU time and peak memory are those of the whole process. Results of methods that
are not asked for are kept from the file. The subset methods, minutes to an hour at their defaults on two cores,
run for a few iterations, from which the time of an iteration follows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

METHODS = {
    "cg-5": ["--method", "cg", "--iterations", "5"],
    "cg": ["--method", "cg"],
    "sirt": ["--method", "sirt"],
    "wbp": ["--method", "wbp"],
    "direct-combine": ["--method", "direct-combine", "--iterations", "20"],
    "consensus": ["--method", "consensus", "--iterations", "6"],
    "wang2020": ["--method", "wang2020", "--subsets", "8", "--iterations", "1"],
}
AXES = ("000", "045", "090", "135")
SIZE, DEPTH = 1024, 58


def simulate(data: Path) -> None:
    if (data / "simulate.toml").exists():
        return
    subprocess.run(
        [sys.executable, "-m", "manyviews.cli", "tilt", "simulate", "--out", str(data), "--size", str(SIZE),
         "--thickness", str(DEPTH), "--tilt-step", "1", "--noise", "0.3", "--pixel-size", "13.6", "--seed", "1"],
        check=True,
    )  # fmt: skip


def run(name: str, data: Path, runs: Path) -> dict[str, Any]:
    out = runs / name
    command = [
        sys.executable, "-m", "manyviews.cli", "tilt", "reconstruct",
        *(str(data / f"axis-{axis}.mrc") for axis in AXES), "--axis-angle", "0", "45", "90", "135",
        "--thickness", str(DEPTH), "--reference", str(data / "truth.mrc"), "--out", str(out), "--overwrite",
        "--quiet", *METHODS[name],
    ]  # fmt: skip
    load = os.getloadavg()[0]
    began = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"{name} ended with {process.returncode}")
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    summary = json.loads((out / "summary.json").read_text())
    return {
        "options": METHODS[name],
        "wall_seconds": round(wall, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_memory_gib": round(usage.ru_maxrss / 2**20, 2),
        "load_before": round(load, 2),
        "curve": [
            [event["data_passes"], event["objective"]]
            for event in events
            if event["kind"] in {"start", "iteration"} and event.get("objective") is not None
        ],
        "summary": summary,
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| method | wall s | CPU s | peak GiB | exact objective | reprojection NCC | error to truth | FSC 0.5 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, result in results.items():
        summary = result["summary"]
        lines.append(
            f"| {name} | {result['wall_seconds']:.0f} | {result['cpu_seconds']:.0f} "
            f"| {result['peak_memory_gib']:.1f} | {summary['exact_objective']:.4g} "
            f"| {summary['mean_ncc_of_reprojections']:.4f} "
            f"| {summary['relative_error_against_the_reference']:.3f} "
            f"| {summary['resolution_fsc05_angstrom']:.1f} A |"
        )
    return "\n".join(lines)


def draw(results: dict[str, dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, result in results.items():
        curve = [(passes, value) for passes, value in result["curve"] if passes > 0]
        if curve and name != "cg-5":
            axes.plot(*zip(*curve, strict=True), marker="." if len(curve) < 30 else None, label=name)
    axes.set(xscale="log", yscale="log", xlabel="passes over the data", ylabel="objective")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    simulate(arguments.data)
    arguments.runs.mkdir(parents=True, exist_ok=True)
    found = json.loads(arguments.json.read_text()) if arguments.json.exists() else {"methods": {}}
    found["machine"] = {
        "cpu": next(
            (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")), platform.processor(),
        ),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }  # fmt: skip
    for name in arguments.methods:
        found["methods"][name] = run(name, arguments.data, arguments.runs)
        found["methods"] = {key: found["methods"][key] for key in METHODS if key in found["methods"]}
        arguments.json.write_text(json.dumps(found, indent=1))
        arguments.json.with_suffix(".md").write_text(table(found["methods"]) + "\n")
        print(table({name: found["methods"][name]}), flush=True)
    if arguments.figure:
        draw(found["methods"], arguments.figure)


if __name__ == "__main__":
    main()
