"""``manyviews tilt reconstruct`` with a job that fails in the way that the first word names; run by MPI."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import replace

from manyviews.cli import main as main_module
from manyviews.errors import InputError
from manyviews.parallel import launch
from manyviews.parallel.world import World

EMPTY = InputError("is empty", path="a.mrc")
FOREVER_SECONDS = 600.0
CULPRIT = 1


def hang_in_mpi(world: World) -> None:
    """Inside a call of the library, where no Python runs."""
    from mpi4py import MPI

    MPI.COMM_WORLD.Barrier()


def everyone(world: World) -> None:
    raise EMPTY


def one(world: World) -> None:
    if world.rank == CULPRIT:
        raise EMPTY
    world.barrier()


def first(world: World) -> None:
    if world.rank == 0:
        raise EMPTY
    hang_in_mpi(world)


def others_hang(world: World) -> None:
    if world.rank == CULPRIT:
        raise ValueError("two\nlines")
    hang_in_mpi(world)


def threads(world: World) -> None:
    if world.rank == CULPRIT:
        threading.Thread(target=time.sleep, args=(FOREVER_SECONDS,)).start()
        raise EMPTY
    time.sleep(FOREVER_SECONDS)


def memory(world: World) -> None:
    if world.rank == CULPRIT:
        bytearray(1 << 60)
    hang_in_mpi(world)


def killed(world: World) -> None:
    if world.rank == CULPRIT:
        os.kill(os.getpid(), signal.SIGKILL)
    hang_in_mpi(world)


def interrupted(world: World) -> None:
    from manyviews.runs.interrupt import Interrupted

    time.sleep(0.3 * world.rank)
    raise Interrupted(signal.SIGTERM, iteration=3)


def one_interrupted(world: World) -> None:
    if world.rank == CULPRIT:
        raise KeyboardInterrupt
    hang_in_mpi(world)


def waits(world: World) -> None:
    """Until somebody stops it, ranks other than the first in a collective call."""
    world.barrier()
    if world.rank == 0:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        time.sleep(FOREVER_SECONDS)
    world.barrier()


def reader_gone(world: World) -> None:
    if world.rank == 0:
        raise BrokenPipeError
    hang_in_mpi(world)


def done(world: World) -> None:
    sys.stdout.write(f"printed by {world.rank}\n")


def script(world: World) -> None:
    """The same without the command line."""
    if world.rank == CULPRIT:
        raise EMPTY
    hang_in_mpi(world)


def main(way: str, *flags: str) -> int:
    def run(*options: object) -> int:
        globals()[way](launch.start_world())
        return 0

    if way == "script":
        return run()
    commands = (replace(c, run=run) if c.name == "tilt reconstruct" else c for c in main_module.COMMANDS)
    main_module.COMMANDS = tuple(commands)
    words = ["tilt", "reconstruct", "a.mrc", "--thickness", "9", "--out", "r", *flags]
    return main_module.main(words)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
