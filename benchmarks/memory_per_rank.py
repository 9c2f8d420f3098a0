"""Peak memory of one rank of many on the paper's job, without the others.

    python benchmarks/memory_per_rank.py WORK      # into benchmarks/results/memory_per_rank.{json,md,png}

The job's own code runs in a fresh process as rank (group, 0) of a layout, for two iterations and the projections
at the end. Its MPI communicator is a stand-in: what others would have sent is made up (zeros, or this rank's own
numbers), but every array is allocated as in a real run, because all above the communicator is the real code.
This is held against real mpiexec runs of a small job first (``--only validation``).

The reference is FULL-SIRT as the paper has it: one process of 48 that holds the whole series, its slab, the
back-projection and the weights.
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
from unittest import mock

import numpy as np

RESULTS = Path(__file__).parent / "results"
AXES = (0.0, 45.0, 90.0, 135.0)
SUBSETS = (4, 8, 16, 32)
SLABS = (1, 24)  # the paper has 24 cores a node: 32 subsets on 768
FULL_SIRT_SLABS = 48
PAPER_REDUCTION = 0.97  # "a 97% decrease in memory overhead" at 32 subsets
METHODS: dict[str, dict[str, int]] = {
    "consensus": {},
    "wang2020": {"inner_iterations": 2},
}  # more steps take no more memory
MIB = 2**20


# --- a communicator without others --------------------------------------------------------------------------


class NoOthers:
    """What `manyviews.parallel.mpi.MpiWorld` asks of an MPI communicator, as rank ``rank`` of ``size``."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def Get_rank(self) -> int:
        return self.rank

    def Get_size(self) -> int:
        return self.size

    def Ibarrier(self) -> Any:
        return _done()

    def Isend(self, message: Any, target: int) -> Any:
        return _done()

    def Irecv(self, message: Any, source: int) -> Any:
        message[...] = 0  # every page is touched, as by a real message
        return _done()

    def Iallgather(self, own: Any, everyone: Any) -> Any:
        if own.dtype == np.int64:  # lengths of texts: all say the same
            everyone[...] = own
        else:  # bytes of a small sum: the others have nothing to add
            everyone[...] = 0
            everyone.reshape(self.size, -1)[self.rank] = own
        return _done()

    def Allgatherv(self, own: Any, whole: Any) -> None:
        whole[0][...] = np.tile(own, self.size)

    def Ibcast(self, own: Any, root: int) -> Any:
        return _done()

    def Bcast(self, own: Any, root: int) -> None:
        pass


def _done() -> Any:
    from mpi4py import MPI

    return MPI.REQUEST_NULL


# --- workers: one fresh process each ------------------------------------------------------------------------


def peaks(told: dict[str, int], name: str) -> None:
    from manyviews.runs.memory import peak_memory_bytes

    told[name] = peak_memory_bytes()


