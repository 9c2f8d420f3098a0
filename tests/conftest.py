"""Fixtures that any test may use."""

from __future__ import annotations

import base64
import contextlib
import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Hashable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from drawn_once import figure_functions, once
from manyviews.geometry.views import TiltGeometry

REPOSITORY = Path(__file__).resolve().parents[1]
WARM_RANKS = REPOSITORY / "tests" / "warm_ranks.py"
CAN_BE_WARM = hasattr(os, "pidfd_open")  # it is Linux's
ONE_THREAD = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
# Where the nursery of `warm` is that workers of pytest-xdist share
NURSERY = "MANYVIEWS_TESTS_NURSERY"
# Garbage is looked for after so many new objects: compiling kernels makes millions, and looking at Python's
# own number, 700, takes a tenth of the time
GARBAGE_AFTER = 20_000
# What is distributed first: kernels, each of which is compiled by one worker and then in the cache of all;
# then what takes longest. The many short files after them fill all workers to the end.
FIRST = ("kernels", "tilt", "particles", "parallel", "solvers", "alignment", "jobs", "runs")

BLANK_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg=="
)


def pytest_configure(config: pytest.Config) -> None:
    """Each worker of pytest-xdist has one thread, and what it starts: more would wait for each other.

    Workers share one nursery of warm processes.
    """
    if config.getoption("numprocesses", None):
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        if CAN_BE_WARM:
            together = contextlib.ExitStack()
            folder = together.enter_context(tempfile.TemporaryDirectory())
            os.environ[NURSERY] = together.enter_context(nursery(Path(folder) / "door"))
            config.add_cleanup(together.close)
            config.add_cleanup(partial(remove_shared_memory, time.time()))


def remove_shared_memory(since: float) -> None:
    """MPICH's files in memory that killed ranks have left: made after a time, and mapped by no process."""
    mapped = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            mapped.update(line.split()[-1] for line in maps.read_text().splitlines() if "mpich_shm" in line)
    for left in Path("/dev/shm").glob("mpich_shm_*"):
        with contextlib.suppress(OSError):
            if left.stat().st_mtime >= since and str(left) not in mapped:
                left.unlink()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Before the first import of a test, where tests are run: not in the process that distributes them.

    Signals that ``nohup`` or the background of a shell has ignored are met again: tests send them.
    """
    if session.config.getoption("numprocesses", None):
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    gc.set_threshold(GARBAGE_AFTER)
    os.fsync = lambda descriptor: None  # what a test writes need not outlive a power cut
    import numba
    import torch

    if hasattr(session.config, "workerinput"):
        numba.set_num_threads(1)  # only a default: tests of threads set what they need
        if NURSERY in os.environ:
            from compile_once import compile_once

            compile_once(Path(os.environ[NURSERY]).parent)
    if not torch.cuda.is_available():
        os.environ.setdefault("TRITON_INTERPRET", "1")  # Triton reads it when a kernel is decorated


def pytest_collection_finish() -> None:
    """What was imported stays: garbage is looked for among what tests make."""
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files into the order of `FIRST`; skip tests marked ``cuda`` where there is no GPU."""
    import torch

    items.sort(key=_turn)
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def _turn(item: pytest.Item) -> int:
    """Place in `FIRST` of the folder below ``tests`` that a test is in."""
    folder = item.nodeid.split("/")[1]
    return FIRST.index(folder) if folder in FIRST else len(FIRST)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Data sets beside the checkout, too large for it; tests that need them are skipped without."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no shared data beside the checkout ({folder.name} is absent)")
    return folder


