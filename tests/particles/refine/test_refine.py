"""From a STAR file and a blurred map to finished half maps and poses; stopped and gone on with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from em_example import COUNT, FILE_BOX, FILE_PIXEL, write_example

from manyviews.cli.main import main
from manyviews.errors import InputError
from manyviews.geometry.poses import euler_to_matrices
from manyviews.io.mrc import read_mrc, write_mrc
from manyviews.io.particle_images import read_particles
from manyviews.jobs import run as job
from manyviews.metrics.pose_error import pose_errors
from manyviews.options import RunOptions
from manyviews.particles.options import ParticleOptions, RefineOptions
from manyviews.particles.refine.batches import BatchRefinement
from manyviews.particles.refine.refine import refine
from manyviews.particles.refine.solver import HalvesRefinement

SAME = ("volume.mrc", "half1.mrc", "half2.mrc", "particles.star", "fsc.csv", "mask.mrc")


@pytest.fixture(autouse=True)
def _quick(one_thread, monkeypatch):
    monkeypatch.setattr(job, "build_report", lambda folder, sections, tell=None: folder / "report.html")


@pytest.fixture(scope="module")
def particles(tmp_path_factory):
    return write_example(tmp_path_factory.mktemp("particles") / "data")


def options_of(particles, **given):
    truth = particles.with_name("truth.mrc")
    return replace(RefineOptions(start=truth, start_resolution=60.0, threads=1, iterations=4), **given)


def run(particles, out, **given):
    how = {"checkpoint_seconds": given.pop("checkpoint_seconds", 30.0), "quiet": True}
    return refine(ParticleOptions(particles), options_of(particles, **given), RunOptions(out, **how))


@pytest.fixture(scope="module")
def refined(particles, tmp_path_factory):
    out = tmp_path_factory.mktemp("refined") / "run"
    return run(particles, out, reference=particles.with_name("truth.mrc")), out


def test_poses_and_maps_come_out(particles, refined):
    found, out = refined
    assert found.summary["correlation_with_the_reference"] > 0.9
    assert found.summary["power_explained_at_the_start_resolution"] > 0.8
    true = read_particles(particles.with_name("truth.star"))
    posed = read_particles(out / "particles.star", data_root=particles.parent)
    errors = pose_errors(euler_to_matrices(posed.angles), euler_to_matrices(true.angles))
    assert np.median(errors.angles) < 8
    np.testing.assert_array_equal(posed.half, np.arange(COUNT) % 2 + 1)
    halves = [read_mrc(out / name)[0] for name in ("half1.mrc", "half2.mrc")]
    assert halves[0].shape == (FILE_BOX,) * 3
    assert not np.array_equal(*halves)


def test_a_stopped_run_ends_with_the_same_bytes(particles, refined, tmp_path, monkeypatch):
    _, whole = refined
    step, calls = HalvesRefinement.step, []

    def interrupted(self, state):
        calls.append(state.iteration)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return step(self, state)

    monkeypatch.setattr(HalvesRefinement, "step", interrupted)
    truth = particles.with_name("truth.mrc")
    with pytest.raises(KeyboardInterrupt):
        run(particles, tmp_path / "run", reference=truth, checkpoint_seconds=0)
    monkeypatch.setattr(HalvesRefinement, "step", step)
    run(particles, tmp_path / "run", reference=truth)
    for name in SAME:
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.parametrize(("method", "diagonal"), [("preconditioned-sgd", "hutchinson"), ("vdam", "em")])
def test_a_stopped_run_by_batches_ends_with_the_same_bytes(
    particles, tmp_path, monkeypatch, method, diagonal
):
    given = {"method": method, "diagonal": diagonal, "batch": 34, "iterations": 3}
    found = run(particles, tmp_path / "whole", **given)
    assert found.summary["passes"] <= 3
    step, calls = BatchRefinement.step, []

    def interrupted(self, state):
        calls.append(state.iteration)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return step(self, state)

    monkeypatch.setattr(BatchRefinement, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(particles, tmp_path / "run", checkpoint_seconds=0, **given)
    monkeypatch.setattr(BatchRefinement, "step", step)
    run(particles, tmp_path / "run", **given)
    for name in SAME:
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_another_structure_is_warned_of(particles, tmp_path):
    rng = np.random.default_rng(0)
    wrong = np.zeros((FILE_BOX,) * 3, np.float32)
    for z, y, x in rng.integers(5, 15, (5, 3)):
        wrong[z, y, x] = 1.0
    write_mrc(tmp_path / "wrong.mrc", wrong, FILE_PIXEL)
    found = run(particles, tmp_path / "run", start=tmp_path / "wrong.mrc", iterations=2)
    right = run(particles, tmp_path / "right", iterations=2)
    share = "power_explained_at_the_start_resolution"
    assert found.summary[share] < right.summary[share] - 0.1
    assert any("another structure" in text for text in found.summary["warnings"])
    assert not any("another structure" in text for text in right.summary.get("warnings", []))


def test_what_does_not_go_together_is_one_sentence(particles, tmp_path, capsys):
    words = ["particles", "refine", str(particles), "--out", str(tmp_path / "run")]
    assert main(words) == 2
    assert "--start" in capsys.readouterr().err
    assert main([*words, "--start", str(tmp_path / "none.mrc")]) == 2
    assert "none.mrc" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="names no halves"):
        run(particles, tmp_path / "run", halves="table")
