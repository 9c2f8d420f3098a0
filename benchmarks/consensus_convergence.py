"""How consensus converges with many subsets: ``python benchmarks/consensus_convergence.py`` (40 min on a core).

Four axes of 41 tilts, divided into 4 to 64 subsets, with and without overlap, adjacent and interleaved angles, two
Mann factors, several anchors; `consensus` and the paper's `wang2020`. After every outer iteration: how far the
agents disagree, how far the objective is above its minimum, how far the volume is from the truth. Writes
``benchmarks/results/consensus_convergence.json`` (every curve, saved after every run), ``.md`` and ``.png``;
``--resume`` keeps the runs that are there. ``docs/convergence.md`` says what came out.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import manyviews.tilt.methods as methods
import manyviews.tilt.solve.problem as tilt_problem
from accuracy import (
    AXES,
    NOISE,
    RESULTS,
    TILTS,
    TOTAL_VARIATION,
    VOLUME_SHAPE,
    Case,
    cases,
    machine,
    prepared,
    set_threads,
    summary,
)
from manyviews.metrics.error import relative_error
from manyviews.solvers.least_squares import LeastSquares
from manyviews.solvers.state import SolverState
from manyviews.tilt.options import Method, ReconstructOptions, SubsetOrder
from manyviews.tilt.solve.subsets import make_subsets

SUBSETS = (4, 8, 16, 32, 64)
SEEDS = (1, 2, 3)
OUTER = 40
# Outer iterations where there are no error bars: 160 and 200 passes.
GRID_OUTER: dict[Method, int] = {"consensus": OUTER, "wang2020": 20}
# Over an agent's own views, an outer iteration.
PASSES: dict[Method, int] = {"consensus": 4, "wang2020": 10}
ANCHOR = 0.03  # in units of the largest eigenvalue of W'W, divided by the number of subsets
ANCHORS = (0.01, 0.02, 0.023, 0.06, 0.1)  # more of them; 0.023 is the program's
ANCHOR_SUBSETS = (4, 32, 64)
MANN = (0.65, 0.9)  # besides 0.5 and 0.8
MANN_SUBSETS = (4, 32)
FEW = (1, 2)
PRIOR_SUBSETS = (1, 4, 16, 64)
PRIOR_ANCHORS = ((4, 0.1), (64, 0.1), (64, 0.3))  # subsets, anchor
REFERENCE_ROUNDS, REFERENCE_ITERATIONS = 2, 150
CG_ITERATIONS = 160
LEVEL = 0.1  # "there" in the tables: (f - f*) / f* below it
LOOKS = (10, 20, 40)
ORDERS: tuple[SubsetOrder, ...] = ("interleaved", "adjacent")
Division = tuple[SubsetOrder, int, float]  # order of the angles, overlap, Mann factor
BARRED: tuple[Division, ...] = (
    ("interleaved", 0, 0.8),
    ("adjacent", 0, 0.8),
    ("interleaved", 2, 0.8),
    ("interleaved", 0, 0.5),
)
KEYS = ("excess", "disagreement", "error")
DEFAULT_DIRECT = tilt_problem.VIEWS_PER_CONVOLUTION


@dataclass(frozen=True)
class Setting:
    """One run.

    ``direct``: with small upright subsets projected directly, as the program does it. ``priors``: undamped, with
    agents for total variation and non-negativity.
    """

    method: Method
    subsets: int
    overlap: int
    order: SubsetOrder
    mann: float
    seed: int = 1
    anchor: float = ANCHOR
    direct: bool = False
    iterations: int = OUTER
    priors: bool = False

    def options(self, total_variation: float) -> ReconstructOptions:
        """As the program is told."""
        return ReconstructOptions(
            damping=0.0 if self.priors else None,
            non_negative=self.priors,
            total_variation=total_variation if self.priors else 0.0,
            method=self.method,
            subsets=self.subsets,
            overlap=self.overlap,
            subset_order=self.order,
            mann=self.mann,
        )


def settings(seed: int) -> Iterator[Setting]:
    """The whole grid and the extras for the first seed, the settings with error bars for the others."""
    grid: list[Division] = [
        (order, overlap, mann) for order in ORDERS for overlap in (0, 2) for mann in (0.8, 0.5)
    ]
    barred: dict[Method, tuple[Division, ...]] = {"consensus": BARRED, "wang2020": (("adjacent", 2, 0.8),)}
    for method, with_bars in barred.items():
        for order, overlap, mann in grid if seed == SEEDS[0] else with_bars:
            full = (order, overlap, mann) in with_bars
            for subsets in SUBSETS:
                outer = OUTER if full else GRID_OUTER[method]
                yield Setting(method, subsets, overlap, order, mann, seed, iterations=outer)
    if seed == SEEDS[0]:
        for subsets in ANCHOR_SUBSETS:
            for anchor in ANCHORS:
                yield Setting("consensus", subsets, 0, "interleaved", 0.8, seed, anchor)
        for subsets in MANN_SUBSETS:
            yield Setting("consensus", subsets, 0, "interleaved", 0.8, seed, direct=True)
            for mann in MANN:
                yield Setting("consensus", subsets, 0, "interleaved", mann, seed)
        for subsets in FEW:
            yield Setting("consensus", subsets, 0, "interleaved", 0.8, seed)
        for subsets in PRIOR_SUBSETS:
            yield Setting("consensus", subsets, 0, "interleaved", 0.8, seed, priors=True)
        for subsets, anchor in PRIOR_ANCHORS:
            yield Setting("consensus", subsets, 0, "interleaved", 0.8, seed, anchor, priors=True)


@dataclass(frozen=True)
class Reference:
    """The damped least-squares problem of all views and its minimum f*, by convolution."""

    case: Case
    whole: LeastSquares
    answer: torch.Tensor
    gradient: torch.Tensor
    lowest: float

    def excess(self, volume: torch.Tensor) -> float:
        """``(f - f*) / f*``, from the distance to the answer, which is exact also where f is near f*."""
        away = volume - self.answer
        return (0.5 * dot(away, self.whole.hessian(away)) + dot(self.gradient, away)) / self.lowest

    def look(self, volume: torch.Tensor) -> tuple[float, float]:
        """Excess, and error against the truth."""
        return self.excess(volume), float(relative_error(volume.numpy(), self.case.truth))


def dot(a: torch.Tensor, b: torch.Tensor) -> float:
    """Inner product in float64."""
    return float(torch.dot(a.reshape(-1).double(), b.reshape(-1).double()))


def reference(seed: int) -> tuple[Reference, list[list[float]]]:
    """The problem of a seed and its answer, and what plain conjugate gradients do on the way: excess and error."""
    case = next(cases(seed))[1]
    whole = prepared(ReconstructOptions(method="consensus"), case.views, VOLUME_SHAPE[0])[1].least_squares()
    answer = torch.zeros_like(whole.target)
    for _ in range(REFERENCE_ROUNDS):
        *_, last = conjugate_gradient(whole, answer, REFERENCE_ITERATIONS)
        answer = last
    bent = whole.hessian(answer)
    lowest = 0.5 * dot(answer, bent) - dot(whole.target, answer) + 0.5 * whole.data_energy
    found = Reference(case, whole, answer, bent - whole.target, lowest)
    on_the_way = conjugate_gradient(whole, torch.zeros_like(answer), CG_ITERATIONS)
    return found, [list(curve) for curve in zip(*(found.look(volume) for volume in on_the_way), strict=True)]


def conjugate_gradient(whole: LeastSquares, start: torch.Tensor, iterations: int) -> Iterator[torch.Tensor]:
    """Volumes on the way to the minimum."""
    volume = start.clone()
    residual = whole.target - whole.hessian(volume)
    direction, slope = residual.clone(), dot(residual, residual)
    for _ in range(iterations):
        bent = whole.hessian(direction)
        length = slope / dot(direction, bent)
        volume = volume + length * direction
        residual -= length * bent
        previous, slope = slope, dot(residual, residual)
        direction = residual + slope / previous * direction
        yield volume


def follow(setting: Setting, known: Reference) -> dict[str, Any]:
    """One run: its curves, and how many views its largest subset holds."""
    # Otherwise all subsets as convolutions, so that their objectives add up to the whole one exactly.
    tilt_problem.VIEWS_PER_CONVOLUTION = DEFAULT_DIRECT if setting.direct else 0
    case = known.case
    options = setting.options(TOTAL_VARIATION * case.noise_std**2 / float(case.truth.std()))
    settled, problem, _ = prepared(options, case.views, VOLUME_SHAPE[0])
    # the program counts anchors in a simpler bound of the largest eigenvalue
    methods._ANCHOR = setting.anchor * known.whole.lipschitz / problem.spectral_bound
    geometry = problem.projector.geometry
    held = make_subsets(geometry, setting.subsets, setting.overlap, setting.order)
    solver = methods.make_solver(problem, settled)
    state: SolverState = solver.init()
    curves: dict[str, list[float]] = {key: [] for key in KEYS}
    for _ in range(setting.iterations):
        state = solver.step(state)
        excess, error = known.look(state.iterate)
        for key, value in zip(KEYS, (excess, state.measures()["disagreement"], error), strict=True):
            curves[key].append(float(f"{value:.4g}"))
    views = max(len(subset.views) for subset in held)
    return {**asdict(setting), "largest subset": views, **curves}


def chosen(runs: list[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    """Runs with these settings; what is not given is the default."""
    wanted = {"anchor": ANCHOR, "direct": False, "priors": False, **wanted}
    return [run for run in runs if all(run[key] == value for key, value in wanted.items())]


def work(run: dict[str, Any]) -> float:
    """Passes over the whole series that an outer iteration costs a rank with one subset, by projectors."""
    views = len(AXES) * len(TILTS)
    return float(PASSES[run["method"]] * run["largest subset"] / views)


def needed(curve: list[float]) -> float:
    """Outer iterations until `LEVEL`, between iterations by the logarithm; NaN where it is not reached."""
    below = np.flatnonzero(np.array(curve) <= LEVEL)
    if not len(below) or below[0] == 0:
        return float(below[0] + 1) if len(below) else float("nan")
    last = int(below[0])
    before, after = np.log(curve[last - 1 : last + 1])
    return float(last + (before - np.log(LEVEL)) / (before - after))


def bar(values: list[float], digits: int) -> str:
    """Mean and deviation over seeds, or the one value."""
    if any(np.isnan(values)):
        return "not reached"
    return summary(values, digits) if len(values) > 1 else f"{values[0]:.{digits}f}"


def headline(runs: list[dict[str, Any]], method: str, order: str, overlap: int, mann: float) -> list[str]:
    """A table over numbers of subsets, with error bars."""
    looks = [f"{{}} at {look}" for look in LOOKS]
    names = [look.format(key) for key in ("(f − f*) / f*", "disagreement", "error") for look in looks]
    lines = [
        f"**{method}, {order}, overlap {overlap}, Mann {mann:g}** (mean ± standard deviation over {len(SEEDS)} seeds)",
        "",
        "| subsets | "
        + " | ".join(names)
        + f" | outer iterations to {LEVEL:g} | passes a rank to {LEVEL:g} |",
        "|---" * (len(names) + 3) + "|",
    ]
    for subsets in SUBSETS:
        mine = chosen(runs, method=method, subsets=subsets, order=order, overlap=overlap, mann=mann)
        columns = [bar([run[key][look - 1] for run in mine], 4) for key in KEYS for look in LOOKS]
        iterations = [needed(run["excess"]) for run in mine]
        passes = [count * work(run) for count, run in zip(iterations, mine, strict=True)]
        lines.append(f"| {subsets} | " + " | ".join([*columns, bar(iterations, 1), bar(passes, 2)]) + " |")
    return [*lines, ""]


def variants(runs: list[dict[str, Any]], method: str, look: int) -> list[str]:
    """The full grid of one method after some outer iterations: excess and disagreement."""
    lines = [
        f"**{method} after {look} outer iterations** (seed 1): (f − f*) / f* / disagreement",
        "",
        "| angles | overlap | Mann | " + " | ".join(f"{count} subsets" for count in SUBSETS) + " |",
        "|---" * (len(SUBSETS) + 3) + "|",
    ]
    for order in ORDERS:
        for overlap in (0, 2):
            for mann in (0.8, 0.5):
                found = [
                    chosen(runs, method=method, subsets=n, order=order, overlap=overlap, mann=mann, seed=1)[0]
                    for n in SUBSETS
                ]
                cells = [
                    f"{run['excess'][look - 1]:.4f} / {run['disagreement'][look - 1]:.4f}" for run in found
                ]
                lines.append(f"| {order} | {overlap} | {mann:g} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def equal_work(runs: list[dict[str, Any]]) -> list[str]:
    """Excess when every rank, with one subset each, has done the same work."""
    budgets = (1.0, 2.5)
    lines = [
        "**At equal work a rank** (one subset a rank; in passes over the whole series; seed 1): (f − f*) / f* and, in "
        "brackets, outer iterations done",
        "",
        "| method | angles | overlap | work | " + " | ".join(f"{count} subsets" for count in SUBSETS) + " |",
        "|---" * (len(SUBSETS) + 4) + "|",
    ]
    for method in PASSES:
        for order in ORDERS:
            for overlap in (0, 2):
                for budget in budgets:
                    cells = []
                    for n in SUBSETS:
                        wanted = {
                            "method": method,
                            "subsets": n,
                            "order": order,
                            "overlap": overlap,
                            "mann": 0.8,
                        }
                        run = chosen(runs, seed=1, **wanted)[0]
                        done = min(int(budget / work(run)), len(run["excess"]))
                        cells.append(f"{run['excess'][done - 1]:.3f} ({done})" if done else "none yet")
                    lines.append(
                        f"| {method} | {order} | {overlap} | {budget:g} | " + " | ".join(cells) + " |"
                    )
    return [*lines, ""]


def specials(runs: list[dict[str, Any]]) -> list[str]:
    """Interleaved, no overlap, seed 1: anchors, Mann factors, few subsets, direct projection, priors."""
    plain = {"method": "consensus", "order": "interleaved", "overlap": 0, "mann": 0.8, "seed": 1}

    def table(title: str, key: str, values: Sequence[float], counts: Sequence[int]) -> list[str]:
        lines = [title, "", "| subsets | " + " | ".join(f"{key} {value:g}" for value in values) + " |"]
        lines.append("|---" * (len(values) + 1) + "|")
        for n in counts:
            cells = [
                at_looks(chosen(runs, **{**plain, "subsets": n, key: value})[0], "excess") for value in values
            ]
            lines.append(f"| {n} | " + " | ".join(cells) + " |")
        return [*lines, ""]

    looks = "(consensus, interleaved, overlap 0, seed 1), after 10 / 20 / 40 outer iterations"
    anchors, factors = sorted((*ANCHORS, ANCHOR)), sorted((*MANN, 0.5, 0.8))
    lines = table(f"**Anchor**, (f − f*) / f* {looks}", "anchor", anchors, ANCHOR_SUBSETS)
    lines += table(f"**Mann factor**, (f − f*) / f* {looks}", "mann", factors, MANN_SUBSETS)
    lines += [f"**Other runs** {looks}", "", "| run | subsets | (f − f*) / f* | disagreement | error |"]
    lines.append("|---|---|---|---|---|")
    special: list[tuple[str, int, dict[str, Any]]] = [("no priors", n, {}) for n in (*FEW, 4)]
    special += [("small upright subsets projected directly", n, {"direct": True}) for n in MANN_SUBSETS]
    special += [
        ("priors (total variation, non-negative; undamped)", n, {"priors": True}) for n in PRIOR_SUBSETS
    ]
    special += [(f"priors, anchor {a:g}", n, {"priors": True, "anchor": a}) for n, a in PRIOR_ANCHORS]
    for name, n, wanted in special:
        run = chosen(runs, **{**plain, "subsets": n, **wanted})[0]
        cells = [at_looks(run, key) for key in KEYS]
        if run["priors"]:
            cells[0] = "another objective"
        lines.append(f"| {name} | {n} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def at_looks(run: dict[str, Any], key: str) -> str:
    """One measure after 10, 20 and 40 outer iterations."""
    return " / ".join(f"{run[key][look - 1]:.4f}" for look in LOOKS)


def baseline(references: list[dict[str, Any]]) -> list[str]:
    """Conjugate gradients on the whole problem."""
    lines = [
        "**Conjugate gradients on all views at once**",
        "",
        "| passes over the series | (f − f*) / f* | error |",
        "|---|---|---|",
    ]
    for count in (10, 20, 40, 80, 160):
        columns = [bar([one[key][count - 1] for one in references], 4) for key in ("excess", "error")]
        lines.append(f"| {count} | " + " | ".join(columns) + " |")
    answer = bar([one["error of the answer"] for one in references], 4)
    passes = bar([needed(one["excess"]) for one in references], 1)
    return [*lines, "", f"To {LEVEL:g}: {passes} passes. Error of the answer itself: {answer}.", ""]


def tables(record: dict[str, Any]) -> str:
    """All of them."""
    runs = record["runs"]
    lines = [line for barred in BARRED for line in headline(runs, "consensus", *barred)]
    lines += headline(runs, "wang2020", "adjacent", 2, 0.8)
    lines += (
        baseline(record["conjugate gradients"])
        + variants(runs, "consensus", 10)
        + variants(runs, "consensus", 40)
    )
    lines += (
        variants(runs, "wang2020", 4) + variants(runs, "wang2020", 16) + equal_work(runs) + specials(runs)
    )
    return "\n".join(lines)


def draw(runs: list[dict[str, Any]], path: Path) -> None:
    """Columns: angles and overlap. Rows: measures, for both methods. Colours: subsets. Dashed: Mann 0.5."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 14), layout="constrained")
    grid = figure.subplots(6, 4, sharey="row", sharex="row")
    colours = dict(zip(SUBSETS, colormaps["viridis"](np.linspace(0.0, 0.92, len(SUBSETS))), strict=True))
    columns = [(order, overlap) for order in ORDERS for overlap in (0, 2)]
    for row, (method, key, per_work) in zip(grid, _ROWS, strict=True):
        for axes, (order, overlap) in zip(row, columns, strict=True):
            for subsets in SUBSETS:
                for mann, style in ((0.5, "--"), (0.8, "-")):
                    wanted = {
                        "method": method,
                        "subsets": subsets,
                        "order": order,
                        "overlap": overlap,
                        "mann": mann,
                    }
                    run = chosen(runs, seed=1, **wanted)[0]
                    outer = np.arange(1, len(run[key]) + 1)
                    label = f"{subsets} subsets" if mann == 0.8 else None
                    look = {"color": colours[subsets], "linestyle": style, "linewidth": 1.3, "label": label}
                    axes.plot(outer * (work(run) if per_work else 1.0), run[key], **look)
            axes.set(yscale="log", xscale="log" if per_work else "linear")
            axes.set_title(f"{method}: {order}, overlap {overlap}", fontsize=8)
            axes.set_xlabel(
                "passes over the series, each rank" if per_work else "outer iterations", fontsize=8
            )
            axes.grid(color="0.92")
            axes.tick_params(labelsize=7)
        row[0].set_ylabel({"excess": "(f − f*) / f*"}.get(key, key), fontsize=9)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    legend: dict[str, Any] = {"loc": "outside lower center", "ncols": 5, "fontsize": 9, "frameon": False}
    figure.legend(handles, labels, title="solid: Mann 0.8, dashed: Mann 0.5", title_fontsize=9, **legend)
    figure.savefig(path, dpi=80)


