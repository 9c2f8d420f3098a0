"""Killed at random moments and started again, a run ends with the same bytes as one that was let be."""

import os
import select
import signal
import subprocess
import time
from contextlib import contextmanager

import numpy as np
import pytest

from manyviews.geometry.views import TiltGeometry
from manyviews.io.mrc import write_mrc
from manyviews.runs.events import read_events
from manyviews.simulate.phantoms import Gaussians

PIXEL = 4.0
SHAPE = (16, 36, 40)
# after a plus: --edges; methods but cg fill the pixels that it takes the weight of first
ITERATIONS = {"cg": 20, "consensus": 8, "admm": 8, "cg+weigh": 12, "sirt+weigh": 8}
KILLS_A_METHOD = 10

# Imports everything once, then forks a process for every line "method folder" it reads: what is killed is a
# process of its own, without the seconds that importing takes.
DRIVER = """
import gc, os, signal, sys
from pathlib import Path
from manyviews.cli.failures import explain
from manyviews.options import RunOptions
from manyviews.runs import driver as stages
from manyviews.tilt.options import ReconstructOptions, SeriesOptions
from manyviews.tilt.reconstruct import reconstruct
from manyviews.report import drawing
# no pictures, which would take longer than all the rest
drawing.draw = lambda figure: drawing.Drawing(b"", b"", b"")
gc.freeze()

def die_once_saved(last):
    save = stages.save_checkpoint
    def save_and_die(folder, values, iteration, *, stage, **others):
        save(folder, values, iteration, stage=stage, **others)
        if f"{stage}-{iteration}" == last:
            os.kill(os.getpid(), signal.SIGKILL)
    stages.save_checkpoint = save_and_die

def work(method, iterations, out, stacks):
    series = SeriesOptions(
        stacks=tuple(stacks), tilt_angles=tuple(s.with_suffix(".tlt") for s in stacks), axis_angle=(0.0, 35.0)
    )
    method, _, edges = method.partition("+")
    options = ReconstructOptions(
        thickness={thickness}, method=method, iterations=iterations, device="cpu", threads=1,
        edges=edges or "auto",
    )
    reconstruct(series, options, RunOptions(Path(out), quiet=True, checkpoint_seconds=0))

for line in sys.stdin:
    method, iterations, out, last, *stacks = line.rstrip("\\n").split("\\t")
    child = os.fork()
    if child == 0:
        try:
            die_once_saved(last)
            work(method, int(iterations), out, [Path(stack) for stack in stacks])
        except BaseException as error:
            print(explain(error).sentence, file=sys.stderr, flush=True)
            os._exit(explain(error).exit_code)
        os._exit(0)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


@pytest.fixture(scope="module")
def stacks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    beads = np.array([[6.0, -4.0, 2.0], [-8.0, 5.0, -2.0], [2.0, 9.0, 1.0]]) * PIXEL
    phantom = Gaussians.isotropic(np.ones(3), beads, 1.5 * PIXEL)
    tilts = np.linspace(-60.0, 60.0, 11)
    noise = np.random.default_rng(5)
    paths = []
    for number, axis in enumerate((0.0, 35.0)):
        images = phantom.project(TiltGeometry.from_tilt_axis(tilts, axis), SHAPE[1:], PIXEL)
        paths.append(folder / f"{number}.mrc")
        write_mrc(paths[-1], images + noise.normal(scale=0.3, size=images.shape), PIXEL, is_volume=False)
        paths[-1].with_suffix(".tlt").write_text("\n".join(map(str, tilts)))
    return paths


class Driver:
    """Starts runs one after the other and can kill them."""

    def __init__(self, process, stacks):
        self.process = process
        self.stacks = stacks

    def run(self, method, out, *, kill_after=None, once_iterating=False, last=""):
        """The exit code of one run, negative where a signal ended it.

        ``kill_after`` counts from the start, or ``once_iterating`` from where the first new events appear.
        With ``last``, as in "fill-4", the run kills itself when it has saved this iteration of this stage.
        """
        words = [method, str(ITERATIONS[method]), str(out), last, *map(str, self.stacks)]
        self.process.stdin.write("\t".join(words) + "\n")
        self.process.stdin.flush()
        child = int(self.process.stdout.readline())
        if kill_after is not None:
            events = out / "events.jsonl"
            size = _size(events)
            while once_iterating and not self._ended() and _size(events) <= size:
                time.sleep(0.001)
            time.sleep(kill_after)
            # a zombie at worst: the driver tells its end before it starts another
            if not self._ended():
                os.kill(child, signal.SIGKILL)
        return int(self.process.stdout.readline())

    def _ended(self):
        return bool(select.select([self.process.stdout], [], [], 0)[0])


def _size(path):
    return path.stat().st_size if path.exists() else 0


@contextmanager
def started(stacks, python):
    source = DRIVER.replace("{thickness}", str(SHAPE[0]))
    process = subprocess.Popen(
        [*python, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        yield Driver(process, stacks)
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(timeout=60)


@pytest.fixture(scope="module")
def driver(stacks, warm):
    with started(stacks, warm) as made:
        yield made


def story(run):
    """The events without what depends on the clock."""
    return [
        {name: value for name, value in event.items() if name != "time" and not name.endswith("seconds")}
        for event in read_events(run / "events.jsonl")
    ]


def assert_same(run, reference):
    for name in ("volume.mrc", "ncc.csv", "geometry.csv"):
        assert (run / name).read_bytes() == (reference / name).read_bytes(), name
    assert story(run) == story(reference)
    assert not (run / "checkpoint").exists()
    assert not [path.name for path in run.iterdir() if path.name.endswith(".tmp")]


@pytest.mark.parametrize("method", ["cg", "consensus", "admm"])
def test_kills_at_random_moments_change_nothing(method, driver, tmp_path):
    reference = tmp_path / "reference"
    driver.run(method, tmp_path / "warm-up")
    began = time.monotonic()
    assert driver.run(method, reference) == 0
    whole_seconds = time.monotonic() - began
    delays = np.random.default_rng(11).uniform(0.0, 1.0, size=200) * whole_seconds
    kills = resumed = number = 0
    for attempt, delay in enumerate(delays):
        run = tmp_path / f"run-{number}"
        aimed = (
            attempt % 2 == 1
        )  # every other one at the iterations, which are a small part of so small a run
        code = driver.run(method, run, kill_after=0.1 * delay if aimed else delay, once_iterating=aimed)
        if code == -signal.SIGKILL:
            kills += 1
            resumed += any((run / "checkpoint").glob("*-*"))
        else:
            assert code == 0
            assert_same(run, reference)
            number += 1
        if kills >= KILLS_A_METHOD:
            break
    assert driver.run(method, run) == 0
    assert_same(run, reference)
    assert kills >= KILLS_A_METHOD
    assert resumed >= 2


@pytest.mark.parametrize("method", ["sirt+weigh", "cg+weigh"])
def test_a_run_that_weighs_edges_goes_on_where_it_was_killed(method, driver, tmp_path):
    """In the middle of its first stage, which is that of filling for all methods but cg."""
    reference, run = tmp_path / "reference", tmp_path / "run"
    assert driver.run(method, reference) == 0
    stage = "reconstruct" if method.startswith("cg") else "fill"
    assert driver.run(method, run, last=f"{stage}-4") == -signal.SIGKILL
    assert sorted(path.name for path in (run / "checkpoint").glob("*-*")) == [
        f"{stage}-000003",
        f"{stage}-000004",
    ]
    assert driver.run(method, run) == 0
    assert f"{stage}: going on after iteration 4" in (run / "log.txt").read_text()
    assert_same(run, reference)
    assert (run / "pixels.csv").read_bytes() == (reference / "pixels.csv").read_bytes()


def test_sigterm_saves_and_the_same_command_goes_on(stacks, warm, tmp_path):
    out = tmp_path / "run"
    iterations = 200
    words = [
        "-m", "manyviews.cli", "tilt", "reconstruct", *map(str, stacks), "--tilt-angles",
        *(str(stack.with_suffix(".tlt")) for stack in stacks), "--axis-angle", "0", "35", "--thickness",
        str(SHAPE[0]), "--method", "sirt", "--iterations", str(iterations), "--device", "cpu",
        "--threads", "1", "--quiet", "--out", str(out),
    ]  # fmt: skip
    process = subprocess.Popen([*warm, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(read_events(out / "events.jsonl")) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 143
    assert err.splitlines()[-1].startswith("manyviews: interrupted: stopped by SIGTERM after iteration ")
    assert "Traceback" not in err
    saved = sorted((out / "checkpoint").glob("reconstruct-*"))
    assert len(saved) == 1
    assert not (out / "volume.mrc").exists()
    done = subprocess.run([*warm, *words], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0
    assert f"reconstruct: going on after iteration {int(saved[0].name[-6:])}" in (out / "log.txt").read_text()
    assert story(out)[-1]["kind"] == "done"
    assert [event["iteration"] for event in story(out) if event["kind"] == "iteration"] == [
        *range(1, iterations + 1)
    ]
