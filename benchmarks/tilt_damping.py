"""Damping of cg by frequency against damping that is the same for all frequencies.

``python benchmarks/tilt_damping.py [--parts iterations real strengths] [--seeds 1 2 3] [--data FOLDER]``

*strengths*: the analytic series of `tilt_priors`, error against the truth after the default's iterations.

*iterations*: the cell-like slab of `tilt simulate` (noise 0.1, 0.3 and 0.5) and ellipsoids about two axes (5, 10 and
20 %), run on to 100 iterations.

*real*: views of the HAADF series that are left out of everything, as in `tilt_priors`.

Writes ``benchmarks/results/tilt_damping.json`` after each case, and ``.md``; what is there is not done again.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from manyviews.metrics.error import relative_error
from manyviews.tilt.methods import make_solver
from manyviews.tilt.series.images import ImageSource
from tilt_priors import (
    AXES,
    CELL_NOISES,
    DATA,
    DUST,
    DUST_THICKNESS,
    KINDS,
    NOISES,
    RESULTS,
    SHAPE,
    Record,
    case,
    dust_series,
    keep_apart,
    left,
    prepared,
)

NAME = "tilt_damping"
UNIFORM, BY_FREQUENCY = "same", "by frequency"
FORMS = (UNIFORM, BY_FREQUENCY)
ITERATIONS, LONG = 15, 100
SHOWN = (5, 10, 15, 20, 30, 50, 75, 100)
PER_NOISE = 10.0  # what cg was damped with at all frequencies, times the noise-to-signal ratio


def errors(
    source: ImageSource,
    depth: int,
    form: str,
    iterations: int,
    measure: Callable[[torch.Tensor], float],
    **options: str,
) -> tuple[list[float], float]:
    """What ``measure`` says of the volume after every iteration, and CPU seconds without it."""
    plan, problem, images = prepared(source, depth, method="cg", **options)
    if form == UNIFORM:
        problem = replace(problem, damping=PER_NOISE * images.noise_to_signal, roughness=())
    began = time.process_time()
    solver = make_solver(problem, plan)
    state, found, measuring = solver.init(), [], 0.0
    for _ in range(iterations):
        state = solver.step(state)
        here = time.process_time()
        found.append(round(measure(state.iterate), 4))
        measuring += time.process_time() - here
    return found, round(time.process_time() - began - measuring, 2)


def simulated(kind: str, axes: int, noise: float, seed: int, iterations: int) -> Record:
    """Errors against the truth, in both forms."""
    source, truth = case(kind, axes, noise, seed)
    found = {
        form: errors(source, SHAPE[0], form, iterations, lambda x: relative_error(x.numpy(), truth))
        for form in FORMS
    }
    return {
        form: {"errors": own if iterations > ITERATIONS else own[-1:], "seconds": spent}
        for form, (own, spent) in found.items()
    }


def real(data: Path, normalise: str) -> Record:
    """What is left of views that the reconstruction has not seen, in both forms."""
    every, kept_apart, source = keep_apart(dust_series(data))
    apart = prepared(every, DUST_THICKNESS, method="cg", normalise=normalise)[1].select(kept_apart)
    found = {
        form: errors(source, DUST_THICKNESS, form, 30, lambda x: left(apart, x), normalise=normalise)
        for form in FORMS
    }
    return {form: {"errors": own, "seconds": spent} for form, (own, spent) in found.items()}


def cases(parts: list[str], seeds: list[int], data: Path) -> Iterator[tuple[str, Callable[[], Record]]]:
    """Name and work of every case."""
    if "iterations" in parts:
        for kind, axes, noises in (("cell", 4, CELL_NOISES), ("ellipsoids", 2, NOISES)):
            for noise in noises:
                for seed in seeds:
                    own = kind, axes, noise, seed, LONG
                    yield f"iterations {kind} {axes} {noise:g} {seed}", partial(simulated, *own)
    if "real" in parts and (data / DUST).exists():
        for how in ("none", "background"):
            yield f"real {how}", partial(real, data, how)
    if "strengths" in parts:
        for seed in seeds:
            for kind in KINDS:
                for axes in AXES:
                    for noise in NOISES:
                        yield (
                            f"strengths {kind} {axes} {noise:g} {seed}",
                            partial(simulated, kind, axes, noise, seed, ITERATIONS),
                        )


def page(rows: Record) -> str:
    """All tables."""
    return "\n".join([*_strength_lines(rows), *_iteration_lines(rows), *_real_lines(rows)]) + "\n"


def _strength_lines(rows: Record) -> Iterator[str]:
    yield f"Relative error of cg against the truth after {ITERATIONS} iterations, mean over seeds."
    yield ""
    yield "| specimen | axes | noise | seeds | the same at all frequencies | by frequency | CPU seconds | |"
    yield "|---" * 8 + "|"
    for kind in KINDS:
        for axes in AXES:
            for noise in NOISES:
                own = [
                    row
                    for name, row in rows.items()
                    if name.startswith(f"strengths {kind} {axes} {noise:g} ")
                ]
                if own:
                    cells = [f"{_mean(own, form, 'errors'):.3f}" for form in FORMS]
                    cells += [f"{_mean(own, form, 'seconds'):.1f}" for form in FORMS]
                    yield f"| {kind} | {axes} | {100 * noise:g} % | {len(own)} | " + " | ".join(cells) + " |"


def _mean(own: list[Record], form: str, what: str) -> float:
    return statistics.fmean(row[form][what][-1] if what == "errors" else row[form][what] for row in own)


def _iteration_lines(rows: Record) -> Iterator[str]:
    yield ""
    yield f"Relative error against iterations; the last column is that of {LONG} over the least on the way."
    yield ""
    yield "| specimen, axes, noise, seed | damped | " + " | ".join(map(str, SHOWN)) + " | last over least |"
    yield "|---" * (3 + len(SHOWN)) + "|"
    for name, row in rows.items():
        if name.startswith("iterations "):
            for form in FORMS:
                found = row[form]["errors"]
                cells = [f"{found[number - 1]:.3f}" for number in SHOWN]
                case = ", ".join(name.split()[1:])
                yield f"| {case} | {form} | " + " | ".join(cells) + f" | {found[-1] / min(found):.3f} |"


def _real_lines(rows: Record) -> Iterator[str]:
    yield ""
    yield "HAADF series: share of the variance of views left out of everything, against iterations."
    yield ""
    shown = [number for number in SHOWN if number <= 30]
    yield "| normalised | damped | " + " | ".join(map(str, shown)) + " |"
    yield "|---" * (2 + len(shown)) + "|"
    for name, row in rows.items():
        if name.startswith("real "):
            for form in FORMS:
                cells = [f"{row[form]['errors'][number - 1]:.4f}" for number in shown]
                yield f"| {name.split()[1]} | {form} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parts", nargs="+", default=["iterations", "real", "strengths"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--data", type=Path, default=DATA)
    given = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / f"{NAME}.json"
    found: Record = json.loads(path.read_text()) if path.exists() else {"cases": {}}
    found |= {"machine": platform.processor() or platform.machine(), "threads": 1}
    for name, work in cases(given.parts, given.seeds, given.data):
        if name in found["cases"]:
            continue
        found["cases"][name] = work()
        print(name, flush=True)
        path.write_text(json.dumps(found, indent=1) + "\n")
        path.with_suffix(".md").write_text(page(found["cases"]))


if __name__ == "__main__":
    main()
