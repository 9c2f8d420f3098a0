"""Is this machine ready? One finding a question, each with a fix where something is wrong."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from manyviews.runs.memory import available_memory_bytes, format_bytes, free_disk_bytes

State = Literal["ok", "warn", "fail"]
_GIB = 1024**3
_LITTLE_DISK_BYTES = 5 * _GIB
_LITTLE_MEMORY_BYTES = 2 * _GIB
_DOT_TEST_LIMIT = 1e-5


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes
    ----------
    name
        What was looked at, e.g. ``"torch"``.
    state
        ``ok``; ``warn``: works without it; ``fail``: must be mended.
    detail
        What was found.
    fix
        What to do about it, empty where nothing needs doing.
    """

    name: str
    state: State
    detail: str
    fix: str = ""

    def line(self) -> str:
        """The finding as one line of text."""
        return f"{self.state:4}  {self.name:10}  {self.detail}" + (f"; {self.fix}" if self.fix else "")


def examine(folder: Path) -> Iterator[Finding]:
    """Look at everything, one finding after the other.

    Parameters
    ----------
    folder
        The folder whose free disk space counts.
    """
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
    launcher = shutil.which("mpiexec")
    bindings = importlib.util.find_spec("mpi4py") is not None
    if launcher and bindings:
        return Finding("mpi", "ok", f"mpi4py with {launcher}")
    absent = " and ".join(name for name, here in (("mpi4py", bindings), ("mpiexec", launcher)) if not here)
    return Finding("mpi", "warn", f"no {absent}", "not needed on one machine")


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
