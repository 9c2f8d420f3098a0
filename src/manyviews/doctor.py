"""Is this machine ready? One finding a question, each with a fix where something is wrong."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from manyviews.io.sizes import format_bytes
from manyviews.runs.memory import available_memory_bytes, free_disk_bytes

State = Literal["ok", "warn", "fail"]
_GIB = 1024**3
_LITTLE_DISK_BYTES = 5 * _GIB
_LITTLE_MEMORY_BYTES = 2 * _GIB
_DOT_TEST_LIMIT = 1e-5
_MPI_SECONDS = 20
_LEAVING_SECONDS = 3
_TWO_RANKS = """
import sys
from array import array
from mpi4py import MPI
found = array("d", [0.0])
MPI.COMM_WORLD.Allreduce(array("d", [MPI.COMM_WORLD.rank + 1.0]), found)
sys.exit(None if found[0] == 3.0 else f"1 + 2 = {found[0]}")
"""


@dataclass(frozen=True)
class Finding:
    """One thing looked at, e.g. ``"torch"``: what was found, and what to do about it, empty if nothing.

    The state is ``ok``; ``warn``: works without it; ``fail``: must be mended.
    """

    name: str
    state: State
    detail: str
    fix: str = ""

    def line(self) -> str:
        """The finding as one line of text."""
        return f"{self.state:4}  {self.name:10}  {self.detail}" + (f"; {self.fix}" if self.fix else "")


def examine(folder: Path) -> Iterator[Finding]:
    """Look at everything, one finding after the other; the free disk space is that of ``folder``."""
    checks: tuple[tuple[str, Callable[[], Finding]], ...] = (
        ("python", _python),
        ("torch", _torch),
        ("numba", _numba),
        ("cuda", _cuda),
        ("triton", _triton),
        ("mpi", _mpi),
        ("disk", lambda: _disk(folder)),
        ("memory", _memory),
        ("operators", _operators),
    )
    for name, check in checks:
        try:
            yield check()
        except Exception as error:  # a broken installation fails in ways nobody can list
            reason = " ".join(str(error).split()) or "no reason given"
            yield Finding(name, "fail", f"{type(error).__name__}: {reason}", "reinstall manyviews")


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "ok", f"{version} at {sys.executable}")


def _torch() -> Finding:
    import torch

    threads = torch.get_num_threads()
    return Finding("torch", "ok", f"{torch.__version__}, {threads} thread{'s' if threads > 1 else ''}")


def _numba() -> Finding:
    import numba
    import numpy as np

    @numba.njit(parallel=True)
    def total(values: np.ndarray) -> float:
        result = 0.0
        for index in numba.prange(values.size):
            result += values[index]
        return result

    if total(np.ones(1000)) != 1000.0:
        return Finding("numba", "fail", "a compiled sum is wrong", "reinstall numba")
    return Finding("numba", "ok", f"{numba.__version__}, compiles, {numba.get_num_threads()} threads")


def _cuda() -> Finding:
    import torch

    if not torch.cuda.is_available():
        fix = "fine on this machine unless it has an NVIDIA GPU; then install a CUDA build of torch"
        return Finding("cuda", "warn", "no device, the CPU is used", fix)
    free, total = torch.cuda.mem_get_info()
    name = torch.cuda.get_device_name()
    return Finding("cuda", "ok", f"{name}, {format_bytes(free)} of {format_bytes(total)} free")


def _triton() -> Finding:
    if importlib.util.find_spec("triton") is None:
        fix = "needed on an NVIDIA GPU only: pip install 'manyviews[cuda]'"
        return Finding("triton", "warn", "not installed", fix)
    from importlib.metadata import version

    return Finding("triton", "ok", version("triton"))


def _mpi() -> Finding:
    beside = shutil.which("mpiexec", path=str(Path(sys.executable).parent))
    launcher = beside or shutil.which("mpiexec")
    bindings = importlib.util.find_spec("mpi4py") is not None
    if not launcher or not bindings:
        absent = " and ".join(
            name for name, here in (("mpi4py", bindings), ("mpiexec", launcher)) if not here
        )
        fix = "needed for several processes or machines only: pip install 'manyviews[mpi]'"
        return Finding("mpi", "warn", f"no {absent}", fix)
    if beside is None:  # a cluster's, which may not be used here and now
        return Finding("mpi", "ok", f"mpi4py with {launcher}, not tried")
    trouble = _trouble_with_two_ranks(beside)
    if trouble:
        fix = f"try {beside} -n 2 {sys.executable} -m mpi4py.bench helloworld (not needed for one process)"
        return Finding("mpi", "warn", f"two ranks of {beside} {trouble}", fix)
    return Finding("mpi", "ok", f"mpi4py with {launcher}, two ranks add up")


def _trouble_with_two_ranks(launcher: str) -> str:
    """What goes wrong where two ranks add up a number under ``launcher``; empty if nothing."""
    ours = {name: text for name, text in os.environ.items() if not name.startswith(("PMI", "MPI_", "OMPI_"))}
    command = [launcher, "-n", "2", sys.executable, "-c", _TWO_RANKS]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ours,
    ) as started:
        try:
            said, _ = started.communicate(timeout=_MPI_SECONDS)
        except subprocess.TimeoutExpired:
            started.terminate()  # a launcher that is asked to go takes its ranks along
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(_LEAVING_SECONDS)
            started.kill()
            return f"did not end within {_MPI_SECONDS} s"
    if started.returncode:
        return f"fail ({' '.join(said.split())[-200:] or f'exit code {started.returncode}'})"
    return ""


def _disk(folder: Path) -> Finding:
    if not folder.is_dir():
        return Finding("disk", "fail", f"there is no folder {folder}", "give an existing one to --folder")
    free = free_disk_bytes(folder)
    detail = f"{format_bytes(free)} free in {folder.resolve()}"
    if free < _LITTLE_DISK_BYTES:
        return Finding("disk", "warn", detail, "free some space before a large run")
    return Finding("disk", "ok", detail)


def _memory() -> Finding:
    available = available_memory_bytes()
    if available is None:
        return Finding("memory", "warn", "this system does not tell how much")
    detail = f"{format_bytes(available)} available"
    if available < _LITTLE_MEMORY_BYTES:
        return Finding("memory", "warn", detail, "close other programs or use --bin 2")
    return Finding("memory", "ok", detail)


def _operators() -> Finding:
    import torch

    from manyviews.operators.linear import dot_test, registered_operators

    errors = {
        name: dot_test(make(0), dtype=torch.float32) for name, make in sorted(registered_operators().items())
    }
    wrong = [f"{name} ({error:.1e})" for name, error in errors.items() if not error < _DOT_TEST_LIMIT]
    if wrong:
        fix = "reinstall numba and torch; report this if it stays"
        return Finding("operators", "fail", f"not adjoint: {', '.join(wrong)}", fix)
    if not errors:
        return Finding("operators", "fail", "none is registered", "reinstall manyviews")
    worst = max(errors.values())
    return Finding("operators", "ok", f"{len(errors)} pass the adjoint test, largest mismatch {worst:.1e}")
