"""`nano reconstruct` left to itself takes flows or motion in space, whichever explains the scan."""

from __future__ import annotations

import json

import numpy as np
import pytest
from nano_job_example import CENTER, run, write_scan

from manyviews.cli.main import main
from manyviews.errors import InputError
from manyviews.io.mrc import read_mrc
from manyviews.nano import choice as choices
from manyviews.nano.choice import choice_words, decide
from manyviews.nano.motion.registration import register_smoothly
from manyviews.nano.reconstruct_options import ReconstructOptions, with_method
from manyviews.nano.results import Choice, read_choice, read_iterations, write_choice
from manyviews.nano.trust import read_tested
from manyviews.nano.trust_options import TrustOptions
from page_reader import PageReader

pytestmark = pytest.mark.usefixtures("blank_pictures", "one_thread")

SCAN = {"rotations": 4, "deformation_percent": 15.0, "photons": 1e5, "seed": 1}
PLAIN = ReconstructOptions(threads=1, halves=False, levels=1, iterations=(6,))


def test_a_specimen_that_deforms_is_taken_to_move_in_space(tmp_path, capsys):
    scan = write_scan(tmp_path / "data", deformation="object", **SCAN)
    out = tmp_path / "run"
    words = ["nano", "reconstruct", str(scan), "--out", str(out), "--center", str(CENTER), "--threads", "1"]
    assert main([*words, "--no-halves"]) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "going on with spacetv" in told
    assert "going on with spacetv" in (out / "log.txt").read_text()
    summary = json.loads((out / "summary.json").read_text())
    assert summary["method"] == "spacetv"
    assert summary["misfit_of_motion_in_space_tried"] < 0.8 * summary["misfit_of_flows_tried"]
    assert 0 < summary["misfit_of_noise_alone"] < summary["misfit_of_motion_in_space_tried"]
    found = read_choice(out / "choice.toml")
    assert round(found.misfit_flows, 5) == summary["misfit_of_flows_tried"]
    assert "What moves: spacetv was taken" in PageReader((out / "report.html").read_text()).texts
    truth = read_mrc(scan.with_name("truth_middle.mrc"))[0]
    errors = [
        np.linalg.norm(register_smoothly(read_mrc(out / name)[0], truth) - truth)
        for name in ("volume.mrc", "volume_before.mrc")
    ]
    assert errors[0] < 0.6 * errors[1]
    with pytest.raises(InputError, match="a motion in space"):
        read_tested(out, TrustOptions())


def test_images_that_deform_are_taken_to_flow_as_if_nothing_else_had_been_tried(tmp_path):
    scan = write_scan(tmp_path / "data", deformation="flow", **SCAN)
    auto = run(scan, tmp_path / "auto", PLAIN)
    assert auto.summary["method"] == "oftv"
    assert auto.summary["misfit_of_flows_tried"] < 0.8 * auto.summary["misfit_of_motion_in_space_tried"]
    assert auto.summary["misfit"] < 0.3 * auto.summary["misfit_unaligned"]
    oftv = run(scan, tmp_path / "oftv", with_method(PLAIN, "oftv"))
    for name in ("volume.mrc", "flow.npy", "views.csv"):
        assert (auto.run_folder / name).read_bytes() == (oftv.run_folder / name).read_bytes(), name
    rows = [
        [(one.level, one.iteration) for one in read_iterations(folder / "iterations.csv")]
        for folder in (auto.run_folder, oftv.run_folder)
    ]
    assert rows[0] == rows[1]
    assert "misfit_of_flows_tried" not in oftv.summary
    assert read_tested(auto.run_folder, TrustOptions()).options.method == "oftv"


def test_what_has_too_few_rows_for_motion_in_space_goes_on_with_flows(tmp_path, capsys):
    scan = write_scan(tmp_path / "data", deformation="none", views=24)
    words = [str(scan), "--center", str(CENTER), "--rows", "14", "18", "--threads", "1"]
    assert main(["nano", "check", *words]) == 0
    assert "motion in space will not be tried: 4 rows are too few" in capsys.readouterr().out
    out = tmp_path / "run"
    assert main(["nano", "reconstruct", *words, "--out", str(out), "--no-halves", "--iterations", "2"]) == 0
    assert "motion in space is not tried (4 rows are too few" in " ".join(capsys.readouterr().err.split())
    assert json.loads((out / "summary.json").read_text())["method"] == "oftv"
    assert not (out / "choice.toml").exists()


def test_memory_for_flows_alone_is_told(tmp_path, monkeypatch):
    scan = write_scan(tmp_path / "data", deformation="none", views=24)
    monkeypatch.setattr(choices, "room_for_choice", lambda *given: "motion in space is not tried")
    options = ReconstructOptions(threads=1, halves=False, levels=1, iterations=(2,))
    result = run(scan, tmp_path / "run", options)
    assert result.summary["method"] == "oftv"
    assert "motion in space is not tried" in result.summary["warnings"]


def test_motion_in_space_must_be_clearly_better():
    assert decide(0.10, 0.09, 0.05, 24).method == "spacetv"
    assert decide(0.10, 0.099, 0.05, 24).method == "oftv"
    assert decide(0.06, 0.10, 0.05, 24).method == "oftv"
    told = choice_words(decide(0.1, 0.05, 0.03, 24))
    assert told == (
        "of projections with 24 columns motion in space left 0.0500 unexplained, flows of projections "
        "0.1000, white noise alone would leave about 0.0300: going on with spacetv"
    )
    assert "neither is clearly better" in choice_words(decide(0.1, 0.099, 0.03, 24))


def test_what_was_chosen_is_read_as_written(tmp_path):
    one = Choice("spacetv", 0.25, 0.125, 0.0625, 16)
    write_choice(tmp_path / "choice.toml", one)
    assert read_choice(tmp_path / "choice.toml") == one
    assert read_choice(tmp_path / "none.toml") is None
    (tmp_path / "choice.toml").write_text("method = 'oftv'\nmisfit_flows = 'much'\n")
    with pytest.raises(InputError, match="cannot be read"):
        read_choice(tmp_path / "choice.toml")


def test_options_of_one_method_are_not_carried_to_another():
    given = ReconstructOptions(flow="dis", levels=2, iterations=(9,), window=30.0, tv=2.0, warp="mass")
    space = with_method(given, "spacetv")
    assert (space.flow, space.levels, space.iterations, space.window) == ("grid", None, (), None)
    assert (space.tv, space.warp) == (2.0, "mass")
    flows = with_method(given, "oftv")
    assert (flows.flow, flows.levels, flows.iterations, flows.window) == ("dis", 2, (9,), 30.0)
