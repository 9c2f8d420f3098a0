"""Ctrl-C, SIGTERM of a scheduler, SIGHUP of a closed terminal: finish the iteration, save, leave.

A second one leaves at once.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from manyviews.errors import ManyviewsError

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(ManyviewsError):
    """The run was asked to stop; ``exit_code`` is 130 for SIGINT, 143 for SIGTERM and 129 for SIGHUP."""

    def __init__(self, signal_number: int, *, iteration: int | None = None) -> None:
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number
        place = "" if iteration is None else f" after iteration {iteration}"
        super().__init__(
            f"stopped by {signal.Signals(signal_number).name}{place}; the same command goes on from there"
            if iteration is not None
            else f"stopped by {signal.Signals(signal_number).name} at once; "
            "the same command goes on from the last checkpoint"
        )


class Interrupt:
    """Context manager that turns SIGINT, SIGTERM and SIGHUP into a flag to look at once an iteration.

    A signal that was ignored before, as ``nohup`` has SIGHUP, stays so.

    The first signal sets `signal_number`. If the loop has not left after ``grace_seconds`` (schedulers kill
    soon after they ask), or at a second signal, `Interrupted` is raised wherever the main thread is. Outside
    the main thread, where Python takes no signals, it does nothing. One of several ranks that leaves in this
    way keeps the others waiting, so whoever started them has to end them all.
    """

    def __init__(self, grace_seconds: float = 8.0) -> None:
        self._grace_seconds = grace_seconds
        self._signal_number: int | None = None
        self._told_number: int | None = None
        self._previous: dict[int, Any] = {}
        self._timer: threading.Timer | None = None

    @property
    def signal_number(self) -> int | None:
        """The signal that has come, to this process or to one that it was told of."""
        return self._signal_number if self._told_number is None else self._told_number

    def tell(self, signal_number: int) -> None:
        """Let it know that another rank was asked to stop.

        The same request may reach this process a little later; that is its first signal, not a second one.
        """
        self._told_number = signal_number

    def raise_if_requested(self, iteration: int) -> None:
        """Leave if a signal has come, with `Interrupted`."""
        if self.signal_number is not None:
            raise Interrupted(self.signal_number, iteration=iteration)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._signal_number is not None:
            raise Interrupted(number)
        self._signal_number = number
        self._timer = threading.Timer(self._grace_seconds, os.kill, (os.getpid(), number))
        self._timer.daemon = True
        self._timer.start()

    def __enter__(self) -> Interrupt:
        """Begin to take signals."""
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the signals back to whoever had them."""
        if self._timer is not None:
            self._timer.cancel()
        for number, previous in self._previous.items():
            signal.signal(number, previous)
