"""`nano reconstruct` from the command line to its page; killed, gone on with, and on several ranks."""

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
import tifffile
import zarr
from nano_job_example import CENTER, QUICK, SIDE, VIEWS, error, run, write_scan
from nano_ranks import OPTIONS

from manyviews.cli.main import main
from manyviews.errors import InputError
from manyviews.io.mrc import read_header, read_mrc
from manyviews.jobs import run as jobs_run
from manyviews.metrics.fsc import FscCurve
from manyviews.nano.flow.gauge import remove_shift_gauge
from manyviews.nano.reconstruct_options import ReconstructOptions
from manyviews.nano.results import read_center, read_iterations, read_shifts, read_views
from manyviews.runs.events import read_events
from page_reader import PageReader

pytestmark = pytest.mark.usefixtures("blank_pictures", "one_thread")

SAME = (
    "volume.mrc", "half1.mrc", "half2.mrc", "mask.mrc", "volume_before.mrc", "projections_aligned.mrc",
    "flow.npy", "shifts.csv", "views.csv", "gauge.csv", "fsc.csv", "fsc_slices.csv", "center.toml",
    "examples.npy",
)  # fmt: skip
SCRIPT = Path(__file__).with_name("nano_ranks.py")


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    return write_scan(tmp_path_factory.mktemp("still") / "data", deformation="none", noise_free=True)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    return write_scan(tmp_path_factory.mktemp("noisy") / "data", deformation="none", photons=1000)


@pytest.fixture(scope="module")
def deformed(tmp_path_factory):
    return write_scan(tmp_path_factory.mktemp("deformed") / "data", deformation_percent=8.0)


@pytest.fixture(scope="module")
def shaken(tmp_path_factory):
    return write_scan(
        tmp_path_factory.mktemp("shaken") / "data", deformation="none", jitter=1.0, photons=1e5, jumps=1,
        jump_pixels=4.0,
    )  # fmt: skip


def truth_of(scan):
    return read_mrc(scan.with_name("truth.mrc"))[0]


def volume_of(result, name="volume.mrc"):
    return read_mrc(result.run_folder / name)[0]


