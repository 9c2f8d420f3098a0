"""Which device and how many threads a rank works with."""

from __future__ import annotations

import importlib.util
import os

import torch

from manyviews.errors import InputError
from manyviews.options import MachineOptions
from manyviews.parallel.launch import local_rank, local_threads, set_threads
from manyviews.parallel.world import World
from manyviews.runs.memory import available_memory_bytes


def resolve_device(wanted: str, *, triton: bool = True) -> str:
    """``cpu`` or ``cuda`` for what the user wants, ``auto`` included; ``triton``: CUDA is of no use without.

    `InputError` if there is no usable CUDA device.
    """
    if wanted == "cpu":
        return "cpu"
    usable = torch.cuda.is_available() and (not triton or importlib.util.find_spec("triton") is not None)
    if wanted == "cuda" and not usable:
        raise InputError(
            "no usable CUDA device was found",
            where="--device",
            fix='check "manyviews doctor", or give --device cpu',
        )
    return "cuda" if usable else "cpu"


def own_device(device: str, world: World) -> torch.device:
    """One GPU for each rank of a host."""
    if device != "cuda":
        return torch.device(device)
    return torch.device("cuda", local_rank(world) % torch.cuda.device_count())


def free_memory_bytes(device: str, world: World, ranks_per_host: int = 1) -> int | None:
    """Memory that this machine has for the arrays of all its ranks, on its GPUs if that is where they are.

    All ranks make this call. None where the system does not tell.
    """
    if device != "cuda":
        return available_memory_bytes()
    free, _ = torch.cuda.mem_get_info(own_device(device, world))
    sharing = -(-ranks_per_host // torch.cuda.device_count())
    return int(free) // sharing * ranks_per_host


def use_threads(machine: MachineOptions, world: World) -> int:
    """Take the threads that were asked for, or this rank's share of the cores; how many."""
    count = machine.threads or local_threads(world)
    set_threads(count)
    return count


def load_of_a_core() -> float:
    """How many threads want each core of this machine, of late, at least 1; 1 where nobody tells."""
    try:
        return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    except (OSError, AttributeError):
        return 1.0
