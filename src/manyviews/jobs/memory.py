"""How much memory the data of a job may take."""

from __future__ import annotations

import socket

from manyviews.parallel.world import World
from manyviews.runs.memory import available_memory_bytes

_SHARE_FOR_DATA = 0.7


def room_for_data(memory_gib: float | None, world: World) -> float | None:
    """Bytes that data may take in this process: most of what it may use; None where nobody knows.

    ``memory_gib`` is what the user allows each process; None: what is free, divided among those of the host.
    """
    if memory_gib is not None:
        return _SHARE_FOR_DATA * memory_gib * 2**30
    free = available_memory_bytes()
    hosts = world.gather(socket.gethostname())
    return None if free is None else _SHARE_FOR_DATA * free / hosts.count(socket.gethostname())
