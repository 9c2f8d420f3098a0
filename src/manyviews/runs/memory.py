"""Memory used and left, and room on the disk."""

from __future__ import annotations

import ctypes
import shutil
import sys
from pathlib import Path

from manyviews.errors import InputError
from manyviews.io.sizes import format_bytes

_CGROUP_FILES = (  # limit, used, and the part of it that is file cache the kernel can drop
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


# From malloc.h of the GNU C library, and how much free room the top of the heap may keep.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_ON_TOP_BYTES = 64 << 20


def give_back_freed(least_bytes: int) -> bool:
    """From now on the system gets arrays of so many bytes back as soon as they are freed.

    Left alone, the GNU C library learns to keep arrays below 32 MiB in a heap, whose holes stay with the
    process. New pages cost a little time. False where there is another C library, which is left as it is.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # macOS, musl, Windows
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, _KEPT_ON_TOP_BYTES) and mallopt(_M_MMAP_THRESHOLD, least_bytes))


def peak_memory_bytes() -> int:
    """Most memory that this process has held so far.

    On Linux ``ru_maxrss`` is handed down from the program that started this one, so it comes second.
    """
    import resource

    try:
        status = Path("/proc/self/status").read_text()
        return next(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts KiB, macOS bytes


def available_memory_bytes(
    meminfo: Path = Path("/proc/meminfo"),
    cgroup_list: Path = Path("/proc/self/cgroup"),
    cgroup_root: Path = Path("/sys/fs/cgroup"),
) -> int | None:
    """Memory that can still be taken: the machine's, or what the control group allows if that is less.

    The files are where Linux tells; None where the system does not tell.
    """
    found = [_group_available(folder) for folder in _group_folders(cgroup_list, cgroup_root)]
    known = [size for size in (_machine_available(meminfo), *found) if size is not None]
    return min(known) if known else None


def _machine_available(meminfo: Path) -> int | None:
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None


def _group_folders(cgroup_list: Path, root: Path) -> list[Path]:
    """The group of this process and all above it, in version 2 and in version 1's memory tree."""
    folders = {root, root / "memory"}
    try:
        lines = cgroup_list.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        controllers, _, place = line.partition(":")[2].partition(":")
        if controllers not in ("", "memory"):
            continue
        group = (root / controllers / place.lstrip("/")) if controllers else root / place.lstrip("/")
        folders |= {parent for parent in (group, *group.parents) if parent.is_relative_to(root)}
    return sorted(folders)


def _group_available(folder: Path) -> int | None:
    for limit_name, used_name, cache_name in _CGROUP_FILES:
        try:
            limit = int((folder / limit_name).read_text())
            used = int((folder / used_name).read_text())
        except (OSError, ValueError):  # not there, or "max"
            continue
        return max(0, limit - used + _group_cache(folder, cache_name))
    return None


def _group_cache(folder: Path, name: str) -> int:
    try:
        rows = [line.split() for line in (folder / "memory.stat").read_text().splitlines()]
        return next((int(row[1]) for row in rows if row[0] == name), 0)
    except (OSError, ValueError, IndexError):
        return 0


def free_disk_bytes(folder: Path) -> int:
    """Free bytes for this user on the disk of a folder that need not exist yet."""
    places = (folder.absolute(), *folder.absolute().parents)
    return shutil.disk_usage(next(place for place in places if place.exists())).free


def require_disk(folder: Path, size_bytes: int) -> None:
    """Check that ``size_bytes`` more fit on the disk of ``folder``; `InputError` if they do not."""
    free = free_disk_bytes(folder)
    if free < size_bytes:
        raise InputError(
            f"the disk has {format_bytes(free)} free, the run needs {format_bytes(size_bytes)}",
            path=folder,
            fix="make room or choose another --out",
        )
