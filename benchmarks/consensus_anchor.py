"""How strong the anchor of a consensus agent should be: ``python benchmarks/consensus_anchor.py``.

On the small problem of ``least_squares_limit.py``: passes over the data until ``(f - f*) / f*`` falls to 0.3,
for several strengths and numbers of subsets. Writes ``benchmarks/results/consensus_anchor.json``.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

import manyviews.tilt.methods as methods
from accuracy import RESULTS, machine, set_threads
from least_squares_limit import Limit, limit
from manyviews.tilt.options import ReconstructOptions, SubsetOrder

ANCHORS = (0.01, 0.03, 0.1, 0.3, 1.0)
SUBSETS = (4, 8, 16, 32)
ORDERS: tuple[SubsetOrder, ...] = ("interleaved",)
LEVEL = 0.3
MOST_ITERATIONS = 40
SEEDS = (1, 2)


def passes_needed(case: Limit, anchor: float, subsets: int, order: SubsetOrder) -> float:
    """Passes until the level is reached; infinite where it is not in time."""
    methods._ANCHOR = anchor
    options = ReconstructOptions(method="consensus", subsets=subsets, subset_order=order, damping=0.0)
    solver = case.solver(options)
    state = solver.init()
    for _ in range(MOST_ITERATIONS):
        state = solver.step(state)
        if case.distance(state.iterate) <= LEVEL:
            return state.measures()["data_passes"]
    return float("inf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=0)
    set_threads(parser.parse_args().threads)
    problems = [limit(seed) for seed in SEEDS]
    rows: list[dict[str, Any]] = []
    for order in ORDERS:
        for subsets in SUBSETS:
            for anchor in ANCHORS:
                found = [passes_needed(case, anchor, subsets, order) for case in problems]
                mean = float(np.mean(found))
                row = {"order": order, "subsets": subsets, "anchor": anchor}
                rows.append(row | {"passes": None if np.isinf(mean) else mean})
                print(rows[-1], flush=True)
    record = {"level": LEVEL, "seeds": SEEDS, "most passes": 4 * MOST_ITERATIONS, **machine()}
    text = ",\n".join(json.dumps(row) for row in rows)
    (RESULTS / "consensus_anchor.json").write_text(
        json.dumps(record, indent=1)[:-2] + f',\n "runs": [\n{text}\n]}}\n'
    )


if __name__ == "__main__":
    main()
