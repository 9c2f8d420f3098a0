"""A run whose views are pitched says so and takes them as they are: halves, ranks, and gone on with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pitch_ranks import run
from test_pitch import BOX, COLUMNS, ROWS, THETA, VIEWS

from manyviews.errors import InputError
from manyviews.io.mrc import read_mrc
from manyviews.nano.estimate import estimate_cost
from manyviews.nano.footprint import Size
from manyviews.nano.plan import resolve_plan
from manyviews.nano.reconstruct_options import ReconstructOptions
from manyviews.nano.results import read_pitch, read_views
from manyviews.nano.scan.options import ScanOptions
from manyviews.nano.solve.joint import Joint
from manyviews.nano.trust import read_tested, trust
from manyviews.nano.trust_options import TrustOptions
from manyviews.options import RunOptions

pytestmark = pytest.mark.usefixtures("no_page", "one_thread")

SCRIPT = Path(__file__).with_name("pitch_ranks.py")


def jumps_apart(pitch, wrong):
    return np.linalg.norm(np.diff(pitch - wrong)) / np.linalg.norm(np.diff(wrong))


@pytest.fixture(scope="module")
def pitched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pitched")
    return run(folder), folder


def test_a_box_of_pitch_is_told_and_taken_into_the_reconstruction(tmp_path, capsys):
    found = run(tmp_path / "refined", method="auto", iterations=(), levels=None, halves=True)
    said = " ".join(capsys.readouterr().err.split())
    assert "the views are pitched, tilted towards the beam by" in said
    pitch = read_pitch(found.run_folder / "pitch.csv")
    assert jumps_apart(pitch, BOX) < 0.3
    assert found.summary["pitch_to_degrees"] == pytest.approx(pitch.max())
    assert found.summary["pitch_from_degrees"] == pytest.approx(pitch.min())
    assert np.allclose(read_views(found.run_folder / "views.csv").theta_degrees, THETA)
    assert not (found.run_folder / "motion.npy").exists()


def test_the_misfit_falls_and_aligned_projections_are_level(pitched, tmp_path):
    found, _ = pitched
    given = run(tmp_path / "given", refine_angles=False)
    assert "pitch_to_degrees" not in given.summary
    assert not (given.run_folder / "pitch.csv").exists()
    assert found.summary["misfit"] < 0.8 * given.summary["misfit"]
    level = run(tmp_path / "level", pitch=np.zeros(VIEWS), refine_angles=False)
    images = [read_mrc(one.run_folder / "projections_aligned.mrc")[0] for one in (found, given, level)]
    box = BOX > 0
    apart = [np.linalg.norm(one[box] - images[2][box]) for one in images[:2]]
    assert apart[0] < 0.6 * apart[1]


def test_trust_reads_the_pitch_of_a_run(pitched, tmp_path):
    found, _ = pitched
    tested = read_tested(found.run_folder, TrustOptions())
    assert np.array_equal(tested.pitch_degrees, read_pitch(found.run_folder / "pitch.csv"))
    again = trust(
        TrustOptions(reconstruction=found.run_folder, threads=1), RunOptions(out=tmp_path, quiet=True)
    )
    assert again.summary["share_that_came_back_percent"] > 50


def test_a_run_that_was_stopped_comes_to_the_same_bytes(pitched, tmp_path, monkeypatch):
    found, _ = pitched
    step = Joint.step

    def stopped(solver, state):
        if (
            solver.motion is not None
            and solver.problem.tomography.pitched is not None
            and state.iteration == 2
        ):
            raise InputError("stopped")
        return step(solver, state)

    with monkeypatch.context() as patch:
        patch.setattr(Joint, "step", stopped)
        with pytest.raises(InputError, match="stopped"):
            run(tmp_path)
    again = run(tmp_path)
    for name in ("volume.mrc", "flow.npy", "pitch.csv", "views.csv", "projections_aligned.mrc"):
        assert (again.run_folder / name).read_bytes() == (found.run_folder / name).read_bytes(), name


def test_arrays_in_files_give_the_same_bits(pitched, tmp_path):
    found, _ = pitched
    how = ReconstructOptions(method="shifts", levels=1, iterations=(4,), halves=False, threads=1)
    plan = resolve_plan(ScanOptions(scan=Path("scan")), how, (VIEWS, ROWS, COLUMNS))
    least = estimate_cost(plan, 1, Size(1, 0).bytes(plan)).streamed_bytes
    outside = run(tmp_path, memory=(least + 1000) / 2**30)
    assert outside.summary["peak_memory_counts_mapped_files"]
    for name in ("volume.mrc", "flow.npy", "pitch.csv", "projections_aligned.mrc"):
        assert (outside.run_folder / name).read_bytes() == (found.run_folder / name).read_bytes(), name


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_come_to_the_same(run_warm_ranks, pitched, ranks):
    _, folder = pitched
    alone = run(folder, f"alone-{ranks}", method="oftv")
    done = run_warm_ranks(ranks, SCRIPT, folder, seconds=120)
    assert done.returncode == 0, done.stderr
    many = folder / f"{ranks}-ranks"
    assert (many / "pitch.csv").read_bytes() == (alone.run_folder / "pitch.csv").read_bytes()
    volumes = [read_mrc(one / "volume.mrc")[0] for one in (many, alone.run_folder)]
    assert np.linalg.norm(volumes[0] - volumes[1]) < 1e-5 * np.linalg.norm(volumes[1])
    aligned = [read_mrc(one / "projections_aligned.mrc")[0] for one in (many, alone.run_folder)]
    assert np.linalg.norm(aligned[0] - aligned[1]) < 1e-4 * np.linalg.norm(aligned[1])


def test_views_that_are_level_are_left_to_the_last_bit(tmp_path):
    level = np.zeros(VIEWS)
    runs = [
        run(tmp_path / name, pitch=level, refine_angles=name == "asked") for name in ("asked", "not asked")
    ]
    assert "pitch_to_degrees" not in runs[0].summary
    volumes = [(one.run_folder / "volume.mrc").read_bytes()[1024:] for one in runs]
    assert volumes[0] == volumes[1]
