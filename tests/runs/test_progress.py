import io

import pytest

from manyviews.runs import progress as module
from manyviews.runs.progress import Progress, format_seconds


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_plain_lines_are_few():
    stream = io.StringIO()
    with Progress(stream=stream) as progress:
        progress.start("reconstruct", 100)
        for done in range(1, 101):
            progress.update(done, "objective 1")
        progress.message("written")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "reconstruct: 100 steps"
    assert len(lines) == 12
    assert "10 of 100" in lines[1]
    assert "left" in lines[1]
    assert lines[-2] == "reconstruct: 100 of 100, objective 1"
    assert lines[-1] == "written"


def test_time_left_of_a_resumed_run_counts_new_steps(monkeypatch):
    clock = iter([0.0, *[10.0] * 50])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    stream = io.StringIO()
    progress = Progress(stream=stream)
    progress.start("x", 100)
    progress.update(91)
    assert "91 of 100, 1 min 30 s left" in stream.getvalue()


def test_quiet_says_warnings_only():
    stream = io.StringIO()
    progress = Progress(quiet=True, stream=stream)
    progress.start("x", 3)
    progress.update(3)
    progress.message("a note")
    progress.warn("warning: mind the gap")
    assert stream.getvalue() == "warning: mind the gap\n"


class ClosedPipe(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal
        self.tries = 0

    def isatty(self):
        return self.terminal

    def write(self, text):
        self.tries += 1
        raise BrokenPipeError


@pytest.mark.parametrize("terminal", [False, True])
def test_work_goes_on_where_the_reader_has_gone(terminal):
    stream = ClosedPipe(terminal)
    with Progress(stream=stream) as progress:
        progress.start("x", 3)
        for done in (1, 2, 3):
            progress.update(done)
        progress.warn("warning: nobody hears it")
    assert stream.tries >= 1


def test_bar_on_a_terminal():
    stream = Terminal()
    with Progress(stream=stream) as progress:
        progress.start("reconstruct [1]", 2)
        progress.update(1, "objective [2]")
        progress.message("[bold] stays")
        progress.update(2)
    text = stream.getvalue()
    assert "reconstruct [1]" in text
    assert "[bold] stays" in text


def test_durations():
    assert [format_seconds(s) for s in (0.4, 59, 60, 3599, 7800)] == [
        "0 s",
        "59 s",
        "1 min 00 s",
        "59 min 59 s",
        "2 h 10 min",
    ]
