"""Fixtures that any test may use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from manyviews.geometry.views import TiltGeometry

REPOSITORY = Path(__file__).resolve().parents[1]

# Triton reads this when a kernel is decorated, so it must be set before the first import of one.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``cuda`` are skipped where there is no GPU."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


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


class Ranks:
    """Runs Python under the ``mpiexec`` that is installed beside it, one thread a rank."""

    def __init__(self, launcher: Path) -> None:
        self._launcher = launcher

    def start(self, count: int, *words: object, **variables: str) -> subprocess.Popen[str]:
        """``python WORDS...`` on ``count`` ranks, with environment variables; see `end`."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PMI", "MPI_"))}
        return subprocess.Popen(
            [str(self._launcher), "-n", str(count), sys.executable, *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**kept, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", **variables},
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
def run_ranks() -> Ranks:
    """``run_ranks(count, script, *words, seconds=60, **environment)``: a Python script under MPI."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    launcher = Path(sys.executable).with_name("mpiexec")
    if not launcher.is_file():
        pytest.skip("no mpiexec beside the interpreter")
    return Ranks(launcher)
