"""A run with a motion in space is the same stopped, with other threads, and on ranks; and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nano_job_example import run, write_scan
from nano_ranks import OPTIONS

from manyviews.errors import InputError
from manyviews.io.mrc import read_mrc
from manyviews.jobs import run as jobs_run
from manyviews.nano.motion import solver
from manyviews.nano.reconstruct_options import ReconstructOptions
from manyviews.nano.results import read_motion, read_views

pytestmark = pytest.mark.usefixtures("blank_pictures", "one_thread")

CENTER = 11.5
SCAN = {
    "size": (24,), "views": 24, "center": CENTER, "deformation": "object", "rotations": 4,
    "deformation_percent": 6.0, "photons": 1e5, "seed": 1,
}  # fmt: skip
SMALL = ReconstructOptions(method="spacetv", iterations=(2, 2), threads=1, halves=False)
SCRIPT = Path(__file__).with_name("nano_ranks.py")
SAME = (
    "volume.mrc", "volume_before.mrc", "projections_aligned.mrc", "motion.npy",
    "motion.csv", "shifts.csv", "views.csv", "examples.npy", "iterations.csv",
)  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_scan(tmp_path_factory.mktemp("small") / "data", **SCAN)


def test_a_run_that_is_stopped_goes_on_to_the_same_bits_with_any_number_of_threads(
    small, tmp_path, monkeypatch
):
    monkeypatch.setattr(jobs_run, "build_report", lambda folder, sections, tell=None: folder)
    told = {"checkpoint_seconds": 0}
    whole = run(small, tmp_path / "whole", SMALL, run=told, center=CENTER).run_folder
    calls = {"joint": 0, "volume": 0}

    def stopping(name, steps, at):
        def some(*given):
            calls[name] += 1
            if calls[name] in at:
                raise KeyboardInterrupt
            return steps(*given)

        return some

    # as the motion is fitted, as the volume begins, and with it half done
    monkeypatch.setattr(solver, "joint_steps", stopping("joint", solver.joint_steps, (2,)))
    monkeypatch.setattr(solver, "volume_steps", stopping("volume", solver.volume_steps, (1, 3)))
    out, stopped, options = tmp_path / "run", 0, replace(SMALL, threads=2)
    while not (out / "summary.json").exists():
        try:
            run(small, out, options, run=told, center=CENTER)
        except KeyboardInterrupt:
            stopped += 1
    assert stopped == 3
    for name in SAME:
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name


def test_bad_views_count_less_and_are_listed(tmp_path):
    scan = write_scan(tmp_path / "data", **{**SCAN, "blank_views": 2})
    result = run(scan, tmp_path / "run", SMALL, center=CENTER)
    views = read_views(result.run_folder / "views.csv")
    names = scan.with_name("truth_views.csv").read_text().splitlines()[0].split(",")
    blank = np.loadtxt(scan.with_name("truth_views.csv"), delimiter=",", skiprows=1)[:, names.index("blank")]
    np.testing.assert_array_equal(np.flatnonzero(views.bad), np.flatnonzero(blank))
    assert views.weight[blank > 0].max() < 0.3
    assert np.median(views.weight) > 0.8


def test_ranks_come_to_the_same(run_warm_ranks, small, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs_run, "build_report", lambda folder, sections, tell=None: folder)
    alone = run(small, tmp_path / "alone", OPTIONS["spacetv"], center=CENTER).run_folder
    one, knots = read_mrc(alone / "volume.mrc")[0], read_motion(alone).knots
    for ranks in (2, 3):
        out = tmp_path / f"{ranks}-ranks"
        done = run_warm_ranks(ranks, SCRIPT, small, out, "spacetv", CENTER, seconds=120)
        assert done.returncode == 0, done.stderr
        assert np.linalg.norm(read_mrc(out / "volume.mrc")[0] - one) < 1e-5 * np.linalg.norm(one)
        assert np.linalg.norm(read_motion(out).knots - knots) < 1e-3 * np.linalg.norm(knots)


def test_too_few_views_for_two_halves_are_refused(tmp_path):
    scan = write_scan(tmp_path / "data", **{**SCAN, "views": 8})
    with pytest.raises(InputError, match="8 views, shared by two halves, do not tell a motion"):
        run(scan, tmp_path / "run", replace(SMALL, halves=True), center=CENTER)
