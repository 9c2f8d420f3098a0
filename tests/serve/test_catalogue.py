"""Which runs there are, how they are, and the static page of them."""

import os
import time

import pytest

from manyviews.errors import InputError
from manyviews.runs.status import FAILED, RUNNING, Status, write_status
from manyviews.serve import catalogue
from manyviews.serve.catalogue import LOST, find_runs
from manyviews.serve.static_index import write_index
from run_files import write_run
from serve_processes import locked_by, running_run

DAMAGED = (b"", b"\xff\xfe\x00", b"[[[[" * 9999, b'{"state": 1e999, "pid": []}', b"a = [1")


def states(root, now=None):
    return {card.title: card.state for card in find_runs(root, now).cards}


def test_runs_are_found_wherever_they_are(tmp_path):
    write_run(tmp_path / "runs")
    write_run(tmp_path / "runs" / "within")
    write_run(tmp_path / "runs" / "a" / "b" / "c")
    write_run(tmp_path / "runs" / ".hidden")
    write_run(tmp_path / "runs" / "checkpoint")
    (tmp_path / "runs" / "loop").symlink_to(tmp_path / "runs")
    assert set(states(tmp_path / "runs")) == {"runs", "within", "a/b/c"}


def test_what_is_too_much_is_cut_and_told(tmp_path, monkeypatch):
    for index in range(4):
        write_run(tmp_path / str(index), iterations=1)
    assert not find_runs(tmp_path).cut
    monkeypatch.setattr(catalogue, "MOST_RUNS", 3)
    found = find_runs(tmp_path)
    assert (len(found.cards), found.cut) == (3, True)
    monkeypatch.setattr(catalogue, "MOST_RUNS", 500)
    monkeypatch.setattr(catalogue, "MOST_LEVELS", 0)
    found = find_runs(tmp_path)
    assert (len(found.cards), found.cut) == (0, True)


def test_states(tmp_path):
    write_run(tmp_path / "done")
    now = time.time()
    write_status(tmp_path / "done", Status(RUNNING, now))  # killed after its last word
    for name in ("live", "silent", "failed", "unknown"):
        write_run(tmp_path / name, done=False)
    write_status(tmp_path / "live", Status(RUNNING, now - 50, "views", seconds_left=7))
    write_status(tmp_path / "silent", Status(RUNNING, now - 70, "views"))
    write_status(tmp_path / "failed", Status(FAILED, now - 700, "the disk is full"))
    assert states(tmp_path, now) == {
        "done": "finished",
        "live": RUNNING,
        "silent": LOST,
        "failed": FAILED,
        "unknown": "stopped",
    }
    cards = {card.title: card for card in find_runs(tmp_path, now).cards}
    assert cards["failed"].task == "the disk is full"
    assert cards["live"].seconds_left == 5  # of 7 told 50 seconds ago: a tenth of what it took since
    assert cards["done"].figure == ("mean NCC", "0.9123")
    assert cards["live"].curve == pytest.approx((1, 1 / 2, 1 / 3))
    assert cards["done"].command == "manyviews"


def test_a_process_that_is_gone_shows_at_once(tmp_path):
    with running_run(tmp_path / "run") as (_, process):
        assert states(tmp_path) == {"run": RUNNING}
        process.kill()
        process.wait()
        assert states(tmp_path) == {"run": LOST}
        locked_by(tmp_path / "run", {**locked_by(tmp_path / "run"), "host": "elsewhere"})
        assert states(tmp_path) == {"run": RUNNING}  # until it is silent for a minute
        assert states(tmp_path, time.time() + 61) == {"run": LOST}


@pytest.mark.parametrize("name", ["run.toml", "events.jsonl", "summary.json", "status.json", "lock"])
@pytest.mark.parametrize(
    "data", [b"", b"\xff\xfe\x00", b"[[[[" * 9999, b'{"state": 1e999, "pid": []}', b"a = [1"]
)
def test_damaged_files_leave_a_card(tmp_path, name, data):
    run = write_run(tmp_path / "run")
    (run / name).write_bytes(data)
    assert len(find_runs(tmp_path).cards) == 1


def test_hostile_numbers_and_lists(tmp_path):
    run = write_run(tmp_path / "run")
    many = 400 * "9"
    (run / "summary.json").write_text('{"resolution": 1e400, "ncc": {"a": NaN}, "residual": ' + many + "}")
    (run / "events.jsonl").write_text(
        '{"kind": "iteration", "objective": 1e308}\n{"kind": "iteration", "objective": -1e308}\n'
        '{"kind": [], "iteration": {}}\n{"kind": "iteration", "objective": 0}\n'
        * 3
        + '{"kind": "iteration", "objective": 1e-300}\n{"kind": "iteration", "objective": 1e30}\n'
    )
    (run / "status.json").write_text('{"state": "running", "updated": 1e12, "task": "\\u0000<b>\\ud800"}')
    page = write_index(tmp_path).read_text()
    assert "<b>\\" not in page
    assert "&lt;b&gt;" in page
    assert "inf" not in page
    assert "nan" not in page


def test_static_page(tmp_path):
    name = "50% <b>#1?</b>"
    run = write_run(tmp_path / name)
    (run / "report.html").write_text("its page")
    (run / "figures").mkdir()
    (run / "figures" / "fsc.png").write_bytes(b"png")
    page = write_index(tmp_path)
    text = page.read_text()
    assert "href='50%25%20%3Cb%3E%231%3F%3C/b%3E/report.html'" in text
    assert "src='50%25%20%3Cb%3E%231%3F%3C/b%3E/figures/fsc.png'" in text
    for part in ("<script", "<form", "<button", "checkbox", "<b>#1", "http:", "/index.css"):
        assert part not in text
    assert write_index(tmp_path) == page  # an older one is replaced


def test_static_page_writes_over_nothing_else(tmp_path):
    with pytest.raises(InputError, match="nor is there one below it"):
        write_index(tmp_path)
    write_run(tmp_path / "run")
    (tmp_path / "index.html").write_text("my own")
    with pytest.raises(InputError, match="exists and is no index of runs"):
        write_index(tmp_path)
    os.unlink(tmp_path / "index.html")
    (tmp_path / "index.html").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="exists and is no index of runs"):
        write_index(tmp_path)
    assert not (tmp_path / "elsewhere").exists()
