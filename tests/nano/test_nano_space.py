"""`nano reconstruct` with a motion in space: from the command line to its page, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from nano_job_example import CENTER, SIDE, VIEWS, run, write_scan

from manyviews.cli.main import main
from manyviews.io.mrc import read_mrc
from manyviews.kernels.warp_volume_cpu import pull_volume
from manyviews.nano.motion.displacement import displacement_at
from manyviews.nano.motion.registration import register_smoothly
from manyviews.nano.motion.view_shifts import read_shifted
from manyviews.nano.reconstruct_options import ReconstructOptions
from manyviews.nano.results import read_iterations, read_motion, read_shifts, read_views
from manyviews.nano.simulate import simulate_arrays
from manyviews.nano.simulate_options import SimulateOptions
from manyviews.operators.radon import Radon
from page_reader import PageReader

pytestmark = pytest.mark.usefixtures("blank_pictures", "one_thread")

SCAN = {
    "deformation": "object", "rotations": 4, "deformation_percent": 15.0, "photons": 1e5, "seed": 1,
}  # fmt: skip
SMALL = ReconstructOptions(method="spacetv", iterations=(2, 2), threads=1)


@pytest.fixture(scope="module")
def deformed(tmp_path_factory):
    return write_scan(tmp_path_factory.mktemp("deformed") / "data", **SCAN)


def error(volume, scan) -> float:
    """Relative, a smooth map taken out, to the specimen in the middle of its motion."""
    truth = read_mrc(scan.with_name("truth_middle.mrc"))[0]
    return float(np.linalg.norm(register_smoothly(volume, truth) - truth) / np.linalg.norm(truth))


def test_from_the_command_line_to_the_page(deformed, tmp_path, capsys):
    out = tmp_path / "run"
    words = ["nano", "reconstruct", str(deformed), "--out", str(out), "--center", str(CENTER)]
    words += ["--method", "spacetv", "--iterations", "3", "4", "--threads", "1", "--no-halves", "--quiet"]
    assert main(words) == 0
    assert str(out / "report.html") in capsys.readouterr().out
    summary = json.loads((out / "summary.json").read_text())
    assert summary["method"] == "spacetv"
    assert summary["binnings"] == [2, 1]
    assert summary["misfit"] < 0.25 * summary["misfit_unaligned"]
    assert 0.1 < summary["displacement_rms_pixels"] < summary["largest_displacement_pixels"] < 0.15 * SIDE
    volume, before = (read_mrc(out / name)[0] for name in ("volume.mrc", "volume_before.mrc"))
    assert error(volume, deformed) < 0.6 * error(before, deformed)
    rows = [(one.level, one.iteration, one.binning) for one in read_iterations(out / "iterations.csv")]
    assert rows == [(1, 1, 2), (1, 2, 2), (1, 3, 2), *((2, n, 1) for n in range(1, 5))]
    assert not (out / "flow.npy").exists()
    page = PageReader((out / "report.html").read_text())
    for title in ("Slices", "Projections and flow", "Displacement of the specimen", "Iterations",
                  "Views one by one", "Rotation axis"):  # fmt: skip
        assert title in page.texts, title
    assert_files_tell_the_motion(out, volume, summary["misfit"])


def assert_files_tell_the_motion(out, volume, misfit):
    """What each view shows follows from the files: read at moved places, project, shift."""
    motion, views = read_motion(out), read_views(out / "views.csv")
    assert motion.functions.shape == (VIEWS, 4)
    np.testing.assert_allclose(motion.functions.mean(axis=0), 0, atol=1e-6)
    options = SimulateOptions(**{
        **SCAN, "size": (SIDE,), "views": VIEWS, "pixel_size_nm": 20.0, "center": CENTER
    })  # fmt: skip
    data = simulate_arrays(options).projections
    theta, shifts = read_shifts(out / "shifts.csv")
    aligned = read_mrc(out / "projections_aligned.mrc")[0]
    for view in (0, VIEWS // 2, VIEWS - 1):
        moved = pull_volume(volume, displacement_at(motion.knots, motion.functions[view], volume.shape))
        radon = Radon([theta[view]], SIDE, SIDE, CENTER)
        image = read_shifted(radon.forward(torch.from_numpy(moved)).numpy(), motion.shifts[view : view + 1])
        left = np.linalg.norm(image[0] - data[view]) / np.linalg.norm(data[view])
        assert left == pytest.approx(views.residual[view], rel=0.3)
        assert left < 2 * misfit
        # of aligned projections the volume at rest explains as much
        rest = radon.forward(torch.from_numpy(volume)).numpy()[0]
        apart = np.linalg.norm(aligned[view] - rest) / np.linalg.norm(data[view])
        assert apart == pytest.approx(views.residual[view], rel=1e-2)
    assert np.abs(shifts - motion.shifts).max() > 0.1  # the specimen's own are in them


def test_knots_are_weights_of_splines_as_the_file_says():
    """By hand at one voxel, as `manyviews.nano.results` describes it."""
    rng = np.random.default_rng(3)
    knots, functions = rng.normal(size=(2, 3, 4, 5, 5)), np.array([0.5, -2.0])
    found = displacement_at(knots, functions, (8, 12, 12))

    def splines(at, cells):
        j = int(np.clip(np.floor(at), 0, cells - 1))
        t = at - j
        weights = np.zeros(cells + 3)
        weights[j : j + 4] = [
            (1 - t) ** 3 / 6,
            (3 * t**3 - 6 * t**2 + 4) / 6,
            (1 + 3 * t + 3 * t**2 - 3 * t**3) / 6,
            t**3 / 6,
        ]
        return weights

    z, y, x = 5, 3, 10
    parts = splines((z + 0.5) / 8 * 1, 1), splines((y - 6 + 6) / 12 * 2, 2), splines((x - 6 + 6) / 12 * 2, 2)
    wanted = np.einsum("m,mazyx,z,y,x->a", functions, knots, *parts)
    np.testing.assert_allclose(found[:, z, y, x], wanted, rtol=1e-5)


def test_mass_is_kept_where_it_is_told_to(tmp_path):
    scan = write_scan(tmp_path / "data", **{**SCAN, "warp": "mass"})
    options = replace(SMALL, iterations=(3, 1), halves=False)
    found = {
        warp: run(scan, tmp_path / warp, replace(options, warp=warp)).summary["misfit"]
        for warp in ("move", "mass")
    }
    assert found["mass"] < 0.9 * found["move"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--flow", "dis"), "spacetv has no such option"),
        (("--levels", "2"), "spacetv has no such option"),
        (("--iterations", "3", "3", "3"), "3 numbers are not those of 2 levels"),
        (("--rows", "4", "7"), "rows are too few to find a motion in space"),
    ],
)
def test_refusals_are_one_sentence_and_leave_nothing(deformed, tmp_path, capsys, words, said):
    out = tmp_path / "run"
    given = ["nano", "reconstruct", str(deformed), "--out", str(out), "--method", "spacetv", *words]
    assert main(given) == 2
    told = capsys.readouterr().err.strip()
    assert said in told
    assert len(told.splitlines()) == 1
    assert not (out / "run.toml").exists()


def test_check_tells_iterations_and_time(deformed, capsys):
    assert main(["nano", "check", str(deformed), "--center", str(CENTER), "--method", "space"]) == 0
    told = capsys.readouterr().out
    assert "method: space, 4 + 2 iterations, the coarsest level first" in told
    assert "of one core" in told
