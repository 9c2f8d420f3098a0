"""How a run is, at the top of its page; a part that is replaced by itself while the run goes on."""

from __future__ import annotations

import re
from datetime import datetime
from html import escape

from manyviews.runs.progress import format_seconds
from manyviews.runs.status import FAILED, FINISHED, RUNNING, STOPPED, Status

_BEGIN, _END = "<!--status-->", "<!--end of status-->"
_BLOCK = re.compile(re.escape(_BEGIN) + ".*?" + re.escape(_END), re.DOTALL)
STATE_WORDS = {RUNNING: "Running", FINISHED: "Finished", STOPPED: "Stopped, to go on", FAILED: "Failed"}


def status_html(status: Status | None) -> str:
    """The part, empty where nothing is known. Texts are escaped, so that none looks like its end."""
    return _BEGIN + ("" if status is None else _section(status)) + _END


def with_status(page: str, status: Status) -> str:
    """A page with another status; the same page where it has no place for one."""
    return _BLOCK.sub(lambda match: status_html(status), page, count=1)


def _section(status: Status) -> str:
    running = status.state == RUNNING
    done, total = (status.done, status.total) if running else (None, None)
    words, bar = progress_html(STATE_WORDS[status.state], status.task, done, total)
    if running:
        words += _left(status)
        if status.note:
            words += f" ({escape(status.note)})"
    when = datetime.fromtimestamp(min(status.updated, 2e9)).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    last = "Last sign of life" if status.state == RUNNING else "Ended"
    return (
        f"<section id='status' data-state='{escape(status.state)}' data-updated='{status.updated:.0f}'>"
        f"<p>{words}</p>{bar}<p class='life'>{last} {escape(when)}.</p></section>"
    )


def progress_html(state: str, task: str, done: int | None, total: int | None) -> tuple[str, str]:
    """What a run is at, and a bar of its steps, empty where they are not counted."""
    words = f"<b>{escape(state)}</b>" + (f": {escape(task)}" if task else "")
    if done is None or total is None:
        return words, ""
    return f"{words}, {done} of {total}", f"<progress max='{max(total, 1)}' value='{done}'></progress>"


def _left(status: Status) -> str:
    """The script counts down."""
    told = ""
    if status.task_seconds_left is not None:
        told += _one(status.task_seconds_left, "; ", "")
    if status.seconds_left is not None and status.seconds_left != status.task_seconds_left:
        told += _one(status.seconds_left, "; of the run ", "")
    return told


def _one(seconds: float, before: str, after: str) -> str:
    return (
        f"<span data-left='{seconds:.0f}' data-before='{escape(before)}'>"
        f"{escape(before)}{format_seconds(seconds)} left{escape(after)}</span>"
    )
