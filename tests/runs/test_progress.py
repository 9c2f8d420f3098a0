import io

import pytest

from manyviews.runs import progress as module
from manyviews.runs.course import REPORT, Expected
from manyviews.runs.pace import Work
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


@pytest.fixture
def clock(monkeypatch):
    """Seconds to set."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_time_left_of_a_resumed_run_counts_new_steps(clock):
    stream = io.StringIO()
    progress = Progress(stream=stream)
    progress.start("x", 100)
    clock[0] = 10.0
    progress.update(91)
    assert "91 of 100, 1 min 30 s left" in stream.getvalue()


def test_a_phase_counts_no_steps():
    stream = io.StringIO()
    progress = Progress(stream=stream)
    progress.start("x", 3, 0)
    progress.update(3)
    progress.phase("tidying up")
    assert told(stream) == "tidying up"
    progress.phase("quietly", told=False)
    assert told(stream) == "tidying up"
    status = progress.status()
    assert (status.task, status.done, status.total, status.task_seconds_left) == ("quietly", None, None, None)


def test_its_status_counts_down_and_never_to_nothing(clock):
    progress = Progress(quiet=True)
    progress.expect({"x": Expected(10), "y": Expected(4), REPORT: Expected(seconds=3)})
    progress.start("x", 10, 0)
    assert progress.status().task_seconds_left is None
    for done, now in ((1, 5.0), (2, 15.0)):
        clock[0] = now
        progress.update(done, "so so", Work(1, 10 - done))
    status = progress.status()
    assert (status.state, status.task, status.done, status.total, status.note) == (
        "running",
        "x",
        2,
        10,
        "so so",
    )
    assert (status.task_seconds_left, status.seconds_left) == (80.0, 123.0)
    clock[0] = 115.0
    assert (progress.status().task_seconds_left, progress.status().seconds_left) == (10.0, 53.0)


def test_a_phase_is_told_by_what_was_expected_at_the_pace_so_far(clock):
    stream = io.StringIO()
    progress = Progress(stream=stream)
    progress.expect({"x": Expected(4), "tidy": Expected(10, seconds=2), REPORT: Expected(seconds=3)})
    progress.start("x on two ranks", 4, 0, name="x")
    for done in (1, 2, 3, 4):
        clock[0] += 2.0
        progress.update(done)
    assert told(stream) == "x on two ranks: 4 of 4, 0 s left (25 s of the run)"
    progress.phase("tidying up", name="tidy")
    assert told(stream) == "tidying up, 22 s left (25 s of the run)"
    clock[0] += 20
    assert progress.status().seconds_left == 5.0
    clock[0] += 30
    assert progress.status().seconds_left == 8.0  # a tenth of what it took already
    progress.phase("drawing", name=REPORT)
    assert progress.status().seconds_left == 3.0


def test_nothing_is_told_before_a_pace_is_known_but_by_what_was_told_of_it(clock):
    progress = Progress(quiet=True)
    progress.expect({"x": Expected(4), "y": Expected(6)})
    progress.start("x", 4, 0)
    assert progress.status().seconds_left is None
    progress.expect({}, seconds_a_unit=2.0)
    assert progress.status().seconds_left == 20.0
    for done in (1, 2):
        clock[0] += 3.0
        progress.update(done)
    # 3 s a unit, the first step left out; what was told, 2 s, counts as one unit of ten that was measured
    assert progress.status().seconds_left == pytest.approx(2 * 3.0 + 6 * (3.0 + 2.0) / 2)


def test_before_its_first_step_a_stage_is_told_by_the_pace_of_those_before(clock):
    clock[0] = 50000.0  # since the machine was started
    progress = Progress(quiet=True)
    progress.expect({"a": Expected(4), "b": Expected(6)})
    progress.start("a", 4, 0)
    for done in (1, 2, 3, 4):
        clock[0] += 2.0
        progress.update(done)
    progress.start("b", 3, 0)
    assert progress.status().task_seconds_left == pytest.approx(12.0)


def test_what_was_skipped_is_not_expected_any_more(clock):
    progress = Progress(quiet=True)
    progress.expect({"a": Expected(4), "b": Expected(6), "c": Expected(2)}, seconds_a_unit=1.0)
    progress.phase("b")
    assert progress.status().seconds_left == 8.0
    progress.expect({"b": Expected(seconds=1)})
    assert progress.status().seconds_left == 3.0


def test_a_task_that_nobody_expected_tells_nothing_of_the_run(clock):
    progress = Progress(quiet=True)
    progress.expect({REPORT: Expected(seconds=3)})
    progress.start("reading", 10, 0)
    for done in (1, 2):
        clock[0] += 1
        progress.update(done)
    assert (progress.status().task_seconds_left, progress.status().seconds_left) == (8.0, None)


def test_of_a_task_that_is_done_no_time_is_told_but_of_the_run_that_follows(clock):
    progress = Progress(quiet=True)
    progress.start("reading", 2, 0)
    for done in (1, 2):
        clock[0] += 1
        progress.update(done)
    assert (progress.status().task_seconds_left, progress.status().seconds_left) == (None, None)
    progress.expect({"a": Expected(4), "b": Expected(6), REPORT: Expected(seconds=3)}, seconds_a_unit=2.0)
    assert (progress.status().task_seconds_left, progress.status().seconds_left) == (None, 23.0)
    progress.phase("a")
    assert progress.status().task_seconds_left == 8.0


def test_what_nobody_expected_between_phases_is_taken_to_be_short(clock):
    progress = Progress(quiet=True)
    progress.expect({"a": Expected(4), "b": Expected(6)}, seconds_a_unit=1.0)
    progress.phase("a")
    progress.phase("after a")
    assert (progress.status().task_seconds_left, progress.status().seconds_left) == (None, 6.0)


def test_a_phase_without_steps_may_tell_which_part_is_done(clock):
    progress = Progress(quiet=True)
    progress.expect({REPORT: Expected(seconds=3)})
    progress.phase("drawing", name=REPORT)
    clock[0] += 10
    progress.part(0.4)
    assert progress.status().seconds_left == pytest.approx(15)
    clock[0] += 5
    assert progress.status().seconds_left == pytest.approx(10)


def told(stream):
    return stream.getvalue().splitlines()[-1]


def test_time_left_is_that_of_the_work(clock):
    """Steps of 1, 1, 4 and 4 units, of two seconds each but for the first, which loads programs."""
    stream = io.StringIO()
    progress = Progress(stream=stream)
    progress.start("x", 4, 0)
    for now, done, work in ((60, 1, Work(1, 9)), (62, 2, Work(1, 8)), (70, 3, Work(4, 4))):
        clock[0] = now
        progress.update(done, work=work)
        if done == 1:
            assert "1 of 4, 9 min 00 s left" in told(stream)
        if done == 2:
            assert "2 of 4, 16 s left" in told(stream)
    assert "3 of 4, 8 s left" in told(stream)
    progress.update(4, "done", Work(4, 0))
    assert told(stream) == "x: 4 of 4, done"


def test_later_tasks_count_for_the_time_left_of_the_run(clock):
    stream = io.StringIO()
    progress = Progress(stream=stream)
    progress.expect({"x": Expected(10), "y": Expected(20)})
    progress.start("x", 10, 0)
    for done in (1, 2):
        clock[0] += 3
        progress.update(done, work=Work(1, 10 - done))
    assert "2 of 10, 24 s left (1 min 24 s of the run)" in told(stream)


def test_nothing_is_told_from_a_first_step_that_is_little_of_the_work(clock):
    stream = io.StringIO()
    progress = Progress(stream=stream)
    progress.start("x", 200, 0)
    clock[0] = 30
    progress.update(1)
    assert told(stream) == "x: 1 of 200"
    clock[0] = 41
    progress.update(2)
    assert "2 of 200, 36 min 18 s left" in told(stream)


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
