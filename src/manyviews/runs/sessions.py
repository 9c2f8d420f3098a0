"""How long a run took in all: one that was stopped and goes on has several sessions."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

_BEGINNINGS = ("started: ", "continued: ")


def earlier_seconds(log: Path) -> float:
    """Seconds of all sessions in ``log.txt`` but the last, each from its first line to its last one.

    A session that was killed without a word counts to the last line that it wrote.
    """
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return 0.0
    sessions: list[list[datetime]] = []
    for line in lines:
        stamp, _, text = line.partition(" ")
        try:
            when = datetime.fromisoformat(stamp)
            if text.startswith(_BEGINNINGS):
                sessions.append([when, when])
            elif sessions:
                sessions[-1][1] = max(sessions[-1][1], when)
        except (ValueError, TypeError):  # not a line of ours, or a time without its zone
            continue
    return sum((last - first).total_seconds() for first, last in sessions[:-1])
