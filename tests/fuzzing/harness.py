"""Read damaged files one after the other in this process, within limits, and count what comes of it."""

from __future__ import annotations

import contextlib
import resource
import signal
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType

from fuzzing.formats import Format
from fuzzing.mutations import mutate
from manyviews.errors import ManyviewsError

SECONDS = 5.0  # of this process; it may wait for much longer on a busy machine
WAITING_SECONDS = 120.0
MEMORY_BYTES = 2**30
LONGEST_SENTENCE = 400


class TooSlow(BaseException):
    """The limit is over; no `Exception`, so that no reader takes it for bad input."""


@dataclass
class Tally:
    """What came of the files of a format.

    ``failures`` are by kind, ``examples`` a file and where it failed for the first of each. Seconds are of
    the processor.
    """

    files: int = 0
    read: int = 0
    refused: int = 0
    worst_seconds: float = 0.0
    longest_sentence: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    examples: dict[str, tuple[bytes, str]] = field(default_factory=dict)

    def fail(self, kind: str, data: bytes, where: str) -> None:
        """Count a failure."""
        self.failures[kind] += 1
        self.examples.setdefault(kind, (data, where))


def fuzz(format: Format, folder: Path, count: int, *, draws: int = 1, seed: int = 0) -> Tally:
    """Read ``count`` damaged files of a format, ``draws`` of them with pictures, if there are any to draw.

    The same seed damages in the same way.
    """
    random = Random(f"{format.name} {seed}")
    file = format.prepare(folder)
    seeds = format.seeds()
    tally = Tally()
    every = max(1, count // max(1, draws))
    for data in seeds:  # whole ones are read, and what they load does not count
        file.write_bytes(data)
        format.read(file, not format.draws)
    with _memory_limit():
        for number in range(count):
            data = mutate(random.choice(seeds), random, binary=format.binary)
            file.unlink(missing_ok=True)
            file.write_bytes(data)
            _read_one(format, file, data, tally, drawn=not format.draws or number % every == every - 1)
    return tally


def _read_one(format: Format, file: Path, data: bytes, tally: Tally, *, drawn: bool) -> None:
    tally.files += 1
    began = time.process_time()
    try:
        with _time_limit(), warnings.catch_warnings():
            warnings.simplefilter("error")
            format.read(file, drawn)
        tally.read += 1
    except ManyviewsError as error:
        sentence = str(error).replace(str(file.parent), "")
        tally.refused += 1
        tally.longest_sentence = max(tally.longest_sentence, len(sentence))
        if len(sentence) > LONGEST_SENTENCE or not sentence.isprintable():
            tally.fail("sentence", data, sentence)
    except TooSlow:
        tally.fail(f"over {SECONDS:g} s", data, "".join(traceback.format_exc()))
    except Exception as error:  # whatever else comes out is what is looked for
        tally.fail(type(error).__name__, data, "".join(traceback.format_exc()))
    tally.worst_seconds = max(tally.worst_seconds, time.process_time() - began)


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlow

    clocks = (
        (signal.SIGPROF, signal.ITIMER_PROF, SECONDS),
        (signal.SIGALRM, signal.ITIMER_REAL, WAITING_SECONDS),
    )
    previous = [signal.signal(number, stop) for number, _, _ in clocks]
    for _, clock, seconds in clocks:
        signal.setitimer(clock, seconds)
    try:
        yield
    finally:
        for (number, clock, _), handler in zip(clocks, previous, strict=True):
            signal.setitimer(clock, 0)
            signal.signal(number, handler)


@contextlib.contextmanager
def _memory_limit() -> Iterator[None]:
    """So much address space beyond what is taken already."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
