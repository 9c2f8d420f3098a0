"""The model of time of `scaling.py`: rates measured on one core, counted traffic, a network; tables and a figure.

Seconds of an outer iteration = compute (ceilings of slabs and subsets) + exchange (bytes over bandwidth, messages
times latency), for the measured job to see how far it is off, and for the paper's on 1 to 1,024 ranks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from manyviews.operators.row_shares import RowShares
from manyviews.parallel.layout import Layout, useful_layouts
from scaling_traffic import AXES, Calls, Job, Views, measured_by, own_agents, traffic_of, views_of

RANKS = (1, 2, 4, 8, 16, 24, 32, 48, 96, 128, 192, 256, 384, 512, 768, 1024)
# Wang et al. 2020, table 1: minutes on so many cores of Tianhe-2, 24 a node. Its text gives 80 % at 192, 76 %
PAPER_MINUTES = {48: 565.0, 96: 290.0, 192: 175.0, 384: 90.0, 768: 46.0}


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
            latency = self.latency + away * self.link_latency  # software's, and the wire's
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
CLUSTERS = {  # bytes a second that a node sends to others, latency of the wire in seconds
    "100 Gb/s, 2 us": (12.5e9, 2e-6),
    "Tianhe-2, 6.3 GB/s, 1.6 us": (6.34e9, 1.57e-6),
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
            bins = float(sum(count * pixels for count, pixels in views.blocks))
            by_rows = slabs > 1 and views.axes * self.job.depth <= slabs * views.count
            bins = bins / slabs if by_rows else bins
            changed = 4 * 4 * slices * size**2 * rates.copy * by_rows
            return views.count * slices * size**2 * rates.stream + bins * rates.detector + changed
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
        """One agent: operators, and vectors as `DataTerm` and `PrintedGradientSteps` have them."""
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
            computes.append(self._compute(layout, group))
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

    def _compute(self, layout: Layout, group: int) -> float:
        job, slabs = self.job, layout.slabs
        if job.method in {"cg", "sirt"}:
            whole = views_of(job, tuple(range(len(AXES) * job.tilts)), False)
            adds, inners = (5, 5) if job.method == "cg" else (4, 3)
            return self._normal(whole, slabs) + self._vectors(adds, inners, slabs)
        own = own_agents(job, layout, group)
        agents = sum(self._agent(views_of(job, picked, True), slabs) for picked in own)
        return agents + self._vectors(len(own) + 1, 3, slabs) + self._objective(measured_by(job, own), slabs)


def useful(count: int) -> list[int]:
    """Numbers of parts of which none does with fewer for the same greatest share."""
    shares_ = [-(-count // parts) for parts in range(1, count + 1)]
    return [1, *(parts for parts in range(2, count + 1) if shares_[parts - 1] < shares_[parts - 2])]


def model_curve(job: Job, rates: Rates, network: Network) -> list[dict[str, Any]]:
    """The job on more and more ranks, 1 rank first, placed as by the software: see `chosen`."""
    found: list[dict[str, Any]] = []
    subsets = job.subsets if job.method in {"consensus", "wang2020"} else 1
    slabs_only = (*(ranks for ranks in RANKS if ranks < job.depth), job.depth)
    layouts = [Layout(groups, slabs) for groups in useful(subsets) for slabs in useful(job.depth)]
    model = Model(job, rates, network)
    every = {layout: model.iteration(layout).total for layout in layouts if layout.ranks <= max(RANKS)}
    for ranks in slabs_only if subsets == 1 else RANKS:
        layout = chosen(model, useful_layouts(ranks, subsets, job.depth))
        spent = model.iteration(layout)
        sent, messages = traffic_of(job, layout).total()
        best = min((one for one in every if one.ranks <= ranks), key=every.__getitem__)
        found.append(
            {
                "ranks": ranks, "layout": str(layout), "seconds": spent.total, "compute": spent.compute,
                "slabs": spent.slabs, "mean": spent.mean, "efficiency": found[0]["seconds"] / spent.total / ranks
                if found else 1.0, "bytes": sent, "messages": messages,
                "gain_overlap": min(spent.mean, spent.compute) / spent.total,
                "gain_half_precision": 0.5 * spent.mean / spent.total,
                "best": str(best), "best_seconds": every[best],
            }
        )  # fmt: skip
    at_48 = next((point for point in found if point["ranks"] == 48), None)
    for point in found:
        if at_48:
            point["efficiency_to_48"] = at_48["seconds"] * 48 / point["seconds"] / point["ranks"]
    return found


def chosen(model: Model, layouts: list[Layout]) -> Layout:
    """The rule of `manyviews.tilt.cost.schedule`, with the seconds of this model in the place of its own."""
    seconds = {layout: model.iteration(layout).total for layout in layouts}
    least = min(seconds.values())
    return next(layout for layout in layouts if seconds[layout] <= 1.1 * least)


def model_here(run: dict[str, Any], stored: dict[str, Any], cores: int) -> dict[str, Any]:
    """The model beside a measured run."""
    job = Job(**run["job"])
    rates = Rates(**stored["rates_alone" if run["ranks"] == 1 else "rates_busy"])
    spent = Model(job, rates, Network(**stored["network"]), cores).iteration(Layout.parse(run["layout"]))
    return {
        "method": job.method,
        "layout": run["layout"],
        "measured": run["seconds"],
        "model": spent.total,
        "model_compute": spent.compute,
        "model_slabs": spent.slabs,
        "model_mean": spent.mean,
        "error": spent.total / run["seconds"] - 1.0,
    }


def model_paper(paper: Job, stored: dict[str, Any]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Curves by network and job."""
    here = Network(**stored["network"])
    cluster = replace(here, ranks_per_node=RANKS_PER_NODE, node_memory=NODE_MEMORY)
    clusters = [
        replace(cluster, name=name, node_link=link, link_latency=latency)
        for name, (link, latency) in CLUSTERS.items()
    ]
    networks = [here, *clusters]
    rates = Rates(**stored["rates_paper"])
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


