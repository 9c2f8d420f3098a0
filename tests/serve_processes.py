"""A process that holds a run folder as a run does, and locks written by hand."""

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

from run_files import write_run

_PROGRAM = """
import signal, sys, time
from pathlib import Path
from manyviews.runs.lock import take_lock
from manyviews.runs.status import RUNNING, Status, write_status
folder = Path(sys.argv[1])
take_lock(folder)
def leave(number, frame):
    (folder / "stopped").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, leave)
for step in range(600):
    write_status(folder, Status(RUNNING, time.time(), "iterations", step, 600, "", 60.0, 90.0))
    time.sleep(0.1)
"""


@contextlib.contextmanager
def running_run(folder: Path):
    """The folder of a run that lives, and its process."""
    write_run(folder, done=False)
    process = subprocess.Popen([sys.executable, "-c", _PROGRAM, str(folder)])
    try:
        until = time.monotonic() + 60
        while not (folder / "status.json").exists():
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        yield folder, process
    finally:
        process.kill()
        process.wait()


def locked_by(folder: Path, owner: dict | None = None) -> dict:
    """What the lock of a folder says; written there before where it is given."""
    path = folder / "lock"
    if owner is not None:
        path.write_text(json.dumps({"started": "then", **owner}))
    return json.loads(path.read_text())
