import platform
import subprocess
import sys

import psutil
import pytest

from manyviews.errors import InputError
from manyviews.io.sizes import format_bytes
from manyviews.runs.memory import (
    available_memory_bytes,
    free_disk_bytes,
    peak_memory_bytes,
    require_disk,
)


def test_peak_is_at_least_what_is_held_now():
    held = psutil.Process().memory_info().rss
    assert peak_memory_bytes() >= 0.95 * held
    assert peak_memory_bytes() < 100 * held


HOLES = """
import sys
import numpy as np
import psutil
from manyviews.runs.memory import give_back_freed

np.ones(16 << 20, np.uint8)  # so large and freed: smaller ones come from the heap from now on
if sys.argv[1] == "back":
    assert give_back_freed(4 << 20)
arrays = [np.ones(size << 20, np.uint8) for size in (12, 2) * 8]
small = arrays[1::2]
before = psutil.Process().memory_info().rss
del arrays
print((before - psutil.Process().memory_info().rss) >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a matter of the GNU C library")
def test_freed_arrays_go_back_to_the_system():
    kept, back = (
        int(
            subprocess.run(
                [sys.executable, "-c", HOLES, how], check=True, capture_output=True, text=True
            ).stdout
        )
        for how in ("kept", "back")
    )
    assert kept < 16
    assert back >= 8 * 12 - 1


def test_available_on_this_machine():
    size = available_memory_bytes()
    assert size is None or size > 1 << 20


def test_available_is_the_least_of_machine_and_groups(tmp_path):
    meminfo, groups, root = tmp_path / "meminfo", tmp_path / "groups", tmp_path / "root"
    meminfo.write_text("MemTotal: 8000 kB\nMemAvailable: 4000 kB\n")
    groups.write_text("0::/a/b\n")
    (root / "a/b").mkdir(parents=True)
    assert available_memory_bytes(meminfo, groups, root) == 4000 * 1024
    (root / "a/b/memory.max").write_text("max\n")
    (root / "a/memory.max").write_text("1000000\n")
    (root / "a/memory.current").write_text("900000\n")
    (root / "a/memory.stat").write_text("anon 5\ninactive_file 300000\n")
    assert available_memory_bytes(meminfo, groups, root) == 400_000
    groups.write_text("3:cpu:/x\n5:memory:/job\n")
    (root / "memory/job").mkdir(parents=True)
    (root / "memory/job/memory.limit_in_bytes").write_text("500\n")
    (root / "memory/job/memory.usage_in_bytes").write_text("900\n")
    assert available_memory_bytes(meminfo, groups, root) == 0


def test_unknown_machine(tmp_path):
    nowhere = tmp_path / "nowhere"
    assert available_memory_bytes(nowhere, nowhere, nowhere) is None


def test_disk(tmp_path):
    assert free_disk_bytes(tmp_path / "not" / "yet") > 0
    require_disk(tmp_path / "not" / "yet", 1)
    with pytest.raises(InputError, match=r"the run needs 1\.0 ZiB|the run needs"):
        require_disk(tmp_path, 1 << 70)


def test_sizes():
    assert [format_bytes(n) for n in (5, 1536, 300 << 20, 3 << 40)] == [
        "5 bytes",
        "1.5 KiB",
        "300 MiB",
        "3.0 TiB",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_peak_is_not_inherited():
    ballast = bytearray(b"1" * (200 << 20))
    code = "from manyviews.runs.memory import peak_memory_bytes; print(peak_memory_bytes())"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert int(said) < len(ballast)
