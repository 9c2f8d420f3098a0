"""How `manyviews tilt reconstruct` scales over MPI ranks: measured here, counted exactly, modelled up to 1,024.

    python benchmarks/scaling.py WORK              # all of it, into benchmarks/results/scaling.{json,md,png}
    python benchmarks/scaling.py WORK --only model # the model again, from the measured rates in scaling.json

1. Measured: one job in every layout of 1 to 4 ranks, one thread each, in turns; times of an outer iteration.
2. Counted: formulas for the bytes and messages of an iteration, held against what the runs counted, of some
   runs with many ranks on few cores too. Exact, but for two texts of a number a rank: these are bounded.
3. Modelled: seconds = compute (rates measured on one core, ceilings of slabs and subsets) + exchange (counted
   bytes over bandwidth, counted messages times latency), for the measured job (to see how far it is off) and
   for the paper's on 1 to 1,024 ranks.

WORK holds simulated data and runs, 1 GB. Needs mpi4py and the mpiexec of the same environment.
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
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from manyviews.geometry.views import TiltGeometry
from manyviews.operators.axis_groups import AxisGroup, group_by_axis
from manyviews.operators.exchange import shares
from manyviews.operators.row_shares import RowShares
from manyviews.operators.tilt_projector import BLOCK_BYTES
from manyviews.operators.view_kernel import padded_shape
from manyviews.parallel.layout import Layout, choose_layout
from manyviews.tilt.problem import VIEWS_PER_CONVOLUTION
from manyviews.tilt.subsets import make_subsets

RESULTS = Path(__file__).parent / "results"
AXES = (0.0, 45.0, 90.0, 135.0)
LAYOUTS = ("1x1", "2x1", "1x2", "3x1", "1x3", "4x1", "2x2", "1x4")
CG_LAYOUTS = ("1x1", "1x2", "2x1")
RANKS = (1, 2, 4, 8, 16, 24, 32, 48, 58, 96, 128, 192, 256, 384, 512, 768, 1024)
# Wang et al. 2020, table 1: minutes on so many cores of Tianhe-2, 24 a node. Its text gives 80 % at 192, 76 %
# at 768.
PAPER_MINUTES = {48: 565.0, 96: 290.0, 192: 175.0, 384: 90.0, 768: 46.0}
NUMBER_TEXT_BYTES = 25  # a float as JSON has 3 to 25 characters
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- jobs ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """A reconstruction: sizes, and what its traffic and time depend on."""

    size: int
    depth: int
    tilts: int
    method: str = "consensus"
    subsets: int = 4
    inner: int = 3
    overlap: int = 0
    damped: bool = True  # consensus and cg find a damping in noisy images

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.depth, self.size, self.size

    def options(self) -> dict[str, Any]:
        chosen: dict[str, Any] = {"method": self.method}
        if self.method in {"consensus", "wang2020"}:
            chosen |= {"subsets": self.subsets, "inner_iterations": self.inner, "overlap": self.overlap}
        return chosen


@cache
def geometry_of(tilts: int) -> TiltGeometry:
    angles = np.linspace(-60.0, 60.0, tilts)
    parts = [TiltGeometry.from_tilt_axis(angles, axis, series=k) for k, axis in enumerate(AXES)]
    return TiltGeometry.concatenate(parts)


@dataclass(frozen=True)
class Views:
    """Some views: their grid if they are convolved, their blocks if they are projected."""

    count: int
    grid: tuple[int, int, int]
    direct: bool
    blocks: tuple[tuple[int, int], ...]  # views and detector bins of every block
    rotated: bool


@cache
def views_of(job: Job, picked: tuple[int, ...], subset: bool) -> Views:
    """What `TiltProblem.part` makes of a subset (or of all views, which are convolved)."""
    geometry = geometry_of(job.tilts).select(np.array(picked))
    groups = group_by_axis(geometry, job.shape, job.shape[1:], 1.0)
    grid = padded_shape(groups, job.shape)
    rotated = any(group.rotated for group in groups)
    few = len(picked) < VIEWS_PER_CONVOLUTION * math.prod(grid) / math.prod(job.shape)
    blocks = tuple(block for group in groups for block in _blocks(group, job.size))
    return Views(len(picked), grid, subset and few and not rotated, blocks, rotated)


def _blocks(group: AxisGroup, size: int) -> list[tuple[int, int]]:
    """As `TiltProjector` handles views together."""
    pixels = max(group.detector_length * group.width, size * size)
    block = max(1, BLOCK_BYTES // (4 * pixels))
    block -= block % 16 if block > 16 else 0
    count = len(group.views)
    bins = group.detector_length * group.width
    return [(min(block, count - first), bins) for first in range(0, count, block)]


@cache
def agents_of(job: Job) -> tuple[tuple[int, ...], ...]:
    """Views of every agent."""
    order = "adjacent" if job.method == "wang2020" else "interleaved"
    found = make_subsets(geometry_of(job.tilts), job.subsets, job.overlap, order)  # type: ignore[arg-type]
    return tuple(tuple(int(view) for view in subset.views) for subset in found)


# --- what ranks tell each other: formulas -------------------------------------------------------------------


@dataclass(frozen=True)
class Calls:
    """Calls of one kind that all ranks of a world make in an outer iteration.

    ``sent`` are the bytes that rank r sends in all of them, ``messages`` those of any rank.
    """

    purpose: str
    kind: str  # "sum" (adds up what comes) or "rows" (does not)
    calls: int
    sent: tuple[int, ...]
    messages: int

    def times(self, count: int) -> Calls:
        sent = tuple(count * size for size in self.sent)
        return replace(self, calls=count * self.calls, sent=sent, messages=count * self.messages)


def reduced(purpose: str, sizes: list[int], ranks: int, steps: int = 2) -> Calls:
    """A sum (2 steps: N - 1 messages each), or a sum_scatter or all_gather (1); ``sizes`` in bytes by rank."""
    sent = tuple(steps * size * (ranks - 1) // ranks for size in sizes)
    return Calls(purpose, "sum", 1, sent, steps * (ranks - 1))


def numbers(purpose: str, ranks: int, calls: int = 1, count: int = 1) -> Calls:
    """Sums of ``count`` float64."""
    return reduced(purpose, [8 * count] * ranks, ranks).times(calls)


def rows(purpose: str, views: Views, depth: int, slabs: int, *, back: bool) -> Calls:
    """Slabs to rows of frequency for the transform along z, a block at a time, and the way back."""
    dealt = RowShares.of(views.grid, slabs)
    row_bytes = 8 * (views.grid[2] // 2 + 1)
    slices = [part.stop - part.start for part in shares(depth, slabs)]
    sent = [0] * slabs
    for block in dealt.blocks:
        length = block.stop - block.start
        for rank, part in enumerate(dealt.shares(block)):
            own = part.stop - part.start
            sent[rank] += row_bytes * slices[rank] * (length - own)
            sent[rank] += row_bytes * own * (depth - slices[rank]) * back
    calls = len(dealt.blocks) * (1 + back)
    return Calls(purpose, "rows", calls, tuple(sent), calls * (slabs - 1))


def normal(views: Views, depth: int, slabs: int) -> list[Calls]:
    """``W' L W x``: a convolution, or a pass of the projectors with two energies."""
    if not views.direct:
        return [rows("normal", views, depth, slabs, back=True)]
    return projected("normal", views, slabs)


