"""How `manyviews tilt reconstruct` scales over MPI ranks: measured here, counted exactly, modelled up to 1,024.

    python benchmarks/scaling.py WORK              # all of it, into benchmarks/results/scaling.{json,md,png}
    python benchmarks/scaling.py WORK --only traffic # bytes and messages counted again, seconds left as they are
    python benchmarks/scaling.py WORK --only model # the model again, from the measured rates in scaling.json

1. Measured: one job in every layout of 1 to 4 ranks, one thread each, in turns; times of an outer iteration.
2. Counted: formulas for the bytes and messages of an iteration, held against what the runs counted, of some
   runs with many ranks on few cores too. Exact, but for two texts of a number a rank: these are bounded.
3. Modelled: seconds = compute (rates measured on one core, ceilings of slabs and subsets) + exchange (counted
   bytes over bandwidth, counted messages times latency), for the measured job (to see how far it is off) and
   for the paper's on 1 to 1,024 ranks.

The formulas are in `scaling_traffic.py`, the model and its figure in `scaling_model.py`. All of it takes about 12
minutes on two cores that are quiet: layouts of 3 and 4 ranks get fewer rounds (``--rounds-crowded``), because medians
matter most where every rank has a core (``--rounds``). WORK holds simulated data and runs, 1 GB. Needs mpi4py and the
mpiexec of the same environment.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from manyviews.geometry.views import TiltGeometry
from manyviews.options import RunOptions
from manyviews.parallel.layout import Layout
from scaling_model import Network, Rates, draw, model_here, model_paper, model_tables, table
from scaling_traffic import AXES, Job, blocks_of, geometry_of, traffic_of

RESULTS = Path(__file__).parent / "results"
LAYOUTS = ("1x1", "2x1", "1x2", "3x1", "1x3", "4x1", "2x2", "1x4")
CG_LAYOUTS = ("1x1", "1x2", "2x1")
FEW_RANKS = 2  # with more there are fewer rounds
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- measuring ----------------------------------------------------------------------------------------------


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}, load {os.getloadavg()[0]:.1f}] {text}", flush=True)


def launch(ranks: int, words: list[str], limit: float) -> None:
    """This script as a worker on ``ranks`` ranks, one thread each, one rank a core where there are enough."""
    binding = ["-bind-to", "core"] if ranks <= CORES else []
    command = ["mpiexec", "-n", str(ranks), *binding, sys.executable, __file__, *words]
    folder = Path(sys.executable).parent
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "PATH": f"{folder}:{os.environ['PATH']}"
    }  # fmt: skip
    subprocess.run(command, check=True, env=environment, timeout=limit, stdout=subprocess.DEVNULL)


def simulate(job: Job, work: Path) -> Path:
    data = work / f"data-{job.size}-{job.depth}-{job.tilts}"
    if not (data / "simulate.toml").exists():
        say(f"simulating {len(AXES)} x {job.tilts} views of {job.size} x {job.size}, {job.depth} slices")
        step = 120.0 / (job.tilts - 1)
        words = [
            "--size",
            job.size,
            "--thickness",
            job.depth,
            "--tilt-step",
            step,
            "--noise",
            0.3,
            "--seed",
            1,
        ]
        subprocess.run(
            [sys.executable, "-m", "manyviews.cli", "tilt", "simulate", "--out", str(data), "--quiet",
             *map(str, words)], check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    return data


def measure(job: Job, layout: Layout, iterations: int, work: Path, limit: float) -> dict[str, Any]:
    """One run: medians over its iterations of what ranks and events tell."""
    data, out = simulate(job, work), work / "run"
    shutil.rmtree(out, ignore_errors=True)
    told = work / "ranks.json"
    wish = {
        **job.options(),
        "thickness": job.depth,
        "layout": str(layout),
        "iterations": iterations,
        "threads": 1,
    }
    load = os.getloadavg()[0]
    launch(layout.ranks, ["worker-run", str(data), str(out), json.dumps(wish), str(told)], limit)
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    steps = [event for event in events if event["kind"] == "iteration"]
    # (rank, iteration, (wall seconds, CPU seconds, seconds of exchange)), and CPU seconds of the whole process
    ranks = np.array([rank["steps"] for rank in json.loads(told.read_text())])
    wall, exchange = ranks[..., 0], ranks[..., 2]
    return {
        "layout": str(layout), "ranks": layout.ranks, "load_before": round(load, 2),
        "seconds": float(np.median(wall.max(axis=0))),
        "compute_seconds": float(np.median((wall - exchange).max(axis=0))),
        "exchange_seconds": statistics.median(event.get("exchange_seconds", 0.0) for event in steps),
        "least_exchange_seconds": float(np.median(exchange.min(axis=0))),
        "cpu_seconds": float(np.median(ranks[..., 1].sum(axis=0))),
        "cpu_seconds_of_all": sum(rank["cpu"] for rank in json.loads(told.read_text())),
        "bytes": [event.get("exchanged_bytes", 0) for event in steps],
        "messages": [event.get("messages", 0) for event in steps],
    }  # fmt: skip


def count_again(run: dict[str, Any], found: argparse.Namespace) -> None:
    """Bytes and messages of a stored run as the package of today sends them, in place; seconds are left."""
    job, layout = Job(**run["job"]), Layout.parse(run["layout"])
    say(f"counting {job.method} on {layout}")
    fresh = measure(job, layout, len(run["bytes"]), found.work, found.limit)
    run |= {name: fresh[name] for name in ("bytes", "messages")}


def compare_traffic(job: Job, run: dict[str, Any]) -> list[dict[str, Any]]:
    """Counted bytes and messages of every iteration beside the formulas.

    Raises
    ------
    AssertionError
        If they do not agree: messages exactly, bytes but for the texts of two numbers.
    """
    layout, compared = Layout.parse(run["layout"]), []
    for number, (sent, messages) in enumerate(zip(run["bytes"], run["messages"], strict=True), 1):
        traffic = traffic_of(job, layout, exact_pass=job.method == "cg" and number % 5 == 0)
        expected, expected_messages = traffic.total()
        row = {
            **asdict(job), "layout": str(layout), "iteration": number, "bytes": sent, "formula_bytes": expected,
            "messages": messages, "formula_messages": expected_messages, "text_bytes": sent - expected,
        }  # fmt: skip
        assert messages == expected_messages, row
        assert 0 <= sent - expected <= traffic.text_bytes(), row
        compared.append(row)
    return compared


def worker_run(data: str, out: str, wish: str, told: str) -> None:
    """A rank of a run that counts its own seconds in every iteration; no checkpoints."""
    from manyviews.parallel.launch import start_world
    from manyviews.runs import driver
    from manyviews.solvers.driver import advance
    from manyviews.tilt.options import ReconstructOptions, SeriesOptions
    from manyviews.tilt.reconstruct import reconstruct

    world = start_world()
    steps: list[list[float]] = []

    def timed(*words: Any, **named: Any) -> Any:
        before = time.perf_counter(), time.process_time(), world.traffic.seconds
        found = advance(*words, **named)
        after = time.perf_counter(), time.process_time(), world.traffic.seconds
        steps.append([now - then for now, then in zip(after, before, strict=True)])
        return found

    series = SeriesOptions(tuple(sorted(Path(data).glob("axis-*.mrc"))), axis_angle=AXES)
    options = ReconstructOptions(**json.loads(wish))
    run = RunOptions(Path(out), quiet=True, checkpoint_seconds=1e9)
    with mock.patch.object(driver, "advance", timed):  # what makes an iteration of every job
        reconstruct(series, options, run, world=world)
    assert len(steps) == options.iterations
    everyone = world.gather({"steps": steps, "cpu": time.process_time()})
    if world.rank == 0:
        Path(told).write_text(json.dumps(everyone))


def median_seconds(call: Callable[[], object], repeats: int = 5) -> float:
    call()
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def worker_rates(size: str, depth: str, tilts: str, told: str) -> None:
    """Rates of one core, all ranks at the same time and each for itself."""
    from manyviews.operators.slab_projector import SlabProjector
    from manyviews.parallel.launch import set_threads, start_world
    from manyviews.solvers.space import Space
    from manyviews.tilt.solve.problem import TiltProblem

    world = start_world()
    set_threads(1)
    job = Job(int(size), int(depth), int(tilts))
    x = torch.rand(job.shape, generator=torch.Generator().manual_seed(0))
    y, out = x.clone(), torch.empty_like(x)

    def problem(shape: tuple[int, int, int], geometry: TiltGeometry) -> TiltProblem:
        blank = torch.zeros(())
        projector = SlabProjector(geometry, shape, shape[1:])
        read = lambda views: blank.expand(len(views), *shape[1:])  # noqa: E731
        return TiltProblem(projector, read, np.ones(len(geometry)))

    few = problem(job.shape, geometry_of(job.tilts).select(np.arange(min(16, job.tilts))))
    convolution = few._convolution(few.kernel())
    (tile,) = convolution.tiling.tiles()
    grid = convolution.padded
    points = math.prod(grid)
    slices_points = job.depth * grid[1] * grid[2]
    world.barrier()
    lateral = 2.0 * median_seconds(lambda: convolution._lateral(x.numpy(), tile))
    whole = median_seconds(lambda: convolution.forward(x, out=out))
    energy = median_seconds(lambda: convolution.quadratic(x)) - 0.5 * lateral
    thin = max(1, job.depth // 8)
    streams = {}
    for depth_ in (thin, job.depth):
        direct = problem((depth_, job.size, job.size), few.projector.geometry)
        streams[depth_] = median_seconds(partial(direct.weighted_normal, x[:depth_]), 3)
    views = len(few.weights)
    slope = max(0.0, (streams[job.depth] - streams[thin]) / (job.depth - thin)) if job.depth > thin else 0.0
    bins = sum(
        count * pixels for group in few.projector.groups for count, pixels in blocks_of(group, job.size, 1)
    )
    planes = np.ones((job.depth, grid[1], grid[2] // 2 + 1), np.complex64)
    half = planes.shape[1] // 2
    space = Space.like(x)
    rates = Rates(
        lateral=lateral / slices_points,
        along_z=max(0.0, whole - lateral) / points,
        energy=max(0.0, energy) / points,
        stream=slope / (views * job.size**2),
        detector=max(0.0, streams[thin] - slope * thin) / bins,
        add=median_seconds(lambda: torch.add(x, y, alpha=0.5, out=out)) / x.numel(),
        inner=median_seconds(lambda: space.inner(x, y)) / x.numel(),
        copy=median_seconds(lambda: np.ascontiguousarray(planes[:, :half])) / planes[:, :half].nbytes,
    )
    everyone = world.gather(asdict(rates))
    if world.rank == 0:
        slowest = {name: statistics.mean(rank[name] for rank in everyone) for name in everyone[0]}
        Path(told).write_text(json.dumps(slowest))


def worker_network(size_bytes: str, told: str) -> None:
    """What exchanges take between the ranks here."""
    from manyviews.parallel.launch import start_world

    world = start_world()
    torch.set_num_threads(1)
    ranks, count = world.size, int(size_bytes) // 4
    volume, number = torch.ones(count), torch.ones(1, dtype=torch.float64)
    parts = list(volume.view(ranks, -1))
    shapes = [tuple(part.shape) for part in parts]

    def rate(call: Callable[[], object]) -> float:
        sent = world.traffic.sent_bytes
        call()
        sent = world.traffic.sent_bytes - sent
        return sent / median_seconds(call, 9)

    small = median_seconds(lambda: [world.sum(number) for _ in range(100)]) / 100
    found = {
        "rank_sum": rate(lambda: world.sum(volume)),
        "rank_rows": rate(lambda: world.all_to_all(parts, shapes)),
        "latency": small / (2 * (ranks - 1) + math.ceil(math.log2(ranks))),
    }
    if world.rank == 0:
        Path(told).write_text(json.dumps(found))


def rates_of(job: Job, ranks: int, work: Path, limit: float) -> Rates:
    say(f"rates of a core at {job.size} x {job.size} x {job.depth}, {ranks} at the same time")
    told = work / "rates.json"
    launch(ranks, ["worker-rates", str(job.size), str(job.depth), str(job.tilts), str(told)], limit)
    return Rates(**json.loads(told.read_text()))


def network_here(job: Job, work: Path, limit: float) -> Network:
    say("bandwidth and latency between two ranks here")
    told = work / "network.json"
    size = 4 * job.depth * job.size**2 // 16 * 16
    launch(2, ["worker-network", str(size), str(told)], limit)
    return Network("this machine's memory", **json.loads(told.read_text()))


# --- the three parts ----------------------------------------------------------------------------------------


def strong_scaling(job: Job, layouts: tuple[str, ...], found: argparse.Namespace) -> list[dict[str, Any]]:
    """Rounds in turn, the last ones without the layouts of many ranks; medians."""
    runs: dict[str, list[dict[str, Any]]] = {layout: [] for layout in layouts}
    iterations = found.iterations if job.method == "consensus" else 5
    rounds = {
        layout: found.rounds if Layout.parse(layout).ranks <= FEW_RANKS else found.rounds_crowded
        for layout in layouts
    }
    for number in range(max(rounds.values())):
        for layout in (one for one in layouts if number < rounds[one]):
            say(f"round {number + 1} of {rounds[layout]}: {job.method} on {layout}")
            runs[layout].append(measure(job, Layout.parse(layout), iterations, found.work, found.limit))
    rows_ = []
    for some in runs.values():
        values = {
            name: statistics.median(run[name] for run in some) for name in some[0] if name.endswith("seconds")
        }
        first = (
            some[0] | values | {"range": [min(r["seconds"] for r in some), max(r["seconds"] for r in some)]}
        )
        rows_.append(first | {"job": asdict(job), "rounds": len(some)})
    alone = rows_[0]
    for row in rows_:
        usable = min(row["ranks"], CORES)
        row["oversubscribed"] = row["ranks"] > CORES
        row["speed_up"] = alone["seconds"] / row["seconds"]
        row["efficiency"] = row["speed_up"] / usable
        row["compute_efficiency"] = alone["compute_seconds"] / row["compute_seconds"] / usable
        row["cpu_efficiency"] = alone["cpu_seconds"] / row["cpu_seconds"]
    return rows_


def many_ranks(found: argparse.Namespace) -> list[dict[str, Any]]:
    """Traffic of tiny jobs on more ranks than cores."""
    tiny, compared = Job(48, 18, 11), []
    wang = replace(tiny, method="wang2020", subsets=8, inner=2, overlap=2)
    cases = [
        (tiny, "4x2"), (replace(tiny, subsets=6), "4x3"), (tiny, "1x8"), (replace(tiny, subsets=12), "12x1"),
        (replace(tiny, subsets=2), "2x3"), (wang, "4x2"), (wang, "3x4"), (replace(tiny, method="cg"), "2x2"),
        (replace(tiny, method="cg"), "3x3"), (replace(tiny, method="sirt"), "1x7"),
    ]  # fmt: skip
    for job, layout in cases:
        say(f"traffic of {job.method} on {layout}, {job.size} x {job.size} x {job.depth}")
        iterations = 5 if job.method == "cg" else 2
        compared += compare_traffic(
            job, measure(job, Layout.parse(layout), iterations, found.work, found.limit)
        )
    return compared


# --- telling ------------------------------------------------------------------------------------------------


def report(stored: dict[str, Any]) -> str:
    """All tables."""
    parts = [f"Made by `benchmarks/scaling.py` on {stored['machine']}; do not edit.\n"]
    for name in ("consensus", "cg"):
        rows_ = stored.get("measured", {}).get(name)
        if not rows_:
            continue
        job = rows_[0]["job"]
        parts.append(
            f"## Measured: {name}, {job['size']} x {job['size']} x {job['depth']}, 4 x {job['tilts']} views\n\n"
            f"Medians of rounds. Layouts marked * have more ranks than the {CORES} cores: "
            "their efficiency is per core. Exchange is that of the rank with most, waiting included.\n"
        )
        head = ["layout", "rounds", "s an iteration", "speed-up", "efficiency", "of compute", "compute s",
                "exchange s", "least", "CPU s", "MB sent", "messages"]  # fmt: skip
        parts.append(table(head, [
            [row["layout"] + "*" * row["oversubscribed"], str(row["rounds"]), f"{row['seconds']:.2f}", f"{row['speed_up']:.2f}",
             f"{row['efficiency']:.0%}", f"{row['compute_efficiency']:.0%}", f"{row['compute_seconds']:.2f}",
             f"{row['exchange_seconds']:.2f}", f"{row['least_exchange_seconds']:.2f}",
             f"{row['cpu_seconds']:.2f}", f"{row['bytes'][0] / 1e6:.1f}", str(row["messages"][0])]
            for row in rows_
        ]) + "\n")  # fmt: skip
    if "traffic" in stored:
        rows_ = stored["traffic"]
        worst = max(row["text_bytes"] / row["bytes"] for row in rows_ if row["bytes"])
        parts.append(
            f"## Counted\n\n{len(rows_)} iterations: messages as the formulas say, all of them; bytes too, but for "
            f"the texts of two numbers a rank, {worst:.1e} of all at most.\n"
        )
        seen = {(row["method"], row["layout"], row["size"], row["formula_bytes"]): row for row in rows_}
        head = ["method", "layout", "size", "subsets", "bytes", "formula", "messages", "formula"]
        parts.append(table(head, [
            [row["method"], row["layout"], f"{row['size']} x {row['size']} x {row['depth']}", str(row["subsets"]),
             str(row["bytes"]), str(row["formula_bytes"]), str(row["messages"]), str(row["formula_messages"])]
            for row in seen.values()
        ]) + "\n")  # fmt: skip
    return "\n".join(parts + model_tables(stored))


def main() -> None:
    workers: dict[str, Callable[..., None]] = {
        "worker-run": worker_run,
        "worker-rates": worker_rates,
        "worker-network": worker_network,
    }
    if len(sys.argv) > 1 and sys.argv[1] in workers:
        workers[sys.argv[1]](*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--depth", type=int, default=32)
    parser.add_argument("--tilts", type=int, default=61, help="views about each axis")
    parser.add_argument("--subsets", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3, help="of layouts of 1 and 2 ranks")
    parser.add_argument("--rounds-crowded", type=int, default=1, help="of layouts of 3 and 4 ranks")
    parser.add_argument("--paper-size", type=int, default=1024)
    parser.add_argument("--paper-depth", type=int, default=58)
    parser.add_argument("--paper-tilts", type=int, default=121)
    parser.add_argument("--paper-subsets", type=int, default=32)
    parser.add_argument("--only", choices=["measure", "traffic", "rates", "model"])
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds that one run may take")
    parser.add_argument("--results", type=Path, default=RESULTS)
    found = parser.parse_args()
    found.work.mkdir(parents=True, exist_ok=True)
    found.results.mkdir(parents=True, exist_ok=True)
    path = found.results / "scaling.json"
    stored: dict[str, Any] = json.loads(path.read_text()) if found.only and path.exists() else {}
    job = Job(found.size, found.depth, found.tilts, subsets=found.subsets)
    paper = Job(found.paper_size, found.paper_depth, found.paper_tilts)

    def keep() -> None:
        path.write_text(json.dumps(stored, indent=1) + "\n")
        (found.results / "scaling.md").write_text(report(stored))

    if found.only in (None, "measure"):
        stored["machine"] = f"{platform.machine()}, {CORES} cores, Python {platform.python_version()}"
        stored["measured"] = {
            "consensus": strong_scaling(job, LAYOUTS, found),
            "cg": strong_scaling(replace(job, method="cg"), CG_LAYOUTS, found),
        }
        keep()
    runs = [row for rows_ in stored.get("measured", {}).values() for row in rows_]
    for name in ("validation", "model"):  # both are made anew
        stored.pop(name, None)
    if found.only == "traffic":
        for run in runs:
            count_again(run, found)
    if found.only in (None, "measure", "traffic"):
        compared = [row for run in runs for row in compare_traffic(Job(**run["job"]), run)]
        stored["traffic"] = compared + many_ranks(found)
        keep()
    if found.only in (None, "rates"):
        stored["rates_alone"] = asdict(rates_of(job, 1, found.work, found.limit))
        stored["rates_busy"] = asdict(rates_of(job, CORES, found.work, found.limit))
        stored["rates_paper"] = asdict(rates_of(paper, CORES, found.work, found.limit))
        stored["network"] = asdict(network_here(job, found.work, found.limit))
        keep()
    if "network" in stored:
        say("the model")
        # the median iteration of cg is one without the exact pass
        stored["validation"] = [model_here(run, stored, CORES) for run in runs]
        stored["model"] = model_paper(replace(paper, subsets=found.paper_subsets), stored)
        draw(stored, found.results / "scaling.png")
        keep()
    print(report(stored))


if __name__ == "__main__":
    main()