def model_tables(stored: dict[str, Any]) -> list[str]:
    """The model beside measured times, and its curves."""
    parts = []
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
                    "mean", "overlap gains at most", "half precision of the mean", "GB sent",
                    "best layout by the model", "s"]  # fmt: skip
            parts.append(table(head, [
                [str(p["ranks"]), p["layout"], f"{p['seconds']:.3g}", f"{p['efficiency']:.0%}",
                 f"{p['efficiency_to_48']:.0%}" if "efficiency_to_48" in p else "",
                 f"{p['slabs'] / p['seconds']:.1%}", f"{p['mean'] / p['seconds']:.1%}",
                 f"{p['gain_overlap']:.1%}", f"{p['gain_half_precision']:.1%}", f"{p['bytes'] / 1e9:.2f}",
                 p["best"], f"{p['best_seconds']:.3g}"]
                for p in points
            ]) + "\n")  # fmt: skip
    return parts


def draw(stored: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(10.0, 5.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    styles = dict(zip(stored["model"], ("-", "--", ":"), strict=True))
    names = list(next(iter(stored["model"].values())))
    for network, curves in stored["model"].items():
        for number, points in enumerate(curves.values()):
            for axes, key, first in ((left, "efficiency", 1), (right, "efficiency_to_48", 48)):
                some = [(p["ranks"], p[key]) for p in points if key in p and p["ranks"] >= first]
                if some and (axes is left or some[-1][0] > 2 * first):
                    axes.plot(*zip(*some, strict=True), styles[network], color=f"C{number}")
    minutes = PAPER_MINUTES
    right.plot(list(minutes), [minutes[48] * 48 / time_ / ranks for ranks, time_ in minutes.items()], "ks")
    left.set(xlabel="ranks", ylabel="parallel efficiency", title="relative to 1 rank", ylim=(0.0, 1.1))
    right.set(xlabel="ranks", title="relative to 48 ranks")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.grid(alpha=0.3)
    lines = [Line2D([], [], color=f"C{number}", label=name) for number, name in enumerate(names)]
    lines += [Line2D([], [], color="k", ls=style, label=network) for network, style in styles.items()]
    lines.append(Line2D([], [], color="k", marker="s", ls="", label="Wang et al. 2020, table 1"))
    figure.legend(handles=lines, loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(path, dpi=120)
