"""A fixture for the conftest of rooms that write files: a disk that is soon full."""

import gc
import shutil
import subprocess

import pytest


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of its own with 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this user cannot mount a small disk")
    yield folder
    gc.collect()  # what a caught exception still refers to may be in files there
    subprocess.run(["umount", str(folder)], check=True)
