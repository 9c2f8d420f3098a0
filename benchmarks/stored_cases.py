"""Cases of a benchmark, stored one by one: a run that was stopped goes on where it was."""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
Record = dict[str, Any]
Cases = Callable[[Sequence[str], Sequence[int]], Iterable[tuple[str, Callable[[], Any]]]]


def run_cases(
    name: str, about: str, parts: Sequence[str], cases: Cases, page: Callable[[Record], str]
) -> None:
    """Do the cases that ``NAME.json`` does not hold yet, on one thread, and write it and its page after each.

    ``cases`` gives names and work for some of the ``parts`` and seeds, as the command line asks.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--parts", nargs="+", default=list(parts))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    given = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / f"{name}.json"
    found: Record = json.loads(path.read_text()) if path.exists() else {"cases": {}}
    found |= {"machine": platform.processor() or platform.machine(), "threads": 1}
    for case, work in cases(given.parts, given.seeds):
        if case in found["cases"]:
            continue
        found["cases"][case] = work()
        print(case, found["cases"][case], flush=True)
        path.write_text(json.dumps(found, indent=1) + "\n")
        path.with_suffix(".md").write_text(page(found))
