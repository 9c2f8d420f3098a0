"""Do the estimates of `nano check` hold: memory with arrays at hand and in files, and time?

``python benchmarks/nano_memory.py [--sizes 96 128] [--methods oftv of pcg] [--name NAME]``

Simulated scans of N x N pixels in 1.4 N views; each method once in memory and once with as little as it says it can do
with. Measured are the most anonymous memory of the process, looked at fifty times a second, and what is mapped of
its program; pages of files with arrays are not counted, since the system takes them back when it needs room.

Writes ``benchmarks/results/nano_memory_NAME.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from manyviews.nano.estimate import Cost, estimate_cost
from manyviews.nano.plan import resolve_plan
from manyviews.nano.reconstruct_options import ReconstructOptions
from manyviews.nano.scan.options import ScanOptions
from manyviews.nano.simulate import simulate
from manyviews.nano.simulate_options import SimulateOptions

Record = dict[str, Any]
RESULTS = Path(__file__).parent / "results"
_MIB = 2**20
_EACH_SECONDS = 0.02


def made_scan(folder: Path, size: int) -> tuple[Path, tuple[int, int, int]]:
    """A scan and the shape of its projections."""
    views = round(1.4 * size)
    options = SimulateOptions(size=(size,), views=views, rotations=2, deformation_percent=4.0)
    return simulate(options, folder).scan, (views, size, size)


def options_of(method: str) -> tuple[ReconstructOptions, list[str]]:
    """Of one thread and few iterations, with the words of the command line that say so."""
    moving = method in ("oftv", "of", "shifts")
    iterations = (3, 2) if moving else (3,)
    words = ["--method", method, "--threads", "1", "--iterations", *map(str, iterations)]
    return ReconstructOptions(method=method, threads=1, iterations=iterations), words  # type: ignore[arg-type]


def watched(words: list[str]) -> tuple[int, int, float]:
    """Most anonymous bytes, most bytes of mapped files, and CPU seconds of a command."""
    process = subprocess.Popen([sys.executable, "-m", "manyviews.cli", *words, "--quiet"])
    status = Path(f"/proc/{process.pid}/status")
    anonymous = mapped = 0
    while process.poll() is None:
        for line in status.read_text().splitlines() if status.exists() else ():
            name, _, value = line.partition(":")
            if name == "RssAnon":
                anonymous = max(anonymous, 1024 * int(value.split()[0]))
            elif name == "RssFile":
                mapped = max(mapped, 1024 * int(value.split()[0]))
        time.sleep(_EACH_SECONDS)
    used = os.times()
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} failed")
    return anonymous, mapped, used.children_user + used.children_system


def measured(folder: Path, scan: Path, shape: tuple[int, int, int], method: str) -> list[Record]:
    """In memory and in files."""
    options, words = options_of(method)
    plan = resolve_plan(ScanOptions(scan=scan), options, shape)
    cost: Cost = estimate_cost(plan, 1, 4 * shape[0] * shape[1] * shape[2])
    assert cost.streamed_bytes is not None
    least = (cost.streamed_bytes + _MIB) / 2**30
    found, program, before = [], 0, 0.0
    for where, more, estimated in (
        ("memory", [], cost.data_bytes + cost.working_bytes),
        ("files", ["--memory", f"{least}"], cost.streamed_bytes),
    ):
        out = folder / f"{method}_{shape[1]}_{where}"
        began = sum(os.times()[2:4])
        given = ["nano", "reconstruct", str(scan), "--out", str(out), *words, *more]
        anonymous, mapped, after = watched(given)
        program, before = (mapped if where == "memory" else program), began
        found.append({
            "size": shape[1], "views": shape[0], "method": method, "arrays_in": where,
            "estimated_mib": round(estimated / _MIB), "measured_mib": round((anonymous + program) / _MIB),
            "anonymous_mib": round(anonymous / _MIB), "estimated_s": round(cost.core_seconds, 1),
            "measured_s": round(after - before, 1),
        })  # fmt: skip
        print(found[-1], flush=True)
    return found


def table(records: list[Record]) -> str:
    """As Markdown."""
    names = list(records[0])
    lines = ["| " + " | ".join(names) + " |", "| " + " | ".join("---" for _ in names) + " |"]
    return "\n".join(
        [*lines, *("| " + " | ".join(str(one[name]) for name in names) + " |" for one in records)]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[96, 128])
    parser.add_argument("--methods", nargs="+", default=["oftv", "of", "pcg"])
    parser.add_argument("--name", default=platform.node())
    given = parser.parse_args()
    records: list[Record] = []
    with tempfile.TemporaryDirectory() as name:
        for size in given.sizes:
            scan, shape = made_scan(Path(name) / f"scan{size}", size)
            for method in given.methods:
                records += measured(Path(name), scan, shape, method)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"nano_memory_{given.name}.json").write_text(json.dumps(records, indent=1))
    (RESULTS / f"nano_memory_{given.name}.md").write_text(table(records) + "\n")


if __name__ == "__main__":
    main()
