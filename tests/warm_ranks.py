"""Processes, ranks of MPI or not, forked from one that has imported everything, which takes them seconds.

``python warm_ranks.py ADDRESS`` is that process, the nursery, until its input ends; it says when it can be
called, and imports when it is called first. ``python -I -S warm_ranks.py ADDRESS WORDS...`` does what
``python WORDS...`` does, of which a script, ``-m`` and ``-c`` are known, and ``mpiexec -n N`` before it
starts N such stand-ins. Each hands its files and environment to the nursery, which forks a process that runs
as the rank. A stand-in passes signals on and ends as its rank ended; where it is killed, the rank is killed a
moment later. Measured: 0.2 s of a core for a rank that does nothing, 3.8 s without.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
from pathlib import Path

ABOVE_ALL = 100  # descriptors from here on are in nobody's way
MOST_DESCRIPTORS = 4
MODULES = (
    "cv2",
    "h5py",
    "mpi4py",
    "manyviews.cli.main",
    "manyviews.kernels.affine_cpu",
    "manyviews.nano.reconstruct",
    "manyviews.nano.report_figures",
    "manyviews.particles.abinitio",
    "manyviews.report.plots",
    "manyviews.subtomo.align",
    "manyviews.subtomo.report_figures",
    "manyviews.tilt.reconstruct",
    "manyviews.tilt.report",
    "numba.typed",
)


def stand_in(address: str, words: list[str]) -> None:
    """Be a rank for the launcher."""
    descriptors = [0, 1, 2, *([int(os.environ["PMI_FD"])] if "PMI_FD" in os.environ else [])]
    request = {"words": words, "environment": dict(os.environ), "descriptors": descriptors}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [json.dumps(request).encode() + b"\n"], descriptors)
        answers = connection.makefile()
        rank = int(answers.readline())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, frame: os.kill(rank, number))
        code = int(answers.readline())
    if code < 0:  # the same death: where it was an exit code, Hydra may wait for the other ranks for ever
        if -code != signal.SIGKILL:  # which nobody can handle
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def nursery(address: str) -> list[str]:
    """Serve stand-ins until the input ends, which exits; returns a rank's words in the rank's process."""
    signal.signal(signal.SIGCHLD, reap)
    os.fsync = lambda descriptor: (
        None
    )  # as in conftest.py: a kill leaves what was written, a power cut is not tried
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen()
        os.write(1, b"ready\n")
        waiting = False
        while door in select.select([door, sys.stdin], [], [])[0]:
            connection, _ = door.accept()
            if not waiting:
                import_everything()
                waiting = True
            if os.fork() == 0:
                door.close()
                return watch(connection)
            connection.close()
    sys.exit()


def reap(number: int, frame: object) -> None:
    """See those off who watch, so that the time of what they ran counts as this process's."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def watch(connection: socket.socket) -> list[str]:
    """Fork one rank, and see it and its stand-in end; returns its words in the rank's process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    text, received, _, _ = socket.recv_fds(connection, 1 << 20, MOST_DESCRIPTORS)
    while not text.endswith(b"\n"):
        text += connection.recv(1 << 20)
    request = json.loads(text)
    rank = os.fork()
    if rank == 0:
        connection.close()
        leave_early()
        become(request, received)
        return request["words"]
    for descriptor in [0, 1, 2, *received]:
        os.close(descriptor)
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(f"{rank}\n".encode())
        if connection in select.select([os.pidfd_open(rank), connection], [], [])[0]:
            os.kill(rank, signal.SIGKILL)
        _, status = os.waitpid(rank, 0)
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def leave_early() -> None:
    """What C does when this process exits ends with what is loaded from now on, MPICH, and goes no further.

    The libraries of the nursery would take themselves apart, 0.13 s of a core.
    """
    libc = ctypes.CDLL(None)
    with contextlib.suppress(AttributeError):  # it is the GNU library's
        libc.on_exit(libc._exit, None)  # last in, first out; gets the status as its first argument


def become(request: dict[str, object], received: list[int]) -> None:
    """Take the place of the process that a launcher started."""
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, ABOVE_ALL) for descriptor in received]
    for descriptor in received:
        os.close(descriptor)
    for descriptor, number in zip(moved, request["descriptors"], strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environment"])


def import_everything() -> None:
    """Also what Numba leaves until it loads the first kernel, but no kernel: those start threads."""
    for name in MODULES:
        importlib.import_module(name)
    from numba.core.registry import cpu_target

    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()
    gc.freeze()  # otherwise a rank copies all this when its garbage is collected at its end


def run(words: list[str]) -> None:
    """What ``python WORDS`` does."""
    if words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        source = os.memfd_create("command")
        os.write(source, words[1].encode())
        runpy.run_path(f"/proc/self/fd/{source}", run_name="__main__")
    elif words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        sys.path[0] = str(Path(words[0]).parent)
        runpy.run_path(words[0], run_name="__main__")


def run_and_leave(words: list[str]) -> None:
    """`run`, and end as Python does, but for taking apart all that the nursery has imported.

    That would copy the memory of the nursery page by page, half a second of a core. What ends in other ways
    than with a number ends in Python's own.
    """
    code = 0
    try:
        run(words)
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        code = end.code or 0
    threading._shutdown()  # waits for threads, as Python does before anything else
    atexit._run_exitfuncs()
    if "mpi4py.MPI" in sys.modules:  # which is not by `atexit`, but by what C has of the same name
        from mpi4py import MPI

        if MPI.Is_initialized() and not MPI.Is_finalized():
            MPI.Finalize()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # nobody reads: Python has words and a code for that
        sys.exit(code)
    ctypes.CDLL(None).fflush(None)
    ctypes.CDLL(None).exit(code)  # not `os._exit`: MPICH takes leave of the launcher when C ends


if __name__ == "__main__":
    if len(sys.argv) > 2:
        stand_in(sys.argv[1], sys.argv[2:])
    run_and_leave(nursery(sys.argv[1]))
