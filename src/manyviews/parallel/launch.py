"""How this process was started: alone or by an MPI launcher, and how a job of several processes ends.

`start_world` is the only place that loads MPI, and only for a process that a launcher started with others.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from manyviews.errors import InputError

if TYPE_CHECKING:
    from mpi4py import MPI

    from manyviews.parallel.mpi import MpiWorld
    from manyviews.parallel.world import World

# What launchers tell a process: its rank, how many there are, its rank among those on its machine.
_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
_PMIX_SIZES = ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")  # PMIx itself has no variable for it
_RANKS = (
    "OMPI_COMM_WORLD_RANK",  # Open MPI
    "PMI_RANK",  # Hydra of MPICH, Intel MPI and MVAPICH, srun --mpi=pmi2, Cray, Flux
    "PMIX_RANK",  # srun --mpi=pmix, prterun
    "PMI_ID",  # Hydra with -pmi-port
)
_LOCAL_RANKS = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "PMI_LOCAL_RANK", "SLURM_LOCALID")
_THREAD_LIMITS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
# Rank 0 speaks at once about an error; the others give it this long to say the same thing for all. Then they
# speak one after the other, so that only the first of them is heard.
_PATIENCE_SECONDS = 1.0
_TURN_SECONDS = 0.05
_MOST_TURNS = 20
# All ranks leave an interrupted job: how long rank 0 waits for the others, and they for all.
_LEAVING_SECONDS = (2.0, 3.0)


class LaunchError(InputError):
    """An MPI launcher started this process, and it cannot reach the others."""


@dataclass(frozen=True)
class Launched:
    """What the launcher told this process.

    Its number, 0 for one alone; how many there are, None where only MPI knows; and its number among those on
    its machine.
    """

    rank: int = 0
    size: int | None = 1
    local_rank: int = 0


def launched(environment: Mapping[str, str] | None = None) -> Launched:
    """What the launcher told this process, from environment variables."""
    environment = os.environ if environment is None else environment

    def first(names: tuple[str, ...]) -> int | None:
        return next((int(text) for name in names if (text := environment.get(name, "")).isdigit()), None)

    rank = first(_RANKS)
    if rank is None:
        return Launched()
    size = first((*_SIZES, *_PMIX_SIZES) if "PMIX_RANK" in environment else _SIZES)
    local_rank = first(_LOCAL_RANKS)
    return Launched(rank, size, rank if local_rank is None else local_rank)


_world: World | None = None
_door: MpiWorld | None = None  # a communicator on which ranks say nothing but that they leave


def start_world() -> World:
    """All processes that were started together: MPI's, or this one alone. Found once, the same ever after.

    From then on an exception that nobody catches ends the whole job.

    Raises
    ------
    LaunchError
        If a launcher started several processes and MPI cannot be used.
    """
    global _world, _door  # noqa: PLW0603 one process has one world
    if _world is None:
        size = launched().size
        if size == 1:
            return stay_alone()
        communicator = _all_processes()
        if size is not None and communicator.Get_size() != size:
            raise LaunchError(
                f"the launcher started {size} processes, but mpi4py finds {communicator.Get_size()}",
                fix="start with the mpiexec of the MPI that mpi4py uses "
                '(python -c "from mpi4py import MPI; print(MPI.Get_library_version())")',
            )
        if communicator.Get_size() == 1:
            return stay_alone()
        from manyviews.parallel.mpi import MpiWorld

        _door = MpiWorld(communicator.Dup())
        _world = MpiWorld(communicator.Dup())
        sys.excepthook = _end_by_exception
    return _world


def stay_alone() -> World:
    """The world of this process alone, for what one rank does while the others have left."""
    global _world  # noqa: PLW0603
    from manyviews.parallel.world import SingleWorld

    _world = SingleWorld()
    return _world


def _all_processes() -> MPI.Intracomm:
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError, OSError) as error:  # absent, or there is no MPI library for it
        reason = "is not installed" if isinstance(error, ModuleNotFoundError) else f"does not load ({error})"
        raise LaunchError(
            f"an MPI launcher started this process, but mpi4py {reason}",
            fix='pip install "manyviews[mpi]", or mpi4py with the MPI of this cluster',
        ) from error
    return MPI.COMM_WORLD


def is_shared() -> bool:
    """Whether this process works with others, which its failure must not leave waiting."""
    return _door is not None


def leave_together() -> None:
    """Wait for the other ranks at the end of a command, without the spinning of MPI's own end."""
    if _door is not None:
        _door.barrier()


def end_job(message: str, exit_code: int, *, orderly: bool = False) -> NoReturn:
    """End all processes of the job because of what happened on this rank; the message is told last.

    Where all ranks come here with the same thing, rank 0 tells it for all. One that comes alone tells it.
    ``orderly``: all ranks are on their way out, as after a signal, and are waited for first.

    Raises
    ------
    RuntimeError
        If this process is alone.
    SystemExit
        Where all ranks came to an orderly end.
    """
    if _door is None:
        raise RuntimeError("there is no job of several processes to end")
    with contextlib.suppress(ValueError):  # not the main thread; otherwise nothing may come in between now
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    missing = orderly and not _door.meet(_LEAVING_SECONDS[_door.rank > 0])
    if orderly and not missing:
        # MPI is left as after a finished job: an abort would leave files behind that a restart stumbles over
        if _door.rank == 0 and message:
            sys.stderr.write(f"{message}\n")
        raise SystemExit(exit_code)
    if _door.rank > 0:
        turn = min(_door.rank - 1, _MOST_TURNS)
        time.sleep(_TURN_SECONDS * turn + (0.0 if missing else _PATIENCE_SECONDS))
    _door.abort(message, exit_code)


def _end_by_exception(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> NoReturn:
    """For scripts: the hook for exceptions that nobody catches."""
    import traceback

    interrupted = issubclass(kind, KeyboardInterrupt)
    message = "".join(traceback.format_exception(kind, error, trace)).rstrip()
    end_job(message, 130 if interrupted else getattr(error, "exit_code", 1), orderly=interrupted)


def local_threads(world: World) -> int:
    """Threads for this rank: its cores divided among the ranks of this machine that may use the same ones.

    Never more than ``OMP_NUM_THREADS`` or ``NUMBA_NUM_THREADS``, never less than 1. All ranks make this call.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    mine = [socket.gethostname(), cores]
    sharing = world.gather(mine).count(mine)
    count = len(cores) if cores else os.cpu_count() or 1
    limits = [int(text) for name in _THREAD_LIMITS if (text := os.environ.get(name, "")).isdigit()]
    return max(1, min([count // sharing, *limits]))


def local_rank(world: World) -> int:
    """Number of this rank among those on its machine, to choose a GPU. All ranks make this call."""
    hosts = world.gather(socket.gethostname())
    return hosts[: world.rank].count(hosts[world.rank])


def set_threads(count: int) -> None:
    """Threads of this process."""
    import numba
    import torch

    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    torch.set_num_threads(count)  # after Numba, whose first threads set the number that both share in OpenMP
