import pytest

from manyviews.runs.sessions import earlier_seconds

LOG = """2026-01-01T12:00:00+00:00 started: manyviews tilt reconstruct a.mrc
2026-01-01T12:00:01+00:00 warning: dark
2026-01-01T12:01:30+00:00 ended by Interrupted: stopped by SIGTERM
2026-01-02T09:00:00+00:00 continued: manyviews tilt reconstruct a.mrc
2026-01-02T09:00:20+00:00 reconstruct: going on after iteration 3
2026-01-03T09:00:00+00:00 continued: manyviews tilt reconstruct a.mrc
2026-01-03T09:00:50+00:00 reconstruct stopped
"""


def test_the_time_between_sessions_does_not_count(tmp_path):
    path = tmp_path / "log.txt"
    path.write_text(LOG)
    assert earlier_seconds(path) == pytest.approx(90 + 20)


def test_lines_of_nobody_are_passed_over(tmp_path):
    path = tmp_path / "log.txt"
    path.write_text(
        "x\n2026 y\n2026-01-01T12:00:00 a time without its zone\n" + LOG + "\x00\n2026-01-04T09:00:00 z"
    )
    assert earlier_seconds(path) == pytest.approx(90 + 20)
    assert earlier_seconds(tmp_path / "none") == 0.0
