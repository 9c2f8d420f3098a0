"""Benchmarks are too long to be run here: all are imported, and tell their stored figures as before."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
RESULTS = BENCHMARKS / "results"
SCRIPTS = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
Record = dict[str, Any]
PAGES: dict[str, tuple[str, Callable[[ModuleType, Record], str]]] = {
    "consensus_convergence": ("consensus_convergence", lambda script, found: script.tables(found)),
    "eta": ("eta", lambda script, found: script.page(found)),
    "haadf": ("haadf", lambda script, found: script.tables(found)),
    "live_page_abinitio_96": ("live_page", lambda script, found: script.page_of(found)),
    "local_maps": ("local_maps", lambda script, found: script.table(found["filters"]) + "\n"),
    "memory_per_rank": ("memory_per_rank", lambda script, found: script.report(found)),
    "nano_inner_64": ("nano_inner", lambda script, found: script.page(found)),
    "nano_study_128": ("nano_study", lambda script, found: script.page(found)),
    "nano_study_256": ("nano_study", lambda script, found: script.page(found)),
    "nano_misalignments_128": ("nano_misalignments", lambda script, found: script.page(found)),
    "nano_speed_2_threads": ("nano_speed", lambda script, found: script.page(found)),
    "nano_speed_2_threads_epyc": ("nano_speed", lambda script, found: script.page(found)),
    "nano_peers": ("nano_peers", lambda script, found: script.table(found["rows"])),
    "refinement_limit_70s_1aon": ("refinement_limit", lambda script, found: script.page(found)),
    "refinement_limit_spoiled_70s_64": ("refinement_limit_spoiled", lambda script, found: script.page(found)),
    "refinement_methods_70s_64": ("refinement_methods", lambda script, found: script.page(found)),
    "paper_job": ("paper_job", lambda script, found: script.table(found["methods"]) + "\n"),
    "peers_one_axis": ("tomography_peers", lambda script, found: script.markdown(found)),
    "preconditioned_sgd_64": ("preconditioned_sgd", lambda script, found: script.table(found)),
    "preconditioned_sgd_192": ("preconditioned_sgd", lambda script, found: script.table(found)),
    "refinement_1aon_128": ("refinement", lambda script, found: script.page(found)),
    "refinement_70s_64": ("refinement", lambda script, found: script.page(found)),
    "refinement_relion_70s_64": ("refinement_relion", lambda script, found: script.page(found)),
    "refinement_robustness_70s_64": ("refinement_robustness", lambda script, found: script.page(found)),
    "scaling": ("scaling", lambda script, found: script.report(found)),
    "subtomo_accuracy_groel_60": ("subtomo_accuracy", lambda script, found: script.table(found["rows"])),
    "subtomo_claims": ("subtomo_claims", lambda script, found: script.table(found)),
    "subtomo_resolution_50": ("subtomo_resolution", lambda script, found: script.table(found["rows"])),
    "subtomo_speed": ("subtomo_speed", lambda script, found: script.table(found["passes"], found["memory"])),
    "tilt_align": ("tilt_align", lambda script, found: script.page(found)),
    "tilt_ctf": ("tilt_ctf", lambda script, found: script.page(found)),
    "tilt_edges": ("tilt_edges", lambda script, found: script.page(found["cases"])),
    "tilt_priors": ("tilt_priors", lambda script, found: script.page(found)),
}


@pytest.fixture(scope="module", autouse=True)
def beside_benchmarks() -> Iterator[None]:
    """Their folder is on the path, as where one of them is started; other tests do not see it."""
    before, known = list(sys.path), set(sys.modules)
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path[:] = before
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(BENCHMARKS)):
            del sys.modules[name]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_benchmark_can_be_imported(script):
    assert importlib.import_module(script).__doc__


@pytest.mark.parametrize("name", PAGES)
def test_a_stored_page_is_what_the_benchmark_makes_of_the_stored_figures(name):
    script, page = PAGES[name]
    found = json.loads((RESULTS / f"{name}.json").read_text())
    made = page(importlib.import_module(script), found)
    assert made == (RESULTS / f"{name}.md").read_text()
