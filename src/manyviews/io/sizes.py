"""Sizes of files and of memory in words."""

from __future__ import annotations


def format_bytes(size: float) -> str:
    """A size for people: ``640 KiB``, ``1.5 GiB``."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
