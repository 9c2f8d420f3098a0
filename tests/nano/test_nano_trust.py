"""`nano trust`: a known motion in the data of a run, and what of it comes back."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from nano_job_example import QUICK, VIEWS, run, write_scan

from manyviews.cli.main import main
from manyviews.jobs import run as job
from manyviews.nano.reconstruct_options import ReconstructOptions
from manyviews.nano.results import read_returned
from page_reader import PageReader

pytestmark = pytest.mark.usefixtures("blank_pictures", "one_thread")


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    return write_scan(tmp_path_factory.mktemp("scan") / "data", deformation="none", photons=1e5)


@pytest.fixture(scope="module")
def shifted(scan, tmp_path_factory):
    options = ReconstructOptions(method="shifts", levels=1, iterations=(8,), threads=1, halves=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "build_report", lambda folder, sections, tell=None: folder)
        return run(scan, tmp_path_factory.mktemp("shifted") / "run", options).run_folder


def test_shifts_of_views_come_back(shifted, tmp_path, capsys):
    out = tmp_path / "test"
    words = ["nano", "trust", str(shifted), "--out", str(out), "--motion", "jitter", "--amount", "1.5"]
    assert main([*words, "--threads", "1", "--quiet"]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["motion"] == "jitter"
    assert summary["injected_rms_pixels"] > 0.5
    assert summary["share_that_came_back_percent"] > 95
    assert summary["length_that_came_back"] == pytest.approx(1, abs=0.05)
    theta, injected, left = read_returned(out / "trust.csv")
    assert len(theta) == VIEWS
    assert np.sqrt(np.mean(left**2)) < 0.2 * np.sqrt(np.mean(injected**2))
    assert "A known motion, injected and looked for" in PageReader((out / "report.html").read_text()).texts
    capsys.readouterr()
    assert main([*words, "--threads", "1"]) == 0
    assert "finished; nothing to do" in capsys.readouterr().err


@pytest.mark.usefixtures("no_page")
def test_most_of_a_smooth_motion_comes_back(scan, tmp_path):
    options = replace(QUICK, method="of", iterations=(10, 6), halves=False)
    folder = run(scan, tmp_path / "run", options).run_folder
    out = tmp_path / "test"
    assert main(["nano", "trust", str(folder), "--out", str(out), "--threads", "1", "--quiet"]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["motion"] == "smooth"
    assert summary["amount"] == pytest.approx(0.96)
    assert summary["share_that_came_back_percent"] > 50


@pytest.mark.usefixtures("no_page")
def test_refusals(scan, shifted, tmp_path, capsys):
    def told(*words):
        assert main(["nano", "trust", *map(str, words), "--out", str(tmp_path / "no")]) == 2
        return capsys.readouterr().err

    assert "a run of whole shifts cannot find a smooth deformation" in told(shifted, "--motion", "smooth")
    assert "holds no run of nano reconstruct" in told(tmp_path)
    still = run(
        scan, tmp_path / "cg", ReconstructOptions(method="cg", iterations=(1,), threads=1, halves=False)
    )
    assert "holds a run that looks for no motion (cg)" in told(still.run_folder)
    other = tmp_path / "copy.h5"
    other.write_bytes(scan.read_bytes())
    short = ReconstructOptions(method="shifts", levels=1, iterations=(1,), threads=1, halves=False)
    folder = run(other, tmp_path / "run", short).run_folder
    write_scan(tmp_path / "another", photons=500).replace(other)
    assert "is not the scan that was reconstructed" in told(folder)
    assert not (tmp_path / "no").exists()


@pytest.mark.usefixtures("no_page")
def test_the_same_from_python(scan, tmp_path):
    import manyviews as mv

    run_folder = mv.reconstruct_scan(
        scan, out=tmp_path / "run", method="cg", iterations=(2,), threads=1, halves=False, quiet=True
    )
    assert run_folder.volume.shape == (32, 32, 32)
    assert run_folder.summary["method"] == "cg"
