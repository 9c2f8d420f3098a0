"""What every job can be told, whatever its science: where it runs, and in which folder.

Only the standard library is imported here, so that the command line can show its help quickly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """What a job may use of the machine.

    Attributes
    ----------
    device
        cpu; cuda: NVIDIA, tested in Triton's interpreter but not yet on a GPU; auto: cuda if there.
    threads
        Threads of each rank; 0: the cores, divided among the ranks of a host.
    memory
        Memory that each rank may use, GiB. A job that needs more keeps its volumes or images in files, which
        is slow but runs. Left out: what is free, divided among the ranks of a host.
    scratch
        Folder for such files, best on a quick local disk. Left out: the run folder.
    """

    device: Literal["cpu", "cuda", "auto"] = "cpu"
    threads: int = 0
    memory: float | None = None
    scratch: Path | None = None


@dataclass(frozen=True)
class RunOptions:
    """Where a job leaves what it finds, and how it tells of it.

    Attributes
    ----------
    out
        Run folder. The same command on the same folder goes on where an earlier one stopped.
    overwrite
        Start afresh in a folder that has a run.
    quiet
        Print the result only, no progress.
    checkpoint_seconds
        Least time between checkpoints; 0: one an iteration.
    command
        The command line, for the record.
    """

    out: Path
    overwrite: bool = False
    quiet: bool = False
    checkpoint_seconds: float = 30.0
    command: tuple[str, ...] = ()
