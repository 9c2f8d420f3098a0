"""From nothing to two refined half maps in one run: as by hand, stopped in any stage, laid on axes."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from em_example import SOLVED, solve_example, write_example
from em_ranks import shorten
from scipy.spatial.transform import Rotation

from manyviews.alignment.map_alignment import move_map
from manyviews.errors import InputError
from manyviews.io.mrc import read_mrc
from manyviews.jobs import run as job
from manyviews.options import RunOptions
from manyviews.particles import abinitio as abinitio_job
from manyviews.particles import methods
from manyviews.particles import solve as solve_job
from manyviews.particles.abinitio import abinitio
from manyviews.particles.em import plan as em_plan
from manyviews.particles.em.pose_samples import NO_SAMPLES
from manyviews.particles.em.refinement import Refinement
from manyviews.particles.em.starts import RandomStarts
from manyviews.particles.options import AbinitioOptions, ParticleOptions, RefineOptions
from manyviews.particles.refine.refine import refine
from manyviews.particles.refine.solver import HalvesRefinement
from manyviews.particles.results import Reconstruction
from manyviews.report.build import build_report
from manyviews.runs.events import read_events

SAME = ("abinitio.mrc", "volume.mrc", "half1.mrc", "half2.mrc", "particles.star", "fsc.csv", "mask.mrc")


STAGES = (RandomStarts, Refinement, HalvesRefinement)


@pytest.fixture(autouse=True, scope="module")
def _quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(em_plan, "_START_ITERATIONS", em_plan._START_ITERATIONS)
        patch.setattr(job, "build_report", job.build_report)
        shorten()
        yield


@pytest.fixture(scope="module")
def particles(tmp_path_factory):
    return write_example(tmp_path_factory.mktemp("particles") / "data", count=60)


@pytest.fixture(scope="module")
def solved(particles, tmp_path_factory):
    out = tmp_path_factory.mktemp("solved") / "run"
    return solve_example(particles, out), out


def test_it_is_ab_initio_and_then_a_refinement_of_its_map(particles, solved, tmp_path):
    found, out = solved
    shared = {"diameter": None, "resolution": SOLVED.resolution, "threads": 1}
    quiet = [RunOptions(tmp_path / name, quiet=True) for name in ("first", "then")]
    which = ParticleOptions(particles)
    first = abinitio(which, AbinitioOptions(starts=2, **shared), quiet[0])
    start = quiet[0].out
    refine(which, RefineOptions(start=start, start_resolution=60.0, iterations=3, **shared), quiet[1])
    np.testing.assert_array_equal(read_mrc(out / "abinitio.mrc")[0], read_mrc(start / "volume.mrc")[0])
    for name in ("half1.mrc", "half2.mrc", "volume.mrc", "particles.star"):
        pairs = [(folder / name).read_bytes() for folder in (out, quiet[1].out)]
        assert pairs[0] == pairs[1], name
    stages = [event["stage"] for event in read_events(out / "events.jsonl") if event["kind"] == "stop"]
    assert stages == ["starts", "refinement", "halves"]
    told = {name: first.summary[name] for name in first.summary if "start" in name}
    assert told.items() <= found.summary.items()
    assert {"passes", "resolution_fsc0143_of_the_halves_angstrom"} <= found.summary.keys()


@pytest.mark.parametrize(("number", "after"), [(0, 15), (1, 2), (2, 1)])
def test_stopped_in_any_stage_it_ends_with_the_same_bytes(
    particles, solved, tmp_path, monkeypatch, number, after
):
    """And no stage that had ended is run again."""
    _, whole = solved
    solver, calls = STAGES[number], []
    step = solver.step

    def interrupted(self, state):
        calls.append(state)
        if len(calls) > after:
            raise KeyboardInterrupt
        return step(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(solver, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            solve_example(particles, tmp_path / "run", checkpoint_seconds=0)
    for earlier in STAGES[:number]:
        monkeypatch.setattr(earlier, "step", None)
    solve_example(particles, tmp_path / "run")
    for name in SAME:
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes(), name


def test_starts_that_disagree_are_told_in_the_end_too(particles, tmp_path, monkeypatch):
    told = "1 of 1 other random starts came to another structure"

    def disagreeing(job, plan, state):
        job.warn(told)
        return {"other_starts": 1}

    monkeypatch.setattr(methods, "_compare_starts", disagreeing)
    found = solve_example(particles, tmp_path / "run")
    assert told in found.summary["warnings"]
    assert found.summary["other_starts"] == 1


def test_the_page_shows_every_stage_once(solved):
    _, out = solved
    page = build_report(out, solve_job.KIND.sections).read_text()
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    for title in ("Ab initio map", "Learning curves", "Learning curves of the ab initio stages"):
        assert titles.count(title) == 1
    pictures = re.findall(r"data:image/png;base64,([^'\"]+)", page)
    assert len(set(pictures)) == len(pictures) >= 8
    assert {path.stem for path in (out / "figures").iterdir()} <= set(solve_job.KIND.pictures)


def test_what_knows_no_symmetry_is_laid_on_the_axes_of_the_group(tmp_path, monkeypatch):
    """As sagd does not: its map is the truth here, turned by 50 degrees about x."""
    particles = write_example(tmp_path / "data", fold=2, count=60)
    truth = read_mrc(tmp_path / "data" / "truth.mrc")[0]
    askew = move_map(truth, Rotation.from_euler("x", 50, degrees=True).as_matrix(), np.zeros(3))

    def found(job, given):
        assert len(given.symmetry) == 1
        return Reconstruction(torch.from_numpy(askew), NO_SAMPLES, [], {})

    monkeypatch.setattr(abinitio_job, "METHODS", {"sagd": found})
    out = tmp_path / "run"
    solve_example(particles, out, replace(SOLVED, method="sagd", symmetry="C2", iterations=1))
    laid = read_mrc(out / "abinitio.mrc")[0]
    assert half_a_turn_apart(askew) < 0.8
    assert half_a_turn_apart(laid) > 0.9
    assert half_a_turn_apart(read_mrc(out / "half1.mrc")[0]) > 0.98


def half_a_turn_apart(volume):
    """Correlation of a map with itself, turned about z."""
    inner = volume[1:, 1:, 1:]
    return np.corrcoef(inner.ravel(), inner[:, ::-1, ::-1].ravel())[0, 1]


def test_what_does_not_go_together_is_refused_before_anything_is_made(particles, tmp_path):
    for wrong, about in (({"halves": "table"}, "names no halves"), ({"resolution": 2.0}, "do not reach")):
        with pytest.raises(InputError, match=about):
            solve_example(particles, tmp_path / "run", replace(SOLVED, **wrong))
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="allow-negative"):
        solve_example(particles, tmp_path / "run", replace(SOLVED, method="sagd", allow_negative=True))
