"""What launchers tell a process, and what follows without MPI."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from manyviews.parallel import launch
from manyviews.parallel.launch import Launched, launched
from manyviews.parallel.world import SingleWorld


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Launched(0, 1, 0)),
        (
            {"PMI_RANK": "3", "PMI_SIZE": "8", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"},
            Launched(3, 8, 1),
        ),
        ({"PMI_RANK": "3", "PMI_SIZE": "8", "SLURM_LOCALID": "1", "SLURM_NTASKS": "8"}, Launched(3, 8, 1)),
        ({"PMIX_RANK": "2", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0"}, Launched(2, 4, 0)),
        ({"PMIX_RANK": "2", "SLURM_NTASKS": "9", "SLURM_STEP_NUM_TASKS": "4"}, Launched(2, 4, 2)),
        ({"PMIX_RANK": "2"}, Launched(2, None, 2)),
        (
            {
                "OMPI_COMM_WORLD_RANK": "5",
                "OMPI_COMM_WORLD_SIZE": "6",
                "OMPI_COMM_WORLD_LOCAL_RANK": "2",
                "PMIX_RANK": "5",
            },
            Launched(5, 6, 2),
        ),
        ({"PMI_ID": "1", "PMI_PORT": "host:1", "MPI_LOCALRANKID": "1"}, Launched(1, None, 1)),
        # a batch script, or srun without MPI: processes that do not know each other
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "2", "SLURM_LOCALID": "2"}, Launched(0, 1, 0)),
        ({"PMI_RANK": "", "PMI_SIZE": "x"}, Launched(0, 1, 0)),
    ],
)
def test_launchers(environment: dict[str, str], expected: Launched):
    assert launched(environment) == expected


def test_a_process_alone_does_without_mpi():
    script = (
        "import sys; from manyviews.parallel import launch;"
        "assert not any(name.split('.')[0] in ('torch', 'mpi4py') for name in sys.modules);"
        "world = launch.start_world(); assert launch.start_world() is world;"
        "assert world.size == 1 and not launch.is_shared() and 'mpi4py' not in sys.modules;"
        "launch.leave_together()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_threads_asked_for_are_had_from_the_first_call_on():
    """Also where torch was used before: Numba's first threads set the number that torch reads from OpenMP."""
    code = (
        "import torch; torch.get_num_threads(); from manyviews.parallel.launch import set_threads; "
        "set_threads(1); print(torch.get_num_threads())"
    )
    environment = {**os.environ, "NUMBA_NUM_THREADS": "2"}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert found.stdout.split() == ["1"], found.stderr


def test_there_is_no_job_to_end():
    with pytest.raises(RuntimeError, match="no job of several"):
        launch.end_job("message", 2)


class Gathered:
    """A world in which the others' machines are known."""

    def __init__(self, rank: int, machines: list[tuple[str, list[int]]]) -> None:
        self.rank, self._machines = rank, machines

    def gather(self, value):
        return [list(one) if isinstance(value, list) else one[0] for one in self._machines]


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="this system does not tell a process's cores"
)
@pytest.mark.parametrize(
    ("rank", "threads", "local"),
    [(0, 4, 0), (1, 4, 1), (2, 3, 2), (3, 4, 0), (4, 1, 1), (5, 1, 2), (6, 1, 3)],
)
def test_threads_and_local_ranks(rank: int, threads: int, local: int, monkeypatch: pytest.MonkeyPatch):
    machines = [("a", list(range(8)))] * 2 + [("a", [8, 9, 10]), ("b", list(range(4)))] + [("b", [4, 5])] * 3
    host, cores = machines[rank]
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(cores))
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    world = Gathered(rank, machines)
    assert launch.local_threads(world) == threads
    assert launch.local_rank(world) == local


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="this system does not tell a process's cores"
)
@pytest.mark.parametrize(("text", "threads"), [("2", 2), ("64", 6), ("", 6), ("0", 1), ("2,1", 6)])
def test_threads_asked_for(text: str, threads: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)))
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert launch.local_threads(SingleWorld()) == threads
