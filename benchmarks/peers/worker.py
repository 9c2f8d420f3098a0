"""A process that times one projector: JSON lines in, JSON lines out.

``python -m peers.worker MODULE:FACTORY`` in the benchmarks folder. Requests::

    {"do": "set up", "problem": {...}, "threads": N}
    {"do": "forward"}, {"do": "back"}, {"do": "normal"}
    {"do": "images", "path": FILE, "views": [...]}      of the last forward
    {"do": "stop"}

Answers to the first two lines carry wall seconds and the CPU seconds of all threads.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from peers.problem import NotApplicable, Problem, Projector

Answer = dict[str, Any]


# Work that is shorter is done once before it is timed, as in a loop of iterations: after seconds of sleep a
# machine takes tens of milliseconds to bring threads back to cores of their own.
_WARM_BELOW_SECONDS = 1.0


class Worker:
    """One projector and the answers to requests about it."""

    def __init__(self, factory: str) -> None:
        self._factory = factory
        self._last_seconds: dict[str, float] = {}
        self._projector: Projector | None = None
        self._projected: Any = None

    def answer(self, request: Answer) -> Answer:
        action = request["do"]
        if action == "set up":
            return self._set_up(request)
        if action == "images":
            return self._save_images(request)
        return self._timed(action)

    def _set_up(self, request: Answer) -> Answer:
        given = request["problem"]
        problem = Problem(**{**given, "axes_degrees": tuple(given["axes_degrees"])})
        wall, cpu = time.perf_counter(), time.process_time()
        module, name = self._factory.split(":")
        projector = getattr(importlib.import_module(module), name)(problem, request["threads"])
        self._projector = projector
        return {
            "wall_seconds": time.perf_counter() - wall,
            "cpu_seconds": time.process_time() - cpu,
            "versions": {"python": sys.version.split()[0], **_versions(projector.packages)},
            "comparable": projector.comparable,
            "details": projector.details,
        }

    def _save_images(self, request: Answer) -> Answer:
        assert self._projector is not None
        images = self._projector.to_images(self._projected, request["views"])
        np.save(request["path"], np.ascontiguousarray(images, dtype=np.float32))
        return {}

    def _timed(self, action: str) -> Answer:
        assert self._projector is not None
        projector = self._projector
        actions = {
            "forward": projector.forward,
            "back": lambda: projector.back(None),
            "normal": projector.normal or (lambda: projector.back(projector.forward())),
        }
        if self._last_seconds.get(action, _WARM_BELOW_SECONDS) < _WARM_BELOW_SECONDS:
            actions[action]()
        wall, cpu = time.perf_counter(), time.process_time()
        result = actions[action]()
        answer = {"wall_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
        self._last_seconds[action] = answer["wall_seconds"]
        if action == "forward":
            self._projected = result
        return answer


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def main() -> None:
    # Packages print to stdout when they please: answers get the real one, prints go to stderr.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    worker = Worker(sys.argv[1])
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "stop":
            break
        try:
            answer = worker.answer(request)
        except NotApplicable as reason:
            answer = {"not_applicable": str(reason)}
        except Exception as error:  # a peer that fails must not stop the others
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