def test_from_the_command_line_to_the_page(deformed, tmp_path, capsys):
    out = tmp_path / "run"
    words = [
        "nano",
        "reconstruct",
        str(deformed),
        "--out",
        str(out),
        "--center",
        str(CENTER),
        "--method",
        "oftv",
        "--levels",
        "2",
    ]
    words += ["--iterations", "4", "3", "--threads", "1", "--tiff", "--ome-zarr", "--quiet"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert str(out / "report.html") in printed
    summary = json.loads((out / "summary.json").read_text())
    assert summary["method"] == "oftv"
    assert summary["views"] == VIEWS
    assert summary["volume_voxels"] == [SIDE] * 3
    assert summary["pixel_size_nm"] == 20.0
    assert summary["center"] == CENTER
    assert summary["center_by"] == "--center"
    assert summary["misfit"] < 0.7 * summary["misfit_unaligned"]
    assert read_center(out / "center.toml").center == CENTER
    assert [(one.level, one.iteration) for one in read_iterations(out / "iterations.csv")] == [
        *((1, n) for n in range(1, 5)), *((2, n) for n in range(1, 4)),
    ]  # fmt: skip
    volume = read_mrc(out / "volume.mrc")[0]
    assert read_header(out / "volume.mrc").pixel_size == pytest.approx((200.0,) * 3)
    np.testing.assert_array_equal(tifffile.imread(out / "volume.tiff"), volume)
    np.testing.assert_array_equal(zarr.open_group(out / "volume.zarr", mode="r")["0"][:], volume)
    assert read_mrc(out / "projections_aligned.mrc")[0].shape == (VIEWS, SIDE, SIDE)
    flow = np.load(out / "flow.npy")
    assert flow.shape == (VIEWS, 2, SIDE, SIDE)
    theta, shifts = read_shifts(out / "shifts.csv")
    np.testing.assert_allclose(shifts, flow.mean(axis=(2, 3)), atol=1e-5)
    np.testing.assert_allclose(theta, read_views(out / "views.csv").theta_degrees)
    assert FscCurve.read_csv(out / "fsc_slices.csv").correlation[1:5].min() > 0.9
    page = PageReader((out / "report.html").read_text())
    for title in ("Slices", "Projections and flow", "Iterations", "Views one by one", "Resolution",
                  "Motion that no view tells apart", "Rotation axis"):  # fmt: skip
        assert title in page.texts, title
    assert main([word for word in words if word != "--quiet"]) == 0
    assert "finished; nothing to do" in capsys.readouterr().err


@pytest.mark.usefixtures("no_page")
@pytest.mark.parametrize(("method", "most"), [("fbp", 0.18), ("cg", 0.17), ("pcgtv", 0.08)])
def test_a_specimen_that_rests_is_found(still, tmp_path, method, most):
    options = ReconstructOptions(method=method, threads=1, halves=False)
    assert error(volume_of(run(still, tmp_path / "run", options)), truth_of(still)) < most


@pytest.mark.usefixtures("no_page")
def test_total_variation_takes_noise_away(noisy, tmp_path):
    found = {}
    for method in ("fbp", "pcg", "pcgtv"):
        options = ReconstructOptions(method=method, threads=1, halves=False)
        found[method] = error(volume_of(run(noisy, tmp_path / method, options)), truth_of(noisy))
    assert found["pcgtv"] < 0.85 * found["pcg"]
    assert found["pcg"] < 0.8 * found["fbp"]


@pytest.mark.usefixtures("no_page")
def test_motion_that_is_there_is_found_and_what_rests_is_left_alone(deformed, still, tmp_path):
    plain = replace(QUICK, halves=False)
    moved, rests = run(deformed, tmp_path / "moved", plain), run(still, tmp_path / "rests", plain)
    before = run(deformed, tmp_path / "pcg", ReconstructOptions(method="pcgtv", threads=1, halves=False))
    assert moved.summary["misfit"] < 0.75 * before.summary["misfit"]
    flow = np.load(rests.run_folder / "flow.npy")
    assert np.sqrt(np.mean(flow**2)) < 0.1


@pytest.mark.usefixtures("no_page")
def test_shifts_are_found_to_a_tenth_of_a_pixel_and_the_jump_is_listed(shaken, tmp_path):
    options = ReconstructOptions(method="shifts", levels=2, iterations=(12, 8), threads=1, halves=False)
    result = run(shaken, tmp_path / "run", options)
    theta, found = read_shifts(result.run_folder / "shifts.csv")
    names = shaken.with_name("truth_views.csv").read_text().splitlines()[0].split(",")
    table = np.loadtxt(shaken.with_name("truth_views.csv"), delimiter=",", skiprows=1)
    truth = table[:, [names.index("shift_x_pixels"), names.index("shift_z_pixels")]]
    apart, _ = remove_shift_gauge(found - truth, theta)
    apart[:, 0] -= apart[:, 0].mean()  # a centre that is off
    assert np.sqrt(np.mean(apart**2)) < 0.1


@pytest.mark.usefixtures("no_page")
@pytest.mark.parametrize("method", ["of", "of-printed", "oftv-printed"])
def test_other_ways_lower_the_misfit(deformed, tmp_path, method):
    options = ReconstructOptions(method=method, levels=2, iterations=(8, 6), threads=1, halves=False)
    summary = run(deformed, tmp_path / "run", options).summary
    assert summary["misfit"] < summary["misfit_unaligned"]
    assert np.isfinite(summary["misfit"])


@pytest.mark.usefixtures("no_page")
def test_mass_that_is_kept_needs_its_own_model(tmp_path):
    scan = write_scan(tmp_path / "data", warp="mass", deformation_percent=10.0, photons=1e5)
    found = {
        warp: run(scan, tmp_path / warp, replace(QUICK, warp=warp, halves=False)).summary
        for warp in ("move", "mass")
    }
    assert found["mass"]["misfit"] < 0.5 * found["mass"]["misfit_unaligned"]
    assert found["mass"]["misfit"] < found["move"]["misfit"]


@pytest.mark.usefixtures("no_page")
def test_a_finished_run_does_nothing_and_other_options_are_refused(still, tmp_path):
    short = ReconstructOptions(method="cg", iterations=(2,), threads=1, halves=False)
    first = run(still, tmp_path / "run", short)
    made = (tmp_path / "run" / "volume.mrc").stat().st_mtime_ns
    assert run(still, tmp_path / "run", replace(short, threads=2)).summary == first.summary
    assert (tmp_path / "run" / "volume.mrc").stat().st_mtime_ns == made
    for change in ({"damping": 2.0}, {"iterations": (3,)}, {"inner_iterations": 2}):
        with pytest.raises(InputError, match=next(iter(change))):
            run(still, tmp_path / "run", replace(short, **change))
    with pytest.raises(InputError, match="binning"):
        run(still, tmp_path / "run", short, binning=2)
    again = run(still, tmp_path / "run", replace(short, damping=0.0), run={"overwrite": True})
    assert again.summary["method"] == "cg"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--method", "cg", "--flow", "dis"), "cg has no such option"),
        (("--levels", "4"), "4 levels leave 4 x 4 pixels at the coarsest"),
        (("--levels", "2", "--iterations", "4", "3", "2"), "3 numbers are not those of 2 levels"),
        (("--device", "cuda"), "nano reconstruct computes on the CPU"),
        (("--binning", "8"), "48 views of 4 x 4 pixels are too little for a reconstruction"),
        (("--center", "60"), "60 is outside the detector of 32 columns"),
        (("--memory", "0.01"), "of memory in each process, and 10"),
        (("--tv", "-1"), "-1 is too small"),
    ],
)
def test_refusals_are_one_sentence_and_leave_nothing(still, tmp_path, capsys, words, said):
    out = tmp_path / "run"
    assert main(["nano", "reconstruct", str(still), "--out", str(out), *words]) == 2
    told = capsys.readouterr().err.strip()
    assert said in told
    assert len(told.splitlines()) == 1
    assert not (out / "run.toml").exists()