def projected(purpose: str, views: Views, slabs: int) -> list[Calls]:
    """Detectors added up and dealt out, then told to all."""
    one_way = [reduced(purpose, [4 * k * bins] * slabs, slabs, steps=1) for k, bins in views.blocks]
    return [*one_way, *one_way, numbers(purpose, slabs, count=2)]


def objective(views: Views, depth: int, slabs: int) -> list[Calls]:
    """By Parseval's theorem one way is enough; two inner products."""
    return [rows("objective", views, depth, slabs, back=False), numbers("objective", slabs, 2)]


@dataclass(frozen=True)
class Traffic:
    """Calls of an outer iteration: inside each group before the mean, across groups, inside each group after."""

    agents: tuple[tuple[Calls, ...], ...]
    across: tuple[Calls, ...]
    after: tuple[tuple[Calls, ...], ...]
    layout: Layout

    def total(self) -> tuple[int, int]:
        """Bytes and messages of all ranks, but for the texts of the check of the volume."""
        groups, slabs = self.layout.groups, self.layout.slabs
        inside = [call for calls in (*self.agents, *self.after) for call in calls]
        sent = sum(sum(call.sent) for call in inside) + groups * sum(sum(call.sent) for call in self.across)
        messages = slabs * sum(call.messages for call in inside)
        messages += groups * slabs * sum(call.messages for call in self.across)
        return sent, messages

    def text_bytes(self) -> int:
        """At most so many in the check of the volume: two numbers, told to all of a group."""
        return 2 * NUMBER_TEXT_BYTES * self.layout.groups * self.layout.slabs * (self.layout.slabs - 1)