@pytest.fixture(scope="session")
def subtomogram_data(shared_data: Path) -> Path:
    """Tables and volumes of other programs for subtomograms."""
    folder = shared_data / "subtomo"
    if not folder.is_dir():
        pytest.skip(f"no data of subtomograms beside the checkout ({folder.name} is absent)")
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same in every run."""
    return np.random.default_rng(20250101)


@pytest.fixture
def small_geometry() -> TiltGeometry:
    """Two axes of seven tilts each."""
    tilts = np.linspace(-60.0, 60.0, 7)
    return TiltGeometry.concatenate(
        [TiltGeometry.from_tilt_axis(tilts, axis, series=n) for n, axis in enumerate((0.0, 90.0))]
    )


@pytest.fixture
def one_thread():
    """Problems as small as those of some tests are slowed down by threads."""
    import numba
    import torch

    before = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    numba.set_num_threads(before[1])


@pytest.fixture(scope="module")
def drawn() -> dict[Hashable, object]:
    """The figures of a file of tests, by their data."""
    return {}


@pytest.fixture
def blank_pictures(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, drawn: dict[Hashable, object]
) -> None:
    """Reports are made with pictures of one pixel: drawing takes several times as long as a small run.

    The figure of the same data is made once in a file. Tests marked ``pictures`` draw in a file that uses
    this.
    """
    if request.node.get_closest_marker("pictures"):
        return
    from manyviews.report import plots, style

    monkeypatch.setattr(style, "figure_png", lambda figure: BLANK_PNG)
    monkeypatch.setattr(plots, "_SURFACE_PIXELS", 16)
    for module, name, draw in figure_functions():
        monkeypatch.setattr(module, name, once(draw, drawn))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The browser, drawn by the processor; tests are skipped where it or Playwright is not installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("there is no chromium")
    flags = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=list(flags))
        yield browser
        browser.close()


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs write no page, which takes a second: for tests that look at none."""
    from manyviews.jobs import run as job

    monkeypatch.setattr(job, "build_report", lambda folder, sections, tell=None: folder / job.REPORT_NAME)


class Ranks:
    """Runs Python under the ``mpiexec`` that is installed beside it, one thread a rank."""

    def __init__(self, launcher: Path, *program: object) -> None:
        self._words = [str(launcher), "-n"], list(map(str, program))

    def start(self, count: int, *words: object, **variables: str) -> subprocess.Popen[str]:
        """``python WORDS...`` on ``count`` ranks, with environment variables; see `end`."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PMI", "MPI_"))}
        return subprocess.Popen(
            [*self._words[0], str(count), *self._words[1], *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**kept, **ONE_THREAD, **variables},
        )

    def end(self, process: subprocess.Popen[str], seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Wait for what was started; a job that does not end in time is killed, ranks and all, and fails."""
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            for one in [*psutil.Process(process.pid).children(recursive=True), process]:
                one.kill()
            out, err = process.communicate()
            pytest.fail(f"the ranks still ran after {seconds} s; they said:\n{out}{err}")
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def __call__(
        self, count: int, *words: object, seconds: float = 60, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run ``python WORDS...`` on ``count`` ranks to its end; the caller looks at the exit code."""
        return self.end(self.start(count, *words, **variables), seconds)


@pytest.fixture(scope="session")
def launcher() -> Path:
    """The ``mpiexec`` beside the interpreter."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    found = Path(sys.executable).with_name("mpiexec")
    if not found.is_file():
        pytest.skip("no mpiexec beside the interpreter")
    return found


@pytest.fixture(scope="session")
def run_ranks(launcher: Path) -> Ranks:
    """``run_ranks(count, script, *words, seconds=60, **environment)``: a Python script under MPI."""
    return Ranks(launcher, sys.executable)


@contextlib.contextmanager
def nursery(address: Path) -> Iterator[str]:
    """The process that others are forked from, which can be called at an address."""
    with subprocess.Popen(
        [sys.executable, WARM_RANKS, address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **ONE_THREAD},
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        yield str(address)
        process.stdin.close()


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The words of a Python that has imported everything already, for tests that start many processes.

    What is killed then has written its last as soon as its output ends, not when ``wait`` returns; see
    `killed.kill` for runs.
    """
    if not CAN_BE_WARM:
        yield [sys.executable]
        return
    with contextlib.ExitStack() as own:
        address = os.environ.get(NURSERY) or own.enter_context(
            nursery(tmp_path_factory.mktemp("nursery") / "door")
        )
        words = [sys.executable, "-I", "-S", str(WARM_RANKS), address]
        subprocess.run([*words, "-c", ""], check=True)  # until all is imported
        yield words


@pytest.fixture(scope="session")
def run_warm_ranks(launcher: Path, warm: list[str]) -> Ranks:
    """As `run_ranks`, without the seconds that a rank takes to import everything."""
    return Ranks(launcher, *warm)