_ROWS = [
    (method, key, per_work)
    for method in PASSES
    for key, per_work in (("excess", False), ("disagreement", False), ("excess", True))
]


def study(record: dict[str, Any], path: Path) -> None:
    """Add every run that is not there yet, and conjugate gradients for every seed."""
    plain, runs, began = record["conjugate gradients"], record["runs"], time.monotonic()
    for seed in SEEDS:
        wanted = [one for one in settings(seed) if not chosen(runs, **asdict(one))]
        if not wanted:
            continue
        known, curves = reference(seed)
        if seed not in [one["seed"] for one in plain]:
            plain.append(
                {
                    "seed": seed,
                    "f*": known.lowest,
                    "relative gradient at f*": float(known.gradient.norm() / known.whole.target.norm()),
                    "error of the answer": known.look(known.answer)[1],
                    **{
                        key: [float(f"{value:.4g}") for value in curve]
                        for key, curve in zip(("excess", "error"), curves, strict=True)
                    },
                }
            )
        for setting in wanted:
            runs.append(follow(setting, known))
            figures = "  ".join(f"{key} {runs[-1][key][-1]:.4f}" for key in KEYS)
            print(f"{time.monotonic() - began:5.0f} s  {setting}  {figures}", flush=True)
            save(record, path)


def save(record: dict[str, Any], path: Path) -> None:
    """One line a run."""
    head = {key: value for key, value in record.items() if key != "runs"}
    rows = ",\n".join(json.dumps(run) for run in record["runs"])
    path.write_text(json.dumps(head)[:-1] + f',\n"runs": [\n{rows}\n]}}\n')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--resume", action="store_true", help="keep the runs that are in the json file")
    given = parser.parse_args()
    set_threads(given.threads)
    path = RESULTS / "consensus_convergence.json"
    record = {
        "volume (z, y, x)": VOLUME_SHAPE,
        "axes_degrees": AXES,
        "tilts_degrees": TILTS.tolist(),
        "noise": NOISE[0],
        **machine(),
        "conjugate gradients": [],
        "runs": [],
    }
    if given.resume and path.exists():
        record = json.loads(path.read_text())
    study(record, path)
    path.with_suffix(".md").write_text(tables(record))
    draw(record["runs"], path.with_suffix(".png"))


if __name__ == "__main__":
    main()