def worker_rank(wish: dict[str, Any]) -> dict[str, int]:
    """Rank ``(group, slab)`` of a layout."""
    import torch
    from mpi4py import MPI  # noqa: F401  its memory counts

    from manyviews.parallel.launch import set_threads
    from manyviews.parallel.layout import Layout, Place
    from manyviews.parallel.mpi import MpiWorld
    from manyviews.parallel.world import SingleWorld, World
    from manyviews.solvers.driver import advance
    from manyviews.solvers.state import SolverState
    from manyviews.tilt.methods import make_solver
    from manyviews.tilt.options import ReconstructOptions, SeriesOptions
    from manyviews.tilt.plan import resolve_plan
    from manyviews.tilt.reconstruct import make_problem
    from manyviews.tilt.results import reprojection
    from manyviews.tilt.series.images import ImageSource
    from manyviews.tilt.series.resolve import resolve_series

    told: dict[str, int] = {}
    set_threads(1)
    peaks(told, "imports")
    if wish.get("series_bytes"):  # FULL-SIRT has all images in memory
        series = torch.ones(wish["series_bytes"] // 4)
        peaks(told, "series")
    layout, (group, slab) = Layout.parse(wish["layout"]), wish["rank"]

    def world(rank: int, size: int) -> World:
        return MpiWorld(NoOthers(rank, size)) if size > 1 else SingleWorld()  # type: ignore[arg-type]

    place = Place(
        layout,
        world(group * layout.slabs + slab, layout.ranks),
        world(slab, layout.slabs),
        world(group, layout.groups),
    )
    stacks = tuple(sorted(Path(wish["data"]).glob("axis-*.mrc")))
    source = ImageSource(resolve_series(SeriesOptions(stacks, axis_angle=AXES)))
    settings = resolve_plan(ReconstructOptions(**wish["options"]), source)
    problem, images = make_problem(source, settings, place)
    solver = make_solver(problem, settings)
    state: SolverState = solver.init()
    for _ in range(2):
        state, _ = advance(solver, state, measure_change=False, space=problem.space)
    peaks(told, "iterations")
    volume = state.iterate
    del solver, state
    reprojection(problem, images, volume)
    peaks(told, "all")
    if wish.get("series_bytes"):
        assert float(series[-1]) == 1.0
    return told


def in_fresh_process(wish: dict[str, Any], limit: float) -> dict[str, int]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    found = subprocess.run(
        [sys.executable, __file__, "worker", json.dumps(wish)],
        check=True, capture_output=True, text=True, env=environment, timeout=limit,
    )  # fmt: skip
    told: dict[str, int] = json.loads(found.stdout.splitlines()[-1])
    return told


# --- cases --------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}, load {os.getloadavg()[0]:.1f}] {text}", flush=True)


def simulate(work: Path, size: int, depth: int, tilts: int) -> Path:
    data = work / f"data-{size}-{depth}-{tilts}"
    if not (data / "simulate.toml").exists():
        say(f"simulating {len(AXES)} x {tilts} views of {size} x {size}, {depth} slices")
        words = ["--size", size, "--thickness", depth, "--tilt-step", 120.0 / (tilts - 1), "--noise", 0.3]
        subprocess.run(
            [sys.executable, "-m", "manyviews.cli", "tilt", "simulate", "--out", str(data), "--quiet",
             "--seed", "1", *map(str, words)], check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    return data


def wish_for(
    data: Path, depth: int, method: str, subsets: int, layout: str, rank: list[int]
) -> dict[str, Any]:
    """What a worker is told."""
    options: dict[str, Any] = {"thickness": depth, "method": method, "threads": 1, **METHODS.get(method, {})}
    if method in METHODS:
        options["subsets"] = subsets
    return {"data": str(data), "options": options, "layout": layout, "rank": rank}


def groups_to_try(subsets: int) -> list[int]:
    """Group 0 has an axis along the pixels, the other one of 45 degrees: they work in different ways."""
    return [0, subsets // len(AXES)]


def rank_of_many(
    found: argparse.Namespace, data: Path, method: str, subsets: int, slabs: int
) -> dict[str, Any]:
    """The larger of two groups' first ranks, which have the thickest slab."""
    layout = f"{subsets}x{slabs}"
    tried = []
    for group in groups_to_try(subsets):
        say(f"{method}, {layout}, rank 0 of group {group}")
        wish = wish_for(data, found.depth, method, subsets, layout, [group, 0])
        tried.append({"group": group, **in_fresh_process(wish, found.limit)})
    largest = max(tried, key=lambda told: told["all"])
    return {"method": method, "subsets": subsets, "slabs": slabs, **largest, "tried": tried}


def full_sirt(found: argparse.Namespace, data: Path) -> dict[str, Any]:
    """FULL-SIRT's process: as the paper has it by number, and with the real libraries and our slab's code."""
    slab_voxels = -(-found.depth // FULL_SIRT_SLABS) * found.size**2
    series_bytes = 4 * len(AXES) * found.tilts * found.size**2
    wish = wish_for(data, found.depth, "sirt", 1, f"1x{min(FULL_SIRT_SLABS, found.depth)}", [0, 0])
    say("FULL-SIRT: the whole series beside our sirt on a slab")
    measured = in_fresh_process(wish | {"series_bytes": series_bytes}, found.limit)
    return {"computed": series_bytes + 3 * 4 * slab_voxels, "series": series_bytes, "measured": measured}


def validate(found: argparse.Namespace) -> list[dict[str, Any]]:
    """Stand-ins for all ranks of small layouts beside real runs of them."""
    size, depth, tilts = found.small
    data, compared = simulate(found.work, size, depth, tilts), []
    for method, layout in [(m, n) for m in METHODS for n in ("2x1", "1x2", "2x2")] + [("sirt", "1x2")]:
        groups, slabs = map(int, layout.split("x"))
        real = real_peaks(found, data, wish_for(data, depth, method, 4, layout, [0, 0]), groups * slabs)
        alone = [
            in_fresh_process(wish_for(data, depth, method, 4, layout, [group, slab]), found.limit)["all"]
            for group in range(groups)
            for slab in range(slabs)
        ]
        ratios = [one / other for one, other in zip(alone, real, strict=True)]
        largest, worst = max(alone) / max(real), max(ratios, key=lambda ratio: abs(ratio - 1.0))
        say(f"{method} {layout}: {largest:.3f} of mpiexec's largest, worst rank {worst:.3f}")
        compared.append(
            {
                "method": method,
                "layout": layout,
                "mpiexec": real,
                "stand_in": alone,
                "largest_ratio": largest,
                "worst_ratio": worst,
            }
        )
    return compared


def real_peaks(found: argparse.Namespace, data: Path, wish: dict[str, Any], ranks: int) -> list[int]:
    """Peak of every rank of a real run, from the same place as the run's own summary."""
    told = found.work / "peaks.json"
    told.unlink(missing_ok=True)
    folder = Path(sys.executable).parent
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "PATH": f"{folder}:{os.environ['PATH']}"
    }  # fmt: skip
    wish = {**wish, "out": str(found.work / "run"), "told": str(told)}
    subprocess.run(
        ["mpiexec", "-n", str(ranks), sys.executable, __file__, "worker-real", json.dumps(wish)],
        check=True, env=environment, timeout=found.limit, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return list(json.loads(told.read_text()))


def worker_real(wish: dict[str, Any]) -> None:
    """A rank of a real run, told its peak when the results are written and before the report is made."""
    from manyviews.jobs import run as frame
    from manyviews.options import RunOptions
    from manyviews.parallel.launch import start_world
    from manyviews.runs.memory import peak_memory_bytes
    from manyviews.tilt import reconstruct as job
    from manyviews.tilt.options import ReconstructOptions, SeriesOptions

    world = start_world()
    found: list[int] = []

    def kept() -> int:
        found.append(peak_memory_bytes())
        return found[-1]

    stacks = tuple(sorted(Path(wish["data"]).glob("axis-*.mrc")))
    options = ReconstructOptions(**wish["options"], layout=wish["layout"], iterations=2)
    run = RunOptions(Path(wish["out"]), overwrite=True, quiet=True, checkpoint_seconds=1e9)
    with mock.patch.object(frame, "peak_memory_bytes", kept):  # what the job asks when it sums up
        job.reconstruct(SeriesOptions(stacks, axis_angle=AXES), options, run, world=world)
    everyone = world.gather(found[-1])
    if world.rank == 0:
        Path(wish["told"]).write_text(json.dumps(everyone))


# --- telling ------------------------------------------------------------------------------------------------


def reductions(rows: list[dict[str, Any]], base: int, reference: dict[str, Any]) -> None:
    """Against FULL-SIRT: whole processes, and what each holds beyond its libraries."""
    whole, beyond = reference["measured"]["all"], reference["measured"]["all"] - base
    for row in rows:
        row["beyond_base"] = row["all"] - base
        row["reduction_whole"] = 1.0 - row["all"] / whole
        row["reduction_beyond"] = 1.0 - row["beyond_base"] / beyond
        row["reduction_to_computed"] = 1.0 - row["beyond_base"] / reference["computed"]


def report(stored: dict[str, Any]) -> str:
    parts = [f"Made by `benchmarks/memory_per_rank.py` on {stored['machine']}; do not edit.\n"]
    if "cases" in stored:
        reference, base = stored["full_sirt"], stored["base"]
        size, depth, tilts = stored["job"]
        parts.append(
            f"{size} x {size} x {depth} from 4 x {tilts} views, one thread. Interpreter, libraries and compiled "
            f"kernels alone: {base / MIB:.0f} MiB (the same process on a tiny job). FULL-SIRT's process holds "
            f"{reference['computed'] / MIB:.0f} MiB by number (series {reference['series'] / MIB:.0f}), measured "
            f"{reference['measured']['all'] / MIB:.0f} MiB with libraries, "
            f"{(reference['measured']['all'] - base) / MIB:.0f} beyond them.\n"
        )
        parts.append(
            "| method | subsets x slabs | ranks | peak MiB | while iterating | beyond libraries | less than FULL-SIRT: "
            "whole process | beyond libraries | beyond libraries, by number |\n" + "| --- " * 9 + "|"
        )
        parts += [
            f"| {row['method']} | {row['subsets']} x {row['slabs']} | {row['subsets'] * row['slabs']} "
            f"| {row['all'] / MIB:.0f} | {row['iterations'] / MIB:.0f} | {row['beyond_base'] / MIB:.0f} "
            f"| {row['reduction_whole']:.0%} | {row['reduction_beyond']:.0%} | {row['reduction_to_computed']:.0%} |"
            for row in stored["cases"]
        ]
        parts.append(f"\nThe paper reports {PAPER_REDUCTION:.0%} less at 32 subsets.\n")
    if "validation" in stored:
        parts.append(
            "The stand-in beside real runs under mpiexec, a small job:\n\n"
            "| method | layout | mpiexec MiB, by rank | stand-in | largest, ratio | worst rank, ratio |\n"
            + "| --- " * 6 + "|"
        )  # fmt: skip
        for row in stored["validation"]:
            real, alone = (", ".join(f"{p / MIB:.0f}" for p in row[key]) for key in ("mpiexec", "stand_in"))
            parts.append(
                f"| {row['method']} | {row['layout']} | {real} | {alone} | {row['largest_ratio']:.3f} "
                f"| {row['worst_ratio']:.3f} |"
            )
    return "\n".join(parts) + "\n"


def draw(stored: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    cases = stored["cases"]
    for number, (method, slabs) in enumerate(sorted({(row["method"], row["slabs"]) for row in cases})):
        some = [row for row in cases if (row["method"], row["slabs"]) == (method, slabs)]
        counts, beyond = [row["subsets"] for row in some], [row["beyond_base"] / MIB for row in some]
        axes.plot(counts, beyond, "o-", color=f"C{number}", label=f"{method}, subsets x {slabs}")
    full = (stored["full_sirt"]["measured"]["all"] - stored["base"]) / MIB
    axes.axhline(full, color="k", label="FULL-SIRT, a process of 48")
    axes.plot([32], [(1.0 - PAPER_REDUCTION) * full], "k*", ms=11, label="the paper's -97 %")
    axes.set(xlabel="subsets", ylabel="MiB a rank beyond the libraries")
    axes.set_xscale("log")
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter("{x:.0f}")
    axes.set_xticks(sorted({row["subsets"] for row in cases}), sorted({row["subsets"] for row in cases}))
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def main() -> None:
    if sys.argv[1:2] == ["worker"]:
        print(json.dumps(worker_rank(json.loads(sys.argv[2]))))
        return
    if sys.argv[1:2] == ["worker-real"]:
        worker_real(json.loads(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--depth", type=int, default=58)
    parser.add_argument("--tilts", type=int, default=121, help="views about each axis")
    parser.add_argument("--subsets", type=int, nargs="+", default=SUBSETS)
    parser.add_argument("--slabs", type=int, nargs="+", default=SLABS)
    parser.add_argument("--small", type=int, nargs=3, default=(384, 32, 25), help="of the validation")
    parser.add_argument("--only", choices=["validation", "cases"], help="keep the rest as it is in the file")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds that one process may take")
    parser.add_argument("--results", type=Path, default=RESULTS)
    found = parser.parse_args()
    found.work.mkdir(parents=True, exist_ok=True)
    found.results.mkdir(parents=True, exist_ok=True)
    path = found.results / "memory_per_rank.json"
    stored: dict[str, Any] = json.loads(path.read_text()) if found.only and path.exists() else {}
    stored["machine"] = f"{platform.machine()}, Python {platform.python_version()}"
    if found.only != "cases":
        stored["validation"] = validate(found)
    if found.only != "validation":
        data = simulate(found.work, found.size, found.depth, found.tilts)
        tiny = simulate(found.work, 32, 18, 5)
        say("the libraries alone")
        base = in_fresh_process(wish_for(tiny, 18, "consensus", 4, "4x2", [1, 0]), found.limit)["all"]
        cases = [
            rank_of_many(found, data, method, subsets, slabs)
            for method in METHODS
            for slabs in found.slabs
            for subsets in found.subsets
        ]
        reference = full_sirt(found, data)
        reductions(cases, base, reference)
        stored |= {
            "job": [found.size, found.depth, found.tilts], "base": base, "full_sirt": reference, "cases": cases
        }  # fmt: skip
        draw(stored, found.results / "memory_per_rank.png")
    path.write_text(json.dumps(stored, indent=1) + "\n")
    (found.results / "memory_per_rank.md").write_text(report(stored))
    print(report(stored))


if __name__ == "__main__":
    main()
