"""The job `subtomo align` from the command line to its page; killed, gone on with, and on several ranks."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from align_ranks import SHORT
from align_run_example import COUNT, PIXEL, QUICK, SIDE, WORDS, poses_of, run, write_example
from alignment_example import angles_off

from manyviews.cli.main import main
from manyviews.errors import InputError
from manyviews.geometry.poses import euler_to_matrices
from manyviews.io.mrc import read_mrc, write_mrc
from manyviews.io.relion_subtomogram_writer import write_relion_subtomograms
from manyviews.jobs import run as jobs_run
from manyviews.metrics.fsc import fsc
from manyviews.options import RunOptions
from manyviews.report.planes import read_planes
from manyviews.runs.events import read_events
from manyviews.subtomo import problem
from manyviews.subtomo.align import align
from manyviews.subtomo.iteration_files import read_iterations
from manyviews.subtomo.options import SubtomogramOptions
from manyviews.subtomo.plan import resolve_plan
from manyviews.subtomo.results import refined_apart
from manyviews.subtomo.score_files import read_scores
from page_reader import PageReader

pytestmark = pytest.mark.usefixtures("blank_pictures")

SAME = (
    "volume.mrc",
    "half1.mrc",
    "half2.mrc",
    "mask.mrc",
    "particles.star",
    "fsc.csv",
    "scores.csv",
    "iterations.csv",
)
SCRIPT = Path(__file__).with_name("align_ranks.py")


@pytest.fixture(scope="module")
def particles(tmp_path_factory):
    return write_example(tmp_path_factory.mktemp("subtomograms") / "data")


@pytest.fixture(scope="module")
def reference(particles):
    return replace(QUICK, reference=particles.with_name("truth.mrc"))


def poses_off(found, truth):
    """Degrees and angstrom."""
    turns = angles_off(euler_to_matrices(found.angles), euler_to_matrices(truth.angles))
    return turns, np.linalg.norm(found.shifts - truth.shifts, axis=1)


@pytest.mark.usefixtures("one_thread")
def test_from_the_command_line_to_the_page(particles, capsys):
    out = particles.with_name("run")
    words = ["subtomo", "align", str(particles), "--reference", str(particles.with_name("truth.mrc"))]
    words += ["--out", str(out), *WORDS, "--hands", "both"]
    words += ["--compare", str(particles.with_name("truth.mrc"))]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert str(out / "report.html") in printed
    summary = json.loads((out / "summary.json").read_text())
    assert summary["particles"] == COUNT
    assert summary["particles_set_aside"] == 0
    assert summary["map_voxels"] == SIDE
    assert summary["pixel_size_angstrom"] == PIXEL
    assert summary["hand"] == summary["hand_of_the_particles"] == "as the reference"
    assert summary["score_with_the_reference"] > summary["score_with_its_mirror_image"]
    assert summary["resolution_fsc05_with_the_reference_angstrom"] < 20
    assert not summary.get("warnings")
    found, truth = poses_of(out / "particles.star"), poses_of(particles.with_name("truth.star"))
    turns, moves = poses_off(found, truth)
    assert np.median(turns) < 3
    assert np.median(moves) < 1.5
    assert [path.name for path in found.volumes] == [path.name for path in truth.volumes]
    assert sorted(found.half.tolist()) == [1] * (COUNT // 2) + [2] * (COUNT // 2)
    whole, first, second = (read_mrc(out / name)[0] for name in ("volume.mrc", "half1.mrc", "half2.mrc"))
    true_map = read_mrc(particles.with_name("truth.mrc"))[0]
    assert fsc(whole, true_map, PIXEL).correlation[1:5].min() > 0.95
    assert fsc(first, second, PIXEL).correlation[1:4].min() > 0.8
    told = read_iterations(out / "iterations.csv")
    assert [one.iteration for one in told] == list(range(1, summary["iterations"] + 1))
    assert [number for number, _ in read_planes(out / "slices.mrc")] == [one.iteration for one in told]
    np.testing.assert_allclose(read_scores(out / "scores.csv").score, found.score, atol=1e-4)
    for name in ("fsc.csv", "directional_fsc.csv", "fsc_reference.csv", "coverage.csv", "run.toml"):
        assert (out / name).stat().st_size > 0, name
    assert not (out / "set_aside.csv").exists()
    page = PageReader((out / "report.html").read_text())
    for title in ("Iterations", "Halves", "Resolution", "Resolution by direction", "Pose changes", "Scores",
                  "View directions", "Measured frequencies"):  # fmt: skip
        assert title in page.texts, title


@pytest.mark.usefixtures("one_thread", "no_page")
def test_an_average_tells_the_halves_only_where_the_table_did(particles, tmp_path):
    """What is dealt into halves anew had poses that were found with one map, for all that is known."""
    truth = poses_of(particles.with_name("truth.star"))
    halved, halves = particles.with_name("halved.star"), np.arange(COUNT) // (COUNT // 2) + 1
    write_relion_subtomograms(halved, replace(truth, half=halves), overwrite=True)
    for words, expected in (((), None), (("--halves", "table"), halves.tolist())):
        out = tmp_path / f"average{len(words)}"
        assert main(["subtomo", "average", str(halved), "--out", str(out), "--quiet", *words]) == 0
        found = poses_of(out / "particles.star", particles.parent)
        assert (None if found.half is None else found.half.tolist()) == expected
        mask = read_mrc(out / "mask.mrc")[0]
        assert (mask.min(), mask.max()) == (0, 1)
        assert all((out / name).exists() for name in ("half1.mrc", "half2.mrc"))


def test_halves_aligned_to_one_map_are_not_told_as_apart():
    plans = [resolve_plan(replace(QUICK, merged=merged), 100, SIDE, PIXEL) for merged in (True, False)]
    assert [refined_apart(plan, aligned=True) for plan in plans] == [False, True]


@pytest.mark.usefixtures("one_thread", "no_page")
def test_names_of_volumes_and_a_range_of_tilts_are_enough(particles):
    """Without a reference, from nothing but one column."""
    star = particles.with_name("names.star")
    names = [f"volumes/{number:06d}.mrc" for number in range(1, COUNT + 1)]
    star.write_text("\n".join(["data_", "", "loop_", "_rlnImageName #1", *names, ""]))
    out, mask = particles.with_name("from-names"), particles.with_name("mask.mrc")
    along = (np.arange(SIDE) - SIDE // 2) ** 2
    inside = np.clip(9 - np.sqrt(along[:, None, None] + along[:, None] + along), 0, 1).astype(np.float32)
    write_mrc(mask, inside, PIXEL, overwrite=True)
    words = ["subtomo", "align", str(star), "--tilt-range", "-60", "60", "--tilt-axis", "y"]
    words += ["--mask", str(mask), "--starts", "2"]
    assert main([*words, "--out", str(out), *WORDS, "--joined-resolution", "40"]) == 0
    summary = json.loads((out / "summary.json").read_text())
    # the same command finds its run finished
    assert main([*words, "--out", str(out), *WORDS, "--joined-resolution", "40"]) == 0
    assert summary["particles"] == COUNT
    assert summary["pixel_size_angstrom"] == PIXEL  # of the headers
    assert "of 2 is the best" in (out / "log.txt").read_text()
    volume = read_mrc(out / "volume.mrc")[0]
    np.testing.assert_array_equal(read_mrc(out / "mask.mrc")[0], inside)
    assert not volume[inside == 0].any()
    assert volume[inside > 0].all()
    found, truth = poses_of(out / "particles.star"), poses_of(particles.with_name("truth.star"))
    # the map is turned by some G: A_found = A_true G for most
    between = np.einsum("nji,njk->nik", euler_to_matrices(truth.angles), euler_to_matrices(found.angles))
    agreeing = [np.count_nonzero(angles_off(between, one) < 20) for one in between]
    assert max(agreeing) >= COUNT - 1


@pytest.mark.usefixtures("one_thread", "no_page")
def test_a_finished_run_does_nothing_and_other_options_are_refused(particles, reference, tmp_path, capsys):
    out = tmp_path / "run"
    short = replace(reference, iterations=1)
    first = run(particles, out, short)
    made = {name: (out / name).stat().st_mtime_ns for name in SAME}
    capsys.readouterr()
    again = align(SubtomogramOptions(particles=particles), short, RunOptions(out=out))
    assert again.summary == first.summary
    assert "finished; nothing to do" in capsys.readouterr().err
    assert {name: (out / name).stat().st_mtime_ns for name in SAME} == made
    assert run(particles, out, replace(short, memory=3.0)).summary == first.summary
    assert any(f"--data-root {particles.parent}" in text for text in first.summary["warnings"])
    for change in ({"seed": 5}, {"candidates": 4}, {"symmetry": "C3"}, {"hands": "both"}, {"reject": 0.1}):
        with pytest.raises(InputError, match=next(iter(change))):
            run(particles, out, replace(short, **change))


@pytest.mark.usefixtures("one_thread", "no_page")
def test_little_memory_puts_the_subtomograms_in_files(particles, reference, tmp_path, monkeypatch):
    short = replace(reference, iterations=1)
    plain = run(particles, tmp_path / "plain", short)
    monkeypatch.setattr(problem, "room_for_data", lambda memory, world: 1000)
    run(particles, tmp_path / "files", short)
    for name in ("volume.mrc", "particles.star"):
        assert (tmp_path / "files" / name).read_bytes() == (plain.run_folder / name).read_bytes()
    assert not (tmp_path / "files" / "scratch").exists()


# Imports everything once, then forks a process for every line "folder" it reads: what is killed is a process
# of its own, without the seconds that importing takes.
DRIVER = """
import gc, os, sys
from dataclasses import replace
from pathlib import Path
sys.path[:0] = [sys.argv[2], str(Path(sys.argv[2]).parent)]
from align_run_example import QUICK, run
from manyviews.jobs import run as job
from manyviews.report import drawing, plots

