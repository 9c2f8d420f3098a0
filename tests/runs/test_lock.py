import json
import os
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from manyviews.errors import InputError
from manyviews.runs import lock as module
from manyviews.runs.lock import LOCK_NAME, is_alive, release_lock, take_lock, this_process


def write(folder, owner):
    (folder / LOCK_NAME).write_text(json.dumps(asdict(owner)))


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_take_and_release(tmp_path):
    assert take_lock(tmp_path) is None
    owner = json.loads((tmp_path / LOCK_NAME).read_text())
    assert owner["pid"] == os.getpid()
    release_lock(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_live_owner_is_named(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        write(tmp_path, replace(this_process(), pid=process.pid, process_ticks=None))
        with pytest.raises(InputError, match=f"process {process.pid} on host {this_process().host}"):
            take_lock(tmp_path)
        release_lock(tmp_path)  # not ours: stays
        assert (tmp_path / LOCK_NAME).exists()
        process.communicate(b"\n")


def test_dead_owner_is_taken_over(tmp_path):
    pid = dead_pid()
    write(tmp_path, replace(this_process(), pid=pid))
    assert f"process {pid}, which is gone" in take_lock(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_NAME]


@pytest.mark.parametrize(
    "content",
    [
        '{"pid": 1e400, "host": "HERE", "started": "", "process_ticks": null}',
        '{"pid": 99999999999999999999, "host": "HERE", "started": "", "process_ticks": null}',
        '{"pid": -1, "host": "HERE", "started": "", "process_ticks": null}',
        '{"pid": 0, "host": "HERE", "started": "", "process_ticks": null}',
        '{"pid": true, "host": "HERE", "started": "", "process_ticks": null}',
        '{"pid": 5, "host": "HERE", "started": "", "process_ticks": 1.5}',
        "[" * 4000,
        "7",
    ],
)
def test_a_damaged_lock_is_nobodys(tmp_path, content):
    path = tmp_path / LOCK_NAME
    path.write_text(content.replace("HERE", this_process().host))
    os.utime(path, (0, 0))
    assert "was killed as it took it" in take_lock(tmp_path)


def test_endless_names_in_a_lock_are_not_quoted_whole(tmp_path):
    write(tmp_path, replace(this_process(), host="h" * 2000, pid=1))
    with pytest.raises(InputError) as caught:
        take_lock(tmp_path)
    assert len(str(caught.value).replace(str(tmp_path), "")) < 300


def test_zombie_and_reused_number_are_dead():
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(replace(this_process(), pid=process.pid, process_ticks=None))
    process.wait()
    assert is_alive(this_process())
    assert not is_alive(replace(this_process(), process_ticks=1))


def test_other_host_is_believed(tmp_path):
    write(tmp_path, replace(this_process(), host="elsewhere", pid=1))
    with pytest.raises(InputError, match="on host elsewhere"):
        take_lock(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x"}'])
def test_torn_lock_is_taken_over_after_a_moment(tmp_path, monkeypatch, content):
    monkeypatch.setattr(module, "_WRITING_SECONDS", 0.05)
    (tmp_path / LOCK_NAME).write_text(content)
    assert "killed" in take_lock(tmp_path)


RACER = """
import sys, time
from pathlib import Path
from manyviews.errors import InputError
from manyviews.runs.lock import take_lock
print("ready", flush=True)
sys.stdin.readline()
try:
    take_lock(Path(sys.argv[1]))
except InputError:
    print("refused", flush=True)
else:
    print("taken", flush=True)
sys.stdin.readline()
"""


def test_one_of_many_gets_a_stale_lock(tmp_path):
    write(tmp_path, replace(this_process(), pid=dead_pid()))
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for racer in racers:
        racer.stdout.readline()
    for racer in racers:
        racer.stdin.write("\n")
        racer.stdin.flush()
    answers = [racer.stdout.readline().strip() for racer in racers]
    for racer in racers:
        racer.communicate("\n")
    assert sorted(answers) == ["refused"] * 3 + ["taken"]
