"""Our projectors against those of other packages, in one run on the same cores.

One worker process a projector, each in the interpreter that has its package, all pinned to the same cores.
They are asked in turn (A B C A B C ...), so that whatever else the machine does hits all alike, and only one
of them computes at a time. Writes JSON, and the same as a markdown table beside it.

  python benchmarks/tomography_peers.py --peer astra=PYTHON --peer mbirjax=PYTHON --peer scico=PYTHON \\
      --axes 0 45 90 135 --peer-size scico=128,128,32,61 --json out.json
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from peers.client import BENCHMARKS, OPERATIONS, PeerFailed, PeerProcess, pinned_environment, run_on
from peers.problem import Problem
from peers.summary import agreement, fractions_of_limits, rate_ratios, summarise
from peers.table import markdown

OURS = "manyviews"
FACTORIES = {
    "astra": {"astra-linear": "peers.astra:make", "astra-matrix": "peers.astra:make_matrix"},
    "svmbir": {"svmbir": "peers.svmbir:make"},
    "mbirjax": {"mbirjax": "peers.mbirjax:make"},
    "scico": {"scico": "peers.scico:make"},
}
# Threads of a library may spin for a moment after its work; the next worker must not pay for that.
PAUSE_SECONDS = 0.05


def main() -> None:
    options = parse_options()
    cores = sorted(os.sched_getaffinity(0))
    run_on(cores[: options.threads])
    load_before = os.getloadavg()[0]
    limits = [measure_limits(options.threads)]
    peers = start_all(options)
    try:
        run_rounds(peers, options.repeats)
    finally:
        for peer in peers:
            peer.stop()
    limits.append(measure_limits(options.threads))
    machine = describe_machine(options.threads, len(cores), load_before)
    record = make_record(options, peers, limits, machine)
    page = markdown(record)
    print(page)
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n")
        options.json.with_suffix(".md").write_text(page)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--peer", action="append", default=[], metavar="NAME=PYTHON", type=_peer,
        help=f"interpreter with {', '.join(FACTORIES)}; svmbir is tried in astra's too")  # fmt: skip
    add("--size", nargs=3, type=int, default=[256, 256, 64], metavar=("NX", "NY", "NZ"))
    add("--tilts", type=int, default=121, help="views about each axis")
    add("--axes", nargs="+", type=float, default=[0.0], metavar="DEG", help="0, or for example 0 45 90 135")
    add("--repeats", type=int, default=5)
    add("--threads", type=int, default=min(2, len(os.sched_getaffinity(0))))
    add("--limit", type=float, default=600.0, metavar="SECONDS",
        help="time for each projector, all in all; then it is stopped and its full rounds count")  # fmt: skip
    add("--peer-size", action="append", default=[], metavar="NAME=NX,NY,NZ,TILTS", type=_peer_size,
        help="smaller problem for a slow peer; ours is run on it too")  # fmt: skip
    add("--json", type=Path, metavar="OUT", help="result; OUT with .md instead of .json is the table")
    options = parser.parse_args()
    if not 1 <= options.threads <= len(os.sched_getaffinity(0)):
        parser.error(f"--threads must be 1 to {len(os.sched_getaffinity(0))}, the cores this process may use")
    if min(*options.size, options.tilts, options.repeats) < 1:
        parser.error("--size, --tilts and --repeats must be at least 1")
    if options.json and options.json.suffix != ".json":
        parser.error("--json must end in .json")
    return options


def _peer(text: str) -> tuple[str, str]:
    name, _, python = text.partition("=")
    if name not in FACTORIES:
        raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(FACTORIES)}")
    found = shutil.which(python)
    if not found:
        raise argparse.ArgumentTypeError(f"{python!r} is no interpreter that can be run")
    # Absolute but not resolved: the link in a virtual environment is what makes it one.
    return name, os.path.abspath(found)


def _peer_size(text: str) -> tuple[str, tuple[int, int, int, int]]:
    name, _, numbers = text.partition("=")
    if name not in FACTORIES:
        raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(FACTORIES)}")
    try:
        width, height, depth, tilts = (int(number) for number in numbers.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=NX,NY,NZ,TILTS") from error
    return name, (width, height, depth, tilts)


def full_problem(options: argparse.Namespace) -> Problem:
    width, height, depth = options.size
    return Problem(width, height, depth, options.tilts, tuple(options.axes))


def start_all(options: argparse.Namespace) -> list[PeerProcess]:
    """Ours on every problem that is in use, then the peers; those that cannot start keep their reason."""
    full = full_problem(options)
    sizes = dict(options.peer_size)
    pythons = dict(options.peer)
    if "astra" in pythons:
        pythons.setdefault("svmbir", pythons["astra"])
    problems = {name: _smaller(full, sizes[name]) if name in sizes else full for name in pythons}
    common = (options.threads, options.limit)
    ours = {
        problem: _started(PeerProcess(OURS, sys.executable, "peers.ours:make", problem, *common))
        for problem in dict.fromkeys([full, *problems.values()])
    }
    peers = list(ours.values())
    for group in (name for name in FACTORIES if name in pythons):
        for name, factory in FACTORIES[group].items():
            peer = PeerProcess(name, pythons[group], factory, problems[group], *common)
            peers.append(_started(peer, ours[problems[group]]))
    return peers


def _smaller(full: Problem, size: tuple[int, int, int, int]) -> Problem:
    width, height, depth, tilts = size
    return replace(full, width=width, height=height, depth=depth, tilts=tilts)


def _started(peer: PeerProcess, ours: PeerProcess | None = None) -> PeerProcess:
    start = time.perf_counter()
    try:
        peer.start()
        if ours is not None and ours.running:
            peer.agreement = agreement(peer, ours)
        print(
            f"{peer.name} ({peer.problem.text}): ready after {time.perf_counter() - start:.1f} s", flush=True
        )
    except PeerFailed as reason:
        print(f"skipped {reason}", flush=True)
    return peer


def run_rounds(peers: list[PeerProcess], repeats: int) -> None:
    for number in range(repeats):
        for operation in OPERATIONS:
            for peer in peers:
                if peer.running:
                    _measure(peer, operation)
        print(f"round {number + 1} of {repeats} done", flush=True)


def _measure(peer: PeerProcess, operation: str) -> None:
    time.sleep(PAUSE_SECONDS)
    try:
        peer.measure(operation)
    except PeerFailed as reason:
        print(f"stopped {reason}", flush=True)


def measure_limits(threads: int) -> dict[str, float]:
    """Bandwidth and multiply-adds, by a process of its own."""
    command = [sys.executable, str(BENCHMARKS / "bandwidth.py"), "--threads", str(threads)]
    environment = pinned_environment(threads)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def describe_machine(threads: int, cores: int, load_before: float) -> dict[str, Any]:
    information = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    models = [
        line.split(":", 1)[1].strip() for line in information.splitlines() if line.startswith("model name")
    ]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": cores,
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "not set"),
        "date": datetime.date.today().isoformat(),
        "load_before": load_before,
        "load_after": os.getloadavg()[0],
    }


def make_record(
    options: argparse.Namespace,
    peers: list[PeerProcess],
    limits: list[dict[str, float]],
    machine: dict[str, Any],
) -> dict[str, Any]:
    """Everything measured, raw rounds included; no interpreter paths."""
    full = full_problem(options)
    ours = {peer.problem: peer for peer in peers if peer.name == OURS}
    rows = {peer: summarise(peer, ours[peer.problem]) for peer in peers}
    small = [row for peer in peers if peer.problem != full and peer.name != OURS for row in rows[peer]]
    best = {key: max(limit[key] for limit in limits) for key in limits[0]}
    best["copy_bytes_per_second"] = max(
        best["numpy_copy_bytes_per_second"], best["torch_copy_bytes_per_second"]
    )
    return {
        "benchmark": "tomography peers",
        "problem": full.text,
        "axes_degrees": list(full.axes_degrees),
        "repeats": options.repeats,
        "limit_seconds": options.limit,
        "machine": machine,
        "limits": best,
        "limits_each": limits,
        "summary": [row for peer in peers for row in rows[peer]],
        "rate_ratios": rate_ratios(small, rows[ours[full]]),
        "fractions_of_limits": fractions_of_limits(ours[full], rows[ours[full]], best),
        "workers": [describe_worker(peer) for peer in peers],
    }


def describe_worker(peer: PeerProcess) -> dict[str, Any]:
    return {
        "name": peer.name,
        "problem": peer.problem.text,
        "sizes": asdict(peer.problem),
        "status": peer.status,
        "set_up": peer.set_up,
        "agreement": peer.agreement,
        "rounds": peer.rounds,
    }


if __name__ == "__main__":
    main()
