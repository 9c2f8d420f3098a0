"""Every way a command can fail, as one sentence and an exit code."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from manyviews.errors import ManyviewsError

_SIGNAL = 128  # exit codes above it are 128 + the signal's number
_LESS_MEMORY = "use --memory, --bin 2, a smaller --thickness or coarser --resolution, or a larger machine"


@dataclass(frozen=True)
class Failure:
    """What the user is told: one sentence (what, where, why, and what to do), after the word ``kind``.

    The exit code is 2 for what the user can mend, 129, 130 or 143 for an interruption, 1 for the rest.
    """

    sentence: str
    exit_code: int
    kind: str = "error"

    def line(self, rank: int = 0) -> str:
        """The sentence as it is printed; rank 0 speaks for all of a job."""
        place = f"rank {rank}: " if rank else ""
        return f"manyviews: {self.kind}: {place}{self.sentence}"


def explain(error: BaseException) -> Failure:
    """The sentence and exit code for an exception that reached the command line."""
    if isinstance(error, ManyviewsError):
        kind = "interrupted" if error.exit_code > _SIGNAL else "error"
        return Failure(_one_line(error), error.exit_code, kind)
    if isinstance(error, KeyboardInterrupt):
        return Failure("stopped by the user", 130, kind="interrupted")
    if isinstance(error, MemoryError) or _is_out_of_memory(error):
        return Failure(f"out of memory ({_one_line(error) or 'allocation refused'}); {_LESS_MEMORY}", 2)
    if isinstance(error, OSError):
        return Failure(_file_sentence(error), 2)
    return Failure(
        f"unexpected {type(error).__name__} ({_one_line(error)}); run again with --debug to see where", 1
    )


def _is_out_of_memory(error: BaseException) -> bool:
    """Torch says so with a RuntimeError, on the CPU and on CUDA."""
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def _file_sentence(error: OSError) -> str:
    place = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{place}the disk is full; free some space and run the same command again"
    return f"{place}{error.strerror or _one_line(error)}; check the path and its permissions"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
