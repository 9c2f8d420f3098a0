"""Signs of life of a job: its status every few seconds, and on its page now and then."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from manyviews.errors import ManyviewsError
from manyviews.runs.status import Status, write_status

_SECONDS = 1.0
_BEATS_PER_PAGE, _BEATS_OF_A_TASK = 10, 3  # the latter at least, before another task is brought to the page


class Heartbeat:
    """A thread that tells how a job is, in files, while the job works; it never ends a run.

    ``status`` tells how it is; ``refresh`` brings that to the page, which nothing else may write meanwhile:
    see `writing`. Nothing is told before `start`.
    """

    def __init__(
        self, folder: Path, status: Callable[[], Status], refresh: Callable[[Status], object]
    ) -> None:
        self._folder = folder
        self._status = status
        self._refresh = refresh
        self._page = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def beats(self) -> bool:
        """Whether it was started and not ended."""
        return self._thread is not None

    def start(self) -> None:
        """Tell a first time, and from now on."""
        if self._thread is not None:
            return
        self._tell(self._status(), page=False)
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def end(self, status: Status) -> None:
        """Tell the last thing, if any was told."""
        if self._thread is None:
            return
        self._over.set()
        self._thread.join()
        self._thread = None
        self._tell(status, page=True)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """The page is being written in this block."""
        with self._page:
            yield

    def _run(self) -> None:
        since, task = 0, None
        while not self._over.wait(_SECONDS):
            since += 1
            status = self._status()
            page = since >= (_BEATS_PER_PAGE if status.task == task else _BEATS_OF_A_TASK)
            self._tell(status, page=page)
            if page:
                since, task = 0, status.task

    def _tell(self, status: Status, *, page: bool) -> None:
        with contextlib.suppress(OSError, ManyviewsError):
            write_status(self._folder, status)
            if page:
                with self._page:
                    self._refresh(status)