def test_check_tells_what_a_run_would_take(still, capsys):
    assert main(["nano", "check", str(still), "--center", str(CENTER), "--levels", "2"]) == 0
    told = capsys.readouterr().out
    assert "method: oftv, 24 + 12 iterations, the coarsest level first" in told
    assert "memory: about " in told
    assert "of one core" in told


# Imports everything once, then forks a process for every line "folder" it reads: what is killed is a process
# of its own, without the seconds that importing takes.
DRIVER = """
import gc, os, sys
from pathlib import Path
sys.path[:0] = [sys.argv[2], str(Path(sys.argv[2]).parent)]
from nano_job_example import QUICK, run
from manyviews.jobs import run as job

job.build_report = lambda folder, sections, tell=None: folder
gc.freeze()
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            run(Path(sys.argv[1]), Path(line.rstrip()), QUICK, run={"checkpoint_seconds": 0})
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


def iterations_of(folder: Path) -> list[tuple[str, int]]:
    events = read_events(folder / "events.jsonl") if (folder / "events.jsonl").exists() else []
    return [(event["stage"], event["iteration"]) for event in events if event["kind"] == "iteration"]


@pytest.fixture
def driver(deformed, warm):
    process = subprocess.Popen(
        [*warm, "-c", DRIVER, str(deformed), str(Path(__file__).parent)],
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
    """Killed without alignment, before flows, within a level, in a half, and as results are made."""
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert driver.run(whole) == 0
    stages = iterations_of(whole)
    places = ((2, 0.0), (6, 0.0), (14, 0.01), (30, 0.0), (len(stages), 0.02))
    codes = [driver.run(out, kill_at, after) for kill_at, after in places]
    assert codes[0] == codes[2] == -signal.SIGKILL
    if codes[-1] != 0:
        assert driver.run(out) == 0
    for name in SAME:
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    assert iterations_of(out) == stages
    told = [
        [(one.level, one.iteration, one.misfit) for one in read_iterations(folder / "iterations.csv")]
        for folder in (out, whole)
    ]
    assert told[0] == told[1]
    assert not (out / "checkpoint").exists()


@pytest.mark.parametrize(("ranks", "method"), [(3, "oftv"), (3, "pcgtv"), (2, "of-printed"), (2, "fbp")])
def test_ranks_come_to_the_same(run_warm_ranks, deformed, tmp_path, monkeypatch, ranks, method):
    monkeypatch.setattr(jobs_run, "build_report", lambda folder, sections, tell=None: folder)
    alone = run(deformed, tmp_path / "alone", OPTIONS[method])
    out = tmp_path / "ranks"
    done = run_warm_ranks(ranks, SCRIPT, deformed, out, method, seconds=120)
    assert done.returncode == 0, done.stderr
    one, many = (read_mrc(folder / "volume.mrc")[0] for folder in (alone.run_folder, out))
    # the same to the last bit, but where a sum over all ranks rounds to another float32
    assert np.linalg.norm(many - one) < 1e-5 * np.linalg.norm(one)
    if (out / "flow.npy").exists():
        flows = [np.load(folder / "flow.npy") for folder in (out, alone.run_folder)]
        assert np.sqrt(np.mean((flows[0] - flows[1]) ** 2)) < 1e-3
    assert json.loads((out / "summary.json").read_text())["ranks"] == ranks
