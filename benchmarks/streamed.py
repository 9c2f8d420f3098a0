"""Runs with their volumes in files beside the same runs in memory.

    python benchmarks/streamed.py FOLDER [--size 1024] [--memory 2.5] [--limit GROUP] [--only cg ...]

Four axes of 61 views from ``manyviews tilt simulate``, reconstructed by several methods, each in memory and with
``--memory``, inside an existing control group where ``--limit`` names one (`large_job`), so that the system cannot
keep the files in its cache. Writes ``benchmarks/results/streamed.json``, method by method.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from large_job import reconstruct

RESULT = Path(__file__).parent / "results" / "streamed.json"
THICKNESS, PLENTY = 96, 64.0
METHODS: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "cg": ("cg", 15, ()),
    "admm, smooth": ("admm", 20, ("--prior", "smooth", "--non-negative")),
    "admm, total variation": ("admm", 20, ("--prior", "none", "--total-variation", "10", "--non-negative")),
}


def measure(folder: Path, name: str, memory: float, limit: Path | None) -> dict[str, object]:
    """One run: seconds, memory, and how far its volume is from the truth."""
    method, iterations, options = METHODS[name]
    out = folder / "run"
    shutil.rmtree(out, ignore_errors=True)
    asked = argparse.Namespace(
        thickness=THICKNESS,
        method=method,
        iterations=iterations,
        memory=memory,
        limit=limit,
        options=["--reference", str(folder / "data" / "truth.mrc"), *options],
    )
    found = reconstruct(folder / "data", out, asked)
    summary = found["summary"]
    assert isinstance(summary, dict)
    told = next((line for line in found["log"] if "streamed: " in line), "")  # type: ignore[attr-defined]
    return {
        "memory_gib": memory,
        "wall_seconds": found["wall_seconds"],
        "largest_anonymous_memory_gib": found["largest_anonymous_memory_gib"],
        "relative_error": summary["relative_error_against_the_reference"],
        "told": told.partition("streamed: ")[2],
    }


def main() -> None:
    """Simulate, run what is asked for, and keep what was measured before of the rest."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--memory", type=float, default=2.5)
    parser.add_argument("--limit", type=Path)
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS))
    found = parser.parse_args()
    data = found.folder / "data"
    if not (data / "truth.mrc").exists():
        subprocess.run(
            [sys.executable, "-m", "manyviews.cli", "tilt", "simulate", "--out", str(data), "--phantom", "ellipsoids",
             "--size", str(found.size), "--thickness", str(THICKNESS), "--noise", "0.3", "--quiet"],
            check=True,
        )  # fmt: skip
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {"methods": {}}
    for name in found.only:
        rows = {
            "memory": measure(found.folder, name, PLENTY, None),
            "files": measure(found.folder, name, found.memory, found.limit),
        }
        print(name, rows, flush=True)
        result["methods"][name] = rows
        result["volume"] = [THICKNESS, found.size, found.size]
        result["machine"] = f"{platform.machine()}, {os.cpu_count()} cores"
        RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
