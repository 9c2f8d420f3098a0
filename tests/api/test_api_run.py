"""Run folders as objects: finished, still going on, of either job, damaged."""

from __future__ import annotations

import os
from base64 import b64encode
from shutil import rmtree

import numpy as np
import pytest

import manyviews as mv
from manyviews.api import run as api_run
from manyviews.runs.checkpoint import save_checkpoint
from run_files import ANGLES, SHIFTS, SUMMARY, VOLUME, write_run


def test_a_finished_run(tmp_path):
    folder = write_run(tmp_path / "run")
    run = mv.open_run(str(folder))
    np.testing.assert_array_equal(run.volume, VOLUME)
    assert run.volume is run.volume
    assert (run.pixel_size, run.job) == (8.0, "tilt reconstruct")
    assert run.options == {"method": "cg", "iterations": 3}
    assert run.summary == SUMMARY
    assert list(run.tables) == ["fsc"]
    np.testing.assert_array_equal(run.tables["fsc"]["fsc"], [1.0, 0.5])
    assert [event["kind"] for event in run.events] == ["start", *["iteration"] * 3, "done"]
    assert run.finished
    assert run.state() is None
    assert run.report == folder / "report.html"
    assert repr(run) == f"Run({str(folder)!r}: tilt reconstruct, finished)"
    with pytest.raises(mv.InputError, match=r"has no poses of particles \(particles.star is missing\)"):
        _ = run.poses
    (folder / "volume.mrc").unlink()
    assert not run.finished


def test_a_run_that_goes_on_is_seen_to_go_on(tmp_path):
    folder = write_run(tmp_path / "run", iterations=2, done=False)
    run = mv.open_run(folder)
    assert repr(run).endswith("tilt reconstruct, not finished, 2 iterations done)")
    assert (run.finished, run.summary, run.tables) == (False, {}, {})
    with pytest.raises(mv.InputError, match=r"run: has no volume yet \(volume.mrc is missing\)"):
        _ = run.volume
    save_checkpoint(folder, {"volume": VOLUME, "objective": 0.5, "iteration": 2}, 2)
    assert run.stages == ("main",)
    state = run.state()
    assert (state["objective"], state["iteration"]) == (0.5, 2)
    np.testing.assert_array_equal(state["volume"], VOLUME)
    save_checkpoint(folder, {"volume": 2 * VOLUME}, 1, stage="refine")
    for stage, seconds in (("main", 10), ("refine", 20)):
        os.utime(next((folder / "checkpoint").glob(f"{stage}-*")), (seconds, seconds))
    assert run.stages == ("main", "refine")
    np.testing.assert_array_equal(run.state()["volume"], 2 * VOLUME)
    assert run.state("main")["iteration"] == 2
    assert run.state("absent") is None
    with open(folder / "events.jsonl", "a") as handle:
        handle.write('{"kind": "iteration", "iteration": 3}\n{"kind": "itera')
    assert "3 iterations done" in repr(run)


def test_a_damaged_checkpoint_is_told(tmp_path):
    folder = write_run(tmp_path / "run", done=False)
    save_checkpoint(folder, {"volume": VOLUME}, 2)
    next((folder / "checkpoint").rglob("volume.npy")).write_bytes(b"")
    with pytest.warns(UserWarning, match="damaged"):
        assert mv.open_run(folder).state() is None


def test_poses_of_particles_without_their_images(tmp_path):
    poses = mv.open_run(write_run(tmp_path / "run", job="particles abinitio")).poses
    np.testing.assert_array_equal(poses.angles, ANGLES)
    np.testing.assert_array_equal(poses.shifts, SHIFTS)
    assert poses.pixel_size == 4.0


def test_what_a_notebook_shows(tmp_path):
    folder = write_run(tmp_path / "run")
    run = mv.open_run(folder)
    page = run._repr_html_()
    assert "<b>tilt reconstruct</b>: finished" in page
    assert "<th style='text-align:left'>mean NCC</th><td>0.9123</td>" in page
    assert "<td>5, 4, 3 voxels</td>" in page
    assert "1 &lt;GiB&gt;" in page
    assert "<img" not in page
    (folder / "figures").mkdir()
    (folder / "figures" / "maps.png").write_bytes(b"maps")
    assert b64encode(b"maps").decode() in run._repr_html_()
    (folder / "figures" / "slices.png").write_bytes(b"picture")
    assert b64encode(b"picture").decode() in run._repr_html_()


def test_a_large_volume_is_mapped_and_read_only(tmp_path, monkeypatch):
    folder = write_run(tmp_path / "run")
    for number in (1, 2):
        mv.write_mrc(folder / f"half{number}.mrc", number * VOLUME, 8.0)
    assert mv.open_run(folder).volume.flags.writeable
    monkeypatch.setattr(api_run, "_MAPPED_FROM_BYTES", VOLUME.nbytes)
    monkeypatch.setattr(api_run, "read_mrc", None)
    run = mv.open_run(folder)
    np.testing.assert_array_equal(run.volume, VOLUME)
    np.testing.assert_array_equal(run.halves[1], 2 * VOLUME)
    assert run.volume.dtype == np.float32
    assert not run.volume.flags.writeable
    monkeypatch.undo()
    monkeypatch.setattr(api_run, "_MAPPED_FROM_BYTES", 1)
    mv.write_mrc(folder / "volume.mrc", VOLUME.astype(np.int16), 8.0, overwrite=True)
    assert mv.open_run(folder).volume.dtype == np.float32


def test_a_notebook_shows_what_is_left_of_a_damaged_run(tmp_path):
    folder = write_run(tmp_path / "<run>")
    run = mv.open_run(folder)
    (folder / "summary.json").write_text("[" * 100_000)
    page = run._repr_html_()
    assert "<th style='text-align:left'>summary</th><td>" in page
    assert "summary.json: cannot be read" in page
    assert "&lt;run&gt;" in page
    assert "<run>" not in page
    (folder / "events.jsonl").unlink()
    (folder / "events.jsonl").mkdir()
    (folder / "figures").mkdir()
    (folder / "figures" / "slices.png").mkdir()
    (folder / "run.toml").write_text("job = 3")
    assert "not to be read (" in run._repr_html_()
    assert "not to be read (" in repr(run)
    rmtree(folder)
    assert "not to be read (" in run._repr_html_()
    assert "run.toml is missing" in repr(run)


def test_what_is_no_run_or_damaged(tmp_path):
    with pytest.raises(mv.InputError, match=r"is not a run folder \(run.toml is missing\)"):
        mv.open_run(tmp_path)
    folder = write_run(tmp_path / "run")
    run = mv.open_run(folder)
    (folder / "summary.json").write_text("{")
    with pytest.raises(mv.InputError, match=r"summary.json: cannot be read"):
        _ = run.summary
    (folder / "run.toml").write_text("job = 3")
    with pytest.raises(mv.InputError, match="is not the record of a run"):
        mv.open_run(folder)
