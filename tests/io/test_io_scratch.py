import errno
import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from manyviews.errors import InputError
from manyviews.io import scratch as module
from manyviews.io import shared_file
from manyviews.io.scratch import ScratchFolder


def deleted_files(folder, pid="self"):
    """Open files of a process that have no name (any more) in ``folder``."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target.startswith(str(folder)) and target.endswith("(deleted)"):
            found.append(target)
    return found


linux_only = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")


@pytest.mark.parametrize("dtype", ["float32", np.float64, np.complex64, "u1"])
def test_arrays_are_zero_writable_and_aligned(tmp_path, dtype):
    with ScratchFolder(tmp_path / "deep" / "scratch") as scratch:
        one, other = scratch.allocate((3, 4, 5), dtype), scratch.allocate((3, 4, 5), dtype)
        assert one.dtype == np.dtype(dtype)
        assert one.flags.c_contiguous
        assert one.ctypes.data % 64 == 0
        assert not one.any()
        one[...] = 7
        assert not other.any()
        assert (one == 7).all()
        assert list(scratch.path.iterdir()) == []
    assert not scratch.path.exists()
    assert (one == 7).all()  # arrays stay good


def test_tensors_share_the_file(tmp_path):
    with ScratchFolder(tmp_path) as scratch:
        tensor = torch.from_numpy(scratch.allocate((4, 5), "float32"))
        tensor.add_(2)
        assert float(tensor.sum()) == 40
        assert tensor.data_ptr() % 64 == 0
    assert tmp_path.is_dir()  # it was there before


@pytest.mark.parametrize("shape", [(0, 3), (0,), ()])
def test_small_shapes(tmp_path, shape):
    with ScratchFolder(tmp_path) as scratch:
        assert scratch.allocate(shape, "float32").shape == shape


@linux_only
def test_room_comes_back_when_an_array_dies(tmp_path):
    with ScratchFolder(tmp_path) as scratch:
        kept = [scratch.allocate((100, 100), "float32") for _ in range(3)]
        tensor = torch.from_numpy(scratch.allocate((100, 100), "float32"))[1:]
        assert len(deleted_files(tmp_path)) == 4
        del kept[0]
        gc.collect()
        assert len(deleted_files(tmp_path)) == 3
        kept.clear()
        del tensor
        gc.collect()
        assert deleted_files(tmp_path) == []


SCRIPT = """
import sys, time
from manyviews.io.scratch import ScratchFolder
scratch = ScratchFolder(sys.argv[1])
array = scratch.allocate((1 << 20,), "float32")
array[:] = 1
print("ready", flush=True)
time.sleep(60)
"""


@linux_only
def test_a_killed_process_leaves_no_file(tmp_path):
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        assert len(deleted_files(tmp_path, process.pid)) == 1
        process.kill()
    assert list(tmp_path.iterdir()) == []


def test_where_files_cannot_be_made_without_a_name(tmp_path, monkeypatch):
    real = os.open

    def no_nameless(path, flags, *arguments, **options):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return real(path, flags, *arguments, **options)

    monkeypatch.setattr(module.os, "open", no_nameless)
    with ScratchFolder(tmp_path) as scratch:
        array = scratch.allocate((10,), "float32")
        array[:] = 3
        assert list(tmp_path.iterdir()) == []
        assert array.sum() == 30


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL])
def test_where_room_cannot_be_promised(tmp_path, monkeypatch, code):
    def refuse(*arguments):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(shared_file.os, "posix_fallocate", refuse)
    with ScratchFolder(tmp_path) as scratch:
        assert not scratch.allocate((1000,), "float32").any()


def test_a_full_disk_is_told_with_sizes(small_disk):
    with ScratchFolder(small_disk / "scratch") as scratch:
        first = scratch.allocate((100, 1024), "float32")
        with pytest.raises(InputError) as caught:
            scratch.allocate((200, 1024), "float32")
        assert "no room for a scratch file of 800 KiB" in str(caught.value)
        assert "are free; make room, or choose a scratch folder on another disk" in str(caught.value)
        del first
        again = scratch.allocate((200, 1024), "float32")
        again[...] = 1  # no crash: the room is there


def test_folders_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        ScratchFolder(tmp_path / "file")
    with pytest.raises(InputError, match="Not a directory"):
        ScratchFolder(tmp_path / "file" / "scratch")


def test_two_processes_may_share_it(tmp_path):
    """The one that made the folder removes it; the other goes on."""
    one, other = ScratchFolder(tmp_path / "scratch"), ScratchFolder(tmp_path / "scratch")
    one.close()
    assert other.allocate((3,), "float32").shape == (3,)
    other.close()
    assert not (tmp_path / "scratch").exists()


def test_closed(tmp_path):
    scratch = ScratchFolder(tmp_path)
    scratch.close()
    with pytest.raises(ValueError, match="is closed"):
        scratch.allocate((3,), "float32")