drawing.draw = lambda figure: drawing.Drawing(b"", b"", b"")
plots._SURFACE_PIXELS = 16
gc.freeze()
particles = Path(sys.argv[1])
options = replace(QUICK, reference=particles.with_name("truth.mrc"), start_resolution=40.0, iterations=3)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            run(particles, Path(line.rstrip()), options, checkpoint_seconds=0)
        except BaseException as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Driver:
    """Starts runs one after the other and can kill them."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def run(self, out: Path, kill_at: int | None = None, after: float = 0.0) -> int:
        """The exit code of one run, killed so many seconds after so many iterations are told in all."""
        self.process.stdin.write(f"{out}\n")
        self.process.stdin.flush()
        child = int(self.process.stdout.readline())
        if kill_at is not None:
            limit = time.monotonic() + 60
            while len(iterations_of(out)) < kill_at and time.monotonic() < limit:
                time.sleep(0.001)
            time.sleep(after)
            with contextlib.suppress(ProcessLookupError):  # it may have come to its end
                os.kill(child, signal.SIGKILL)
        return int(self.process.stdout.readline())


def iterations_of(folder: Path) -> list[int]:
    events = read_events(folder / "events.jsonl") if (folder / "events.jsonl").exists() else []
    return [event["iteration"] for event in events if event["kind"] == "iteration"]


@pytest.fixture
def driver(particles, warm):
    process = subprocess.Popen(
        [*warm, "-c", DRIVER, str(particles), str(Path(__file__).parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    yield Driver(process)
    process.stdin.close()
    process.wait(timeout=60)
    process.stdout.close()


def test_kills_change_nothing(driver, tmp_path):
    """Killed after the first iteration, right after the second, and while results are written."""
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert driver.run(whole) == 0
    codes = [driver.run(out, kill_at, after) for kill_at, after in ((1, 0.0), (2, 0.01), (3, 0.05))]
    assert codes[0] == -signal.SIGKILL
    if codes[-1] != 0:
        assert driver.run(out) == 0
    for name in (*SAME, "slices.mrc", "coverage.csv", "directional_fsc.csv"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    assert iterations_of(out) == iterations_of(whole)
    assert not (out / "checkpoint").exists()
    assert not [path.name for path in out.iterdir() if path.name.endswith(".tmp")]


@pytest.fixture(scope="module")
def alone(particles, tmp_path_factory):
    """What ranks must come to."""
    options = replace(SHORT, reference=particles.with_name("truth.mrc"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs_run, "build_report", lambda folder, sections, tell=None: folder)
        return run(particles, tmp_path_factory.mktemp("alone") / "run", options)


@pytest.mark.parametrize("ranks", [3])
def test_ranks_give_the_poses_of_one(run_warm_ranks, particles, alone, tmp_path, ranks):
    out = tmp_path / "ranks"
    done = run_warm_ranks(ranks, SCRIPT, particles, out, seconds=120)
    assert done.returncode == 0, done.stderr
    one, many = (poses_of(folder / "particles.star", particles.parent) for folder in (alone.run_folder, out))
    turns, moves = poses_off(many, one)
    # last bits of the map, which depend on the threads, decide whether the last of few steps is taken
    assert np.median(turns) < 1e-3
    assert np.median(moves) < 1e-3
    assert turns.max() < 0.1
    assert moves.max() < 0.1  # a sixtieth of a voxel
    np.testing.assert_array_equal(many.half, one.half)
    np.testing.assert_allclose(many.score, one.score, atol=1e-3)
    first, second = (read_mrc(folder / "volume.mrc")[0] for folder in (alone.run_folder, out))
    np.testing.assert_allclose(second, first, atol=2e-3 * np.abs(first).max())
    summary = json.loads((out / "summary.json").read_text())
    assert summary["ranks"] == ranks
    for name in ("hand_of_the_particles", "score_with_the_reference", "mean_score"):
        assert summary[name] == pytest.approx(alone.summary[name], abs=1e-4)
