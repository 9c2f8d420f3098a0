"""The same reconstruction on 1, 2, 3 and 4 ranks, and after ranks were killed."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from rank_runs import AXES, CASES, SPOILT, THICKNESS

from manyviews.geometry.views import TiltGeometry
from manyviews.io.mrc import read_mrc, write_mrc
from manyviews.parallel.layout import Layout
from manyviews.runs.events import read_events
from manyviews.simulate.phantoms import Gaussians

SCRIPT = Path(__file__).with_name("rank_runs.py")
PIXEL = 4.0
SHAPE = (THICKNESS, 30, 34)
KILLS = 5  # one in each layout
LAYOUTS = {2: ("1x2", "2x1"), 3: ("1x3", "3x1"), 4: ("2x2",)}  # more in test_layouts.py
METHODS = tuple(name for name in CASES if name != "long")


@pytest.fixture(scope="module")
def stacks(tmp_path_factory):
    """Two stacks of nine tilts with a little noise."""
    folder = tmp_path_factory.mktemp("stacks")
    rng = np.random.default_rng(3)
    places = rng.uniform(-12, 12, (6, 3)) * PIXEL * np.array([1.0, 1.0, 0.2])
    blobs = Gaussians.isotropic(np.ones(6), places, 2.5 * PIXEL)
    tilts = np.linspace(-60.0, 60.0, 9)
    for name, axis in zip("ab", AXES, strict=True):
        geometry = TiltGeometry.from_tilt_axis(tilts, axis)
        images = blobs.project(geometry, SHAPE[1:], PIXEL)
        images = images + 0.05 * images.std() * rng.normal(size=images.shape)
        write_mrc(folder / f"{name}.mrc", images.astype(np.float32), PIXEL, is_volume=False)
        (folder / f"{name}.tlt").write_text("".join(f"{tilt}\n" for tilt in tilts))
        rows = [f"{n + 1} {n + 1} {tilt} {tilt} {40 + 0.7 * n}" for n, tilt in enumerate(tilts)]
        (folder / f"{name}.defocus").write_text("\n".join([f"{rows[0]} 2", *rows[1:], ""]))
        spoil(folder, name, images)
    return folder


def spoil(folder, name, images):
    """The same with a border in one image, and a patch that a user gives no weight."""
    spoilt, weights = images.copy(), np.ones_like(images)
    spoilt[6, :, :4] = 0.7 * images.max()
    spoilt[2:5, 10:16, 20:26] += 20 * images.std()
    weights[2:5, 10:16, 20:26] = 0.0
    for kind, values in (("spoilt", spoilt), ("weights", weights)):
        write_mrc(folder / f"{kind}-{name}.mrc", values.astype(np.float32), PIXEL, is_volume=False)


def volume(folder):
    return read_mrc(folder / "volume.mrc")[0].astype(np.float64)


def mismatch(found, expected):
    return float(np.linalg.norm(volume(found) - volume(expected)) / np.linalg.norm(volume(expected)))


@pytest.fixture(scope="module")
def alone(run_warm_ranks, stacks, tmp_path_factory):
    """All cases on one rank."""
    out = tmp_path_factory.mktemp("alone")
    done = run_warm_ranks(1, SCRIPT, stacks, out, 30, *(f"{name}:1x1" for name in CASES), seconds=200)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("ranks", LAYOUTS)
def test_many_ranks_give_the_volume_of_one(run_warm_ranks, stacks, alone, tmp_path, ranks):
    cases = [f"{name}:{layout}" for layout in LAYOUTS[ranks] for name in METHODS]
    done = run_warm_ranks(ranks, SCRIPT, stacks, tmp_path, 30, *cases, seconds=250)
    assert done.returncode == 0, done.stderr
    for case in cases:
        name, layout = case.split(":")
        found = tmp_path / f"{name}-{layout}"
        assert mismatch(found, alone / f"{name}-1x1") < 1e-5, case
        iterations = [e for e in read_events(found / "events.jsonl") if e["kind"] == "iteration"]
        if name in SPOILT:
            table = "pixels.csv"
            assert (found / table).read_bytes() == (alone / f"{name}-1x1" / table).read_bytes(), case
        if layout.startswith("1"):  # groups of cg and sirt meet only where views are projected
            assert all(event["exchanged_bytes"] > 0 and event["messages"] > 0 for event in iterations)


@pytest.mark.parametrize("layout", ["1x1", "1x2"])
def test_gpus_give_the_volume_of_a_processor(run_warm_ranks, stacks, alone, tmp_path, layout):
    """Volumes, images and kernels are where they should be, in slabs too; see `pretend_gpu`."""
    cases = [f"gpu-{name}:{layout}" for name in METHODS]
    ranks = Layout.parse(layout).ranks
    done = run_warm_ranks(ranks, SCRIPT, stacks, tmp_path, 30, *cases, seconds=250)
    assert done.returncode == 0, done.stderr
    for name in METHODS:
        assert mismatch(tmp_path / f"gpu-{name}-{layout}", alone / f"{name}-1x1") < 1e-5, name


@pytest.mark.parametrize("name", SPOILT)
def test_bad_pixels_of_the_stacks_for_ranks_are_found(alone, name):
    table = np.genfromtxt(alone / f"{name}-1x1" / "pixels.csv", delimiter=",", names=True)
    assert (table["edges_percent"][[0, 8]] > 1).all()
    assert np.flatnonzero(table["border"]).tolist() == [6, 15]
    assert (table["masked_percent"][[2, 3, 4, 6, 11, 12, 13, 15]] > 1).all()


def iterations_of(folder):
    events = read_events(folder / "events.jsonl") if (folder / "events.jsonl").exists() else []
    return [event["iteration"] for event in events if event["kind"] == "iteration"]


def wait_for_progress(folder, process):
    """Until a new iteration is told, or the job ends."""
    before, limit = len(iterations_of(folder)), time.monotonic() + 60
    while len(iterations_of(folder)) <= before and process.poll() is None:
        assert time.monotonic() < limit
        time.sleep(0.002)


def test_killed_ranks_and_others_that_go_on(run_warm_ranks, stacks, alone, tmp_path):
    """Random ranks are killed at random moments; each time another number of ranks goes on."""
    rng = np.random.default_rng(11)
    layouts = ("1x2", "1x1", "3x1", "2x1", "1x3")
    kills = 0
    for start in range(3 * KILLS):
        layout = layouts[start % len(layouts)]
        ranks = int(layout[0]) * int(layout[2])
        process = run_warm_ranks.start(ranks, SCRIPT, stacks, tmp_path, 0, f"long:{layout}")
        wait_for_progress(tmp_path / "long", process)
        time.sleep(float(rng.uniform(0.0, 0.05)))
        if process.poll() is None and kills < KILLS:
            pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
            os.kill(pids[int(rng.integers(len(pids)))], signal.SIGKILL)
            began = time.monotonic()
            done = run_warm_ranks.end(process, seconds=20)
            assert time.monotonic() - began < 5.0
            assert done.returncode != 0
            kills += 1
            continue
        done = run_warm_ranks.end(process)
        assert done.returncode == 0, done.stderr
        break
    assert kills == KILLS
    assert iterations_of(tmp_path / "long") == list(range(1, CASES["long"]["iterations"] + 1))
    assert mismatch(tmp_path / "long", alone / "long") < 1e-5


def test_ranks_that_no_layout_has_use_for(run_warm_ranks, stacks, alone, tmp_path):
    done = run_warm_ranks(3, SCRIPT, stacks, tmp_path, 30, "sirt:1x2")
    assert done.returncode == 0, done.stderr
    assert mismatch(tmp_path / "sirt-1x2", alone / "sirt-1x1") < 1e-5
