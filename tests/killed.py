"""Runs that are killed."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from manyviews.runs.lock import LOCK_NAME, is_alive, parse_owner


def kill(process: subprocess.Popen[bytes], folder: Path, seconds: float = 60) -> None:
    """Kill a process, warm or not, and wait until who holds the lock of its run folder is gone.

    The end of its output does not tell that: Linux closes files before it calls a process dead.
    """
    process.kill()
    process.communicate()
    lock, limit = folder / LOCK_NAME, time.monotonic() + seconds
    while lock.exists():
        owner = parse_owner(lock.read_bytes())
        if owner is None or not is_alive(owner):
            return
        assert time.monotonic() < limit, f"process {owner.pid} lives on"
        time.sleep(0.002)
