"""The runner's end of a worker process."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from peers.problem import Float32, Problem

BENCHMARKS = Path(__file__).resolve().parent.parent
OPERATIONS = ("forward", "back", "normal")
Answer = dict[str, Any]


class PeerFailed(Exception):
    """A worker that cannot go on, and why."""


def pinned_environment(threads: int) -> dict[str, str]:
    """Environment in which every library takes the same number of threads."""
    names = ("OMP", "OPENBLAS", "MKL", "NUMBA")
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", "MPLBACKEND": "agg"}
    return {**os.environ, **quiet, **{f"{name}_NUM_THREADS": str(threads) for name in names}}


def run_on(cores: Iterable[int]) -> None:
    """Let this process and all that it starts run on the given cores only."""
    os.sched_setaffinity(0, set(cores))


class PeerProcess:
    """One worker: started, asked, and dropped with a reason when it fails or has used up its time.

    Parameters
    ----------
    name
        Row of the table.
    python
        Interpreter that has the package.
    factory
        ``module:function`` of the adapter.
    problem
        What it is to project.
    threads
        Threads it may use.
    limit_seconds
        Time for everything it is asked, all in all.
    """

    def __init__(
        self, name: str, python: str, factory: str, problem: Problem, threads: int, limit_seconds: float
    ) -> None:
        self.name = name
        self.problem = problem
        self.threads = threads
        self.remaining_seconds = limit_seconds
        self.status = "running"
        self.set_up: Answer = {}
        self.agreement: Answer | None = None
        self.rounds: dict[str, list[Answer]] = {operation: [] for operation in OPERATIONS}
        self._answers: queue.Queue[str | None] = queue.Queue()
        # For whatever the worker leaves: its log, its images, its packages' temporary files.
        self._folder = tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name) / "log.txt"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [python, "-m", "peers.worker", factory],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=BENCHMARKS,
                env={**pinned_environment(threads), "TMPDIR": self._folder.name},
            )
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def running(self) -> bool:
        return self.status == "running"

    def start(self) -> None:
        """Build the projector and run everything once, so that compilers and caches are warm."""
        self.set_up = self.ask({"do": "set up", "problem": asdict(self.problem), "threads": self.threads})
        first = {operation: self.ask({"do": operation})["wall_seconds"] for operation in OPERATIONS}
        self.set_up["first_run_seconds"] = first

    def images(self, views: Sequence[int]) -> Float32:
        """What it projects in the given views, ``(view, y, x)``."""
        path = Path(self._folder.name) / "images.npy"
        self.ask({"do": "images", "path": str(path), "views": list(views)})
        images: Float32 = np.load(path)
        return images

    def measure(self, operation: str) -> None:
        """One timed run, kept in ``rounds``."""
        self.rounds[operation].append(self.ask({"do": operation}))

    def ask(self, request: Answer) -> Answer:
        """Send a request and wait for its answer.

        Raises
        ------
        PeerFailed
            If the worker says so, ends or runs out of time; it is stopped then.
        """
        assert self._process.stdin is not None
        start = time.perf_counter()
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=max(0.0, self.remaining_seconds))
        except queue.Empty:
            self._fail("out of time")
        except BrokenPipeError:
            self._fail(f"ended: {self._last_words()}")
        self.remaining_seconds -= time.perf_counter() - start
        if line is None:
            self._fail(f"ended: {self._last_words()}")
        answer: Answer = json.loads(line)
        reason = answer.get("not_applicable") or answer.get("error")
        if reason:
            self._fail(reason)
        return answer

    def stop(self, status: str = "done") -> None:
        """End the process; the status stays the first one given."""
        if self.running:
            self.status = status
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def _fail(self, reason: str) -> NoReturn:
        self.stop(reason)
        raise PeerFailed(f"{self.name}: {reason}")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(None)

    def _last_words(self) -> str:
        self._process.wait(timeout=5)
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else f"exit code {self._process.returncode}"