def traffic_of(job: Job, layout: Layout, *, exact_pass: bool = False) -> Traffic:
    """Of one outer iteration; ``exact_pass``: the one of cg that corrects the convolution."""
    depth, slabs, groups = job.depth, layout.slabs, layout.groups
    slab_bytes = [4 * (part.stop - part.start) * job.size**2 for part in shares(depth, slabs)]
    mean = reduced("mean", slab_bytes, groups)
    mean = replace(mean, sent=tuple(2 * size * (groups - 1) // groups for size in slab_bytes))
    check = Calls("check", "rows", 2, (0,) * slabs, 2 * (slabs - 1))
    everything = tuple(range(len(AXES) * job.tilts))
    if job.method in {"cg", "sirt"}:
        whole = views_of(job, everything, False)
        calls = [*normal(whole, depth, slabs), numbers("scalars", slabs, 5 if job.method == "cg" else 2)]
        across: list[Calls] = []
        if exact_pass:
            calls += [*normal(whole, depth, slabs), numbers("scalars", slabs, 9)]
            across = [mean, replace(numbers("scalars", groups), sent=(16 * (groups - 1) // groups,) * slabs)]
        passes = []
        for part in shares(len(everything), groups):
            own = views_of(job, everything[part], False)
            passes.append((*calls, *(projected("pass", own, slabs) if exact_pass else []), check))
        return Traffic(tuple(passes), tuple(across), ((),) * groups, layout)
    agents, after = [], []
    for part in shares(job.subsets, groups):
        some: list[Calls] = []
        for picked in agents_of(job)[part]:
            one = views_of(job, picked, True)
            normals, inners = (
                (job.inner + 1, 2 * job.inner + 1) if job.method == "consensus" else (job.inner, 1)
            )
            some += [call.times(normals) for call in normal(one, depth, slabs)]
            some.append(numbers("scalars", slabs, inners))
        agents.append(tuple(some))
        union = measured_by(job, part)
        after.append((numbers("scalars", slabs), *objective(union, depth, slabs), check))
    scalars = replace(numbers("scalars", groups, 2), sent=(2 * (16 * (groups - 1) // groups),) * slabs)
    return Traffic(tuple(agents), (mean, scalars), tuple(after), layout)


def measured_by(job: Job, part: slice) -> Views:
    """Views of a group together, by which the objective is found."""
    union = sorted({view for picked in agents_of(job)[part] for view in picked})
    return views_of(job, tuple(union), False)


# --- the model of time --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rates:
    """Seconds on one core, measured: of a job's own sizes, because caches matter.

    ``lateral``, ``along_z``: of a convolution, a point of the padded grid. ``energy``: of the objective's sum
    instead of the way back. ``stream``: projecting there and back, a voxel and view. ``detector``: the same, a
    bin and view. ``add``, ``inner``: vectors, a voxel. ``copy``: to pack and unpack, a byte.
    """

    lateral: float
    along_z: float
    energy: float
    stream: float
    detector: float
    add: float
    inner: float
    copy: float


@dataclass(frozen=True)
class Network:
    """Bandwidths in bytes a second that one rank sends, or a whole node; latencies in seconds."""

    name: str
    rank_sum: float
    rank_rows: float
    latency: float
    ranks_per_node: int = 1 << 30
    node_memory: float = math.inf  # what all ranks of a node exchange inside it together
    node_link: float = math.inf  # what a node sends to others
    link_latency: float = 0.0

    def seconds(self, call: Calls, members: list[int], ranks: int) -> float:
        """Of the slowest of ``members`` (numbers of ranks), all others of the job being at the same thing."""
        if len(members) == 1:
            return 0.0
        sharing = min(ranks, self.ranks_per_node)
        inside = min(self.rank_sum if call.kind == "sum" else self.rank_rows, self.node_memory / sharing)
        nodes = [member // self.ranks_per_node for member in members]
        slowest = 0.0
        for node, sent in zip(nodes, call.sent, strict=True):
            away = sum(other != node for other in nodes) / (len(nodes) - 1)
            latency = (1.0 - away) * self.latency + away * self.link_latency
            waits = call.messages + call.calls * math.ceil(
                math.log2(len(nodes))
            )  # ranks meet before they talk
            moved = sent * (1.0 - away) / inside + sent * away * sharing / self.node_link
            slowest = max(slowest, moved + waits * latency)
        return slowest


# Assumptions for machines that are not here. 100 Gb/s and 2 us between nodes are what InfiniBand EDR and HDR100
# give an MPI program. For Tianhe-2: 24 ranks a node as in the paper; 1.57 us is the figure of ICL-UT-17-04
# (Dongarra 2017), 6.34 GB/s was measured on its predecessor's network (Xie et al. 2012, IEEE Micro 32:8). Inside
# a node all ranks together exchange 35 GB/s at most: memory of about 100 GB/s, of which an exchange takes three.
RANKS_PER_NODE = 24
NODE_MEMORY = 35e9
CLUSTERS = {
    "100 Gb/s, 2 us": {"node_link": 12.5e9, "link_latency": 2e-6},
    "Tianhe-2, 6.3 GB/s, 1.6 us": {"node_link": 6.34e9, "link_latency": 1.57e-6},
}


@dataclass(frozen=True)
class Spent:
    """Seconds of an outer iteration: the slowest group's, then the mean's."""

    compute: float
    slabs: float
    mean: float

    @property
    def total(self) -> float:
        return self.compute + self.slabs + self.mean


class Model:
    """Time of an outer iteration of a job."""

    def __init__(self, job: Job, rates: Rates, network: Network, cores: int | None = None) -> None:
        self.job, self.rates, self.network, self.cores = job, rates, network, cores

    def _normal(self, views: Views, slabs: int) -> float:
        rates, size = self.rates, self.job.size
        slices = -(-self.job.depth // slabs)
        if views.direct:
            bins = sum(count * pixels for count, pixels in views.blocks)
            return views.count * slices * size**2 * rates.stream + bins * rates.detector
        depth, height, width = views.grid
        own_rows = RowShares.of(views.grid, slabs).count(0)
        packed = 3 * 8 * slices * height * (width // 2 + 1) * rates.copy * (slabs > 1)
        return slices * height * width * rates.lateral + own_rows * depth * width * rates.along_z + packed

    def _objective(self, views: Views, slabs: int) -> float:
        slices, (depth, height, width) = -(-self.job.depth // slabs), views.grid
        own_rows = RowShares.of(views.grid, slabs).count(0)
        half = 0.5 * slices * height * width * self.rates.lateral
        return half + own_rows * depth * width * self.rates.energy

    def _vectors(self, adds: float, inners: float, slabs: int) -> float:
        voxels = -(-self.job.depth // slabs) * self.job.size**2
        return voxels * (adds * self.rates.add + inners * self.rates.inner)

    def _agent(self, views: Views, slabs: int) -> float:
        """One agent: operators, and vectors as `data_agent` and `printed_agent` have them."""
        k = self.job.inner
        if self.job.method == "consensus":
            adds = 2 + (1 + self.job.damped) * (k + 1) + 2 + k + 3 * (k - 1) + 5
            return (k + 1) * self._normal(views, slabs) + self._vectors(adds, 2 * k + 3, slabs)
        return k * self._normal(views, slabs) + self._vectors(3 * k + 1 + 5, 3, slabs)

    def iteration(self, layout: Layout) -> Spent:
        job, slabs, ranks = self.job, layout.slabs, layout.ranks
        traffic = traffic_of(job, layout)
        computes, exchanges = [], []
        for group in range(layout.groups):
            members = list(range(group * slabs, (group + 1) * slabs))
            inside = (*traffic.agents[group], *traffic.after[group])
            exchanges.append(sum(self.network.seconds(call, members, ranks) for call in inside))
            computes.append(self._compute(shares(self._agents(), layout.groups)[group], slabs))
        column = [group * slabs for group in range(layout.groups)]
        mean = sum(
            self.network.seconds(replace(call, sent=(call.sent[0],) * len(column)), column, ranks)
            for call in traffic.across
        )
        worst = max(range(layout.groups), key=lambda group: computes[group] + exchanges[group])
        compute = computes[worst]
        if self.cores and ranks > self.cores:  # ranks take turns on the cores
            compute = max(compute, slabs * sum(computes) / self.cores)
        return Spent(compute, exchanges[worst], mean)

    def _agents(self) -> int:
        return self.job.subsets if self.job.method in {"consensus", "wang2020"} else 1

    def _compute(self, part: slice, slabs: int) -> float:
        job = self.job
        if job.method in {"cg", "sirt"}:
            whole = views_of(job, tuple(range(len(AXES) * job.tilts)), False)
            adds, inners = (5, 5) if job.method == "cg" else (4, 3)
            return self._normal(whole, slabs) + self._vectors(adds, inners, slabs)
        own = agents_of(job)[part]
        agents = sum(self._agent(views_of(job, picked, True), slabs) for picked in own)
        return agents + self._vectors(len(own) + 1, 3, slabs) + self._objective(measured_by(job, part), slabs)


def model_curve(job: Job, rates: Rates, network: Network) -> list[dict[str, Any]]:
    """The job on more and more ranks, as `choose_layout` would place them; 1 rank first."""
    found: list[dict[str, Any]] = []
    subsets = job.subsets if job.method in {"consensus", "wang2020"} else 1
    for ranks in RANKS:
        if subsets == 1 and ranks > job.depth:
            break
        layout = choose_layout(ranks, subsets, job.depth)
        spent = Model(job, rates, network).iteration(layout)
        sent, messages = traffic_of(job, layout).total()
        found.append(
            {
                "ranks": ranks, "layout": str(layout), "seconds": spent.total, "compute": spent.compute,
                "slabs": spent.slabs, "mean": spent.mean, "efficiency": found[0]["seconds"] / spent.total / ranks
                if found else 1.0, "bytes": sent, "messages": messages,
                "gain_overlap": min(spent.mean, spent.compute) / spent.total,
                "gain_half_precision": 0.5 * spent.mean / spent.total,
            }
        )  # fmt: skip
    at_48 = next((point for point in found if point["ranks"] == 48), None)
    for point in found:
        if at_48:
            point["efficiency_to_48"] = at_48["seconds"] * 48 / point["seconds"] / point["ranks"]
    return found


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
    from manyviews.tilt.options import ReconstructOptions, SeriesOptions
    from manyviews.tilt.reconstruct import reconstruct

    world, steps, advance = start_world(), [], driver.advance

    def timed(*words: Any, **named: Any) -> Any:
        before = time.perf_counter(), time.process_time(), world.traffic.seconds
        found = advance(*words, **named)
        after = time.perf_counter(), time.process_time(), world.traffic.seconds
        steps.append([now - then for now, then in zip(after, before, strict=True)])
        return found

    driver.advance = timed
    series = SeriesOptions(tuple(sorted(Path(data).glob("axis-*.mrc"))), axis_angle=AXES)
    options = ReconstructOptions(**json.loads(wish))
    reconstruct(series, options, Path(out), world=world, quiet=True, checkpoint_seconds=1e9)
    everyone = world.gather({"steps": steps, "cpu": time.process_time()})
    if world.rank == 0:
        Path(told).write_text(json.dumps(everyone))


def median_seconds(call: Any, repeats: int = 5) -> float:
    call()
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def worker_rates(size: str, depth: str, tilts: str, told: str) -> None:
    """Rates of one core, all ranks at the same time and each for itself."""
    from manyviews.operators.tilt_projector import TiltProjector
    from manyviews.parallel.launch import start_world
    from manyviews.solvers.space import Space
    from manyviews.tilt.problem import TiltProblem
    from manyviews.tilt.reconstruct import set_threads

    world = start_world()
    set_threads(1)
    job = Job(int(size), int(depth), int(tilts))
    x = torch.rand(job.shape, generator=torch.Generator().manual_seed(0))
    y, out = x.clone(), torch.empty_like(x)

    def problem(shape: tuple[int, int, int], geometry: TiltGeometry) -> TiltProblem:
        blank = torch.zeros(())
        projector = TiltProjector(geometry, shape, shape[1:])
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
        streams[depth_] = median_seconds(lambda p=direct, d=depth_: p.weighted_normal(x[:d]), 3)
    views = len(few.weights)
    slope = max(0.0, (streams[job.depth] - streams[thin]) / (job.depth - thin)) if job.depth > thin else 0.0
    bins = sum(count * pixels for group in few.projector.groups for count, pixels in _blocks(group, job.size))
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

    def rate(call: Any) -> float:
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
    """Rounds in turn; medians."""
    runs: dict[str, list[dict[str, Any]]] = {layout: [] for layout in layouts}
    iterations = found.iterations if job.method == "consensus" else 5
    for number in range(found.rounds):
        for layout in layouts:
            say(f"round {number + 1} of {found.rounds}: {job.method} on {layout}")
            runs[layout].append(measure(job, Layout.parse(layout), iterations, found.work, found.limit))
    rows_ = []
    for some in runs.values():
        values = {
            name: statistics.median(run[name] for run in some) for name in some[0] if name.endswith("seconds")
        }
        first = (
            some[0] | values | {"range": [min(r["seconds"] for r in some), max(r["seconds"] for r in some)]}
        )
        rows_.append(first | {"job": asdict(job)})
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


def model_here(job: Job, rows_: list[dict[str, Any]], stored: dict[str, Any]) -> list[dict[str, Any]]:
    """The model beside what was measured."""
    network = Network(**stored["network"])
    compared = []
    for row in rows_:
        rates = Rates(**stored["rates_alone" if row["ranks"] == 1 else "rates_busy"])
        spent = Model(job, rates, network, CORES).iteration(Layout.parse(row["layout"]))
        compared.append(
            {
                "method": job.method, "layout": row["layout"], "measured": row["seconds"], "model": spent.total,
                "model_compute": spent.compute, "model_slabs": spent.slabs, "model_mean": spent.mean,
                "error": spent.total / row["seconds"] - 1.0,
            }
        )  # fmt: skip
    return compared


def model_paper(
    found: argparse.Namespace, stored: dict[str, Any]
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Curves by network and job."""
    here = Network(**stored["network"])
    cluster = replace(here, ranks_per_node=RANKS_PER_NODE, node_memory=NODE_MEMORY)
    networks = [here, *(replace(cluster, name=name, **link) for name, link in CLUSTERS.items())]
    rates = Rates(**stored["rates_paper"])
    paper = Job(found.paper_size, found.paper_depth, found.paper_tilts, subsets=found.paper_subsets)
    jobs = {
        f"consensus, {paper.subsets} subsets": paper,
        f"wang2020, {paper.subsets} subsets": replace(paper, method="wang2020", inner=10, overlap=2),
        "sirt, slabs only": replace(paper, method="sirt"),
    }
    return {
        network.name: {name: model_curve(job, rates, network) for name, job in jobs.items()}
        for network in networks
    }


# --- telling ------------------------------------------------------------------------------------------------


def table(head: list[str], rows_: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows_])


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
            f"Medians of {stored['rounds']} rounds. Layouts marked * have more ranks than the {CORES} cores: "
            "their efficiency is per core. Exchange is that of the rank with most, waiting included.\n"
        )
        head = ["layout", "s an iteration", "speed-up", "efficiency", "of compute", "compute s", "exchange s",
                "least", "CPU s", "MB sent", "messages"]  # fmt: skip
        parts.append(table(head, [
            [row["layout"] + "*" * row["oversubscribed"], f"{row['seconds']:.2f}", f"{row['speed_up']:.2f}",
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
    if "validation" in stored:
        parts.append("## The model beside the measured times\n")
        head = ["method", "layout", "measured s", "model s", "error", "compute", "slabs' exchange", "mean"]
        parts.append(table(head, [
            [row["method"], row["layout"], f"{row['measured']:.2f}", f"{row['model']:.2f}", f"{row['error']:+.0%}",
             f"{row['model_compute']:.2f}", f"{row['model_slabs']:.3f}", f"{row['model_mean']:.3f}"]
            for row in stored["validation"]
        ]) + "\n")  # fmt: skip
    for network, curves in stored.get("model", {}).items():
        for name, points in curves.items():
            parts.append(f"## Modelled, the paper's job: {name}; {network}\n")
            head = ["ranks", "layout", "s an iteration", "efficiency", "to 48 ranks", "slabs' exchange",
                    "mean", "overlap gains at most", "half precision of the mean", "GB sent"]  # fmt: skip
            parts.append(table(head, [
                [str(p["ranks"]), p["layout"], f"{p['seconds']:.3g}", f"{p['efficiency']:.0%}",
                 f"{p['efficiency_to_48']:.0%}" if "efficiency_to_48" in p else "",
                 f"{p['slabs'] / p['seconds']:.1%}", f"{p['mean'] / p['seconds']:.1%}",
                 f"{p['gain_overlap']:.1%}", f"{p['gain_half_precision']:.1%}", f"{p['bytes'] / 1e9:.2f}"]
                for p in points
            ]) + "\n")  # fmt: skip
    return "\n".join(parts)


def draw(stored: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    styles = dict(zip(stored["model"], ("-", "--", ":"), strict=False))
    for network, curves in stored["model"].items():
        for number, (name, points) in enumerate(curves.items()):
            for axes, key, first in ((left, "efficiency", 1), (right, "efficiency_to_48", 48)):
                some = [(p["ranks"], p[key]) for p in points if key in p and p["ranks"] >= first]
                if len(some) > 1 and not (axes is right and "sirt" in name):
                    label = f"{name}; {network}"
                    axes.plot(*zip(*some, strict=True), styles[network], color=f"C{number}", label=label)
    minutes = PAPER_MINUTES
    right.plot(
        list(minutes),
        [minutes[48] * 48 / t / n for n, t in minutes.items()],
        "ks",
        label="Wang et al. 2020, table 1",
    )
    left.set(xlabel="ranks", ylabel="parallel efficiency", title="relative to 1 rank", ylim=(0.0, 1.1))
    right.set(xlabel="ranks", title="relative to 48 ranks")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=6, loc="lower left")
    figure.savefig(path, dpi=120)


def main() -> None:
    workers = {"worker-run": worker_run, "worker-rates": worker_rates, "worker-network": worker_network}
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
    parser.add_argument("--rounds", type=int, default=3)
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
    cg = replace(job, method="cg")
    if found.only in (None, "measure"):
        stored |= {
            "machine": f"{platform.machine()}, {CORES} cores, Python {platform.python_version()}",
            "job": asdict(job), "rounds": found.rounds,
            "measured": {
                "consensus": strong_scaling(job, LAYOUTS, found), "cg": strong_scaling(cg, CG_LAYOUTS, found)
            },
        }  # fmt: skip
    if found.only in (None, "measure", "traffic") and "measured" in stored:
        own = {"consensus": job, "cg": cg}
        compared = [
            c for name in own for row in stored["measured"][name] for c in compare_traffic(own[name], row)
        ]
        stored["traffic"] = compared + many_ranks(found)
    if found.only in (None, "rates"):
        paper = Job(found.paper_size, found.paper_depth, found.paper_tilts)
        stored["rates_alone"] = asdict(rates_of(job, 1, found.work, found.limit))
        stored["rates_busy"] = asdict(rates_of(job, CORES, found.work, found.limit))
        stored["rates_paper"] = asdict(rates_of(paper, CORES, found.work, found.limit))
        stored["network"] = asdict(network_here(job, found.work, found.limit))
    if found.only in (None, "model", "rates", "measure") and {"rates_alone", "measured"} <= stored.keys():
        say("the model")
        measured = stored["measured"]
        # iterations of cg without the exact pass: the median of five
        stored["validation"] = model_here(job, measured["consensus"], stored) + model_here(
            cg, measured["cg"], stored
        )
        stored["model"] = model_paper(found, stored)
        draw(stored, found.results / "scaling.png")
    path.write_text(json.dumps(stored, indent=1) + "\n")
    (found.results / "scaling.md").write_text(report(stored))
    print(report(stored))


if __name__ == "__main__":
    main()
