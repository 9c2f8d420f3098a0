"""One compilation of each kernel for all workers, which share the cache that it goes to."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any


def compile_once(folder: Path) -> None:
    """From now on a worker that finds a kernel in compilation by another waits, and reads it from the cache.

    ``folder`` has a lock for each function. A function compiles those that it calls while it is held; none
    calls itself, so that no two wait for each other.
    """
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.dispatcher import Dispatcher

    compile_alone = Dispatcher.compile

    def compile_or_wait(self: Any, signature: Any) -> Any:
        name = f"{self.py_func.__module__}.{self.py_func.__qualname__}"
        # Numba's own lock first: threads of one process wait for that
        with global_compiler_lock, (folder / name).open("w") as door:
            fcntl.flock(door, fcntl.LOCK_EX)
            return compile_alone(self, signature)

    Dispatcher.compile = compile_or_wait
