"""The names that ``import manyviews`` offers, each loaded from its file when it is first asked for.

Nothing but the standard library is imported here, so that ``import manyviews`` takes no time.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

_NAMES = {
    "manyviews.api.arrays": ("TiltGeometry", "backproject", "fsc", "project", "read_mrc", "write_mrc"),
    "manyviews.api.jobs": (
        "abinitio",
        "align_subtomograms",
        "reconstruct",
        "reconstruct_scan",
        "refine",
        "solve",
    ),
    "manyviews.api.particles": ("write_particles",),
    "manyviews.api.run": ("Run", "open_run"),
    "manyviews.api.series": ("TiltSeries", "read_tilt_series"),
    "manyviews.errors": ("InputError",),
}
HOMES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """The object of that name; Python asks ``manyviews`` for what it does not hold itself."""
    if name not in HOMES:
        package = sys.modules["manyviews"]
        raise AttributeError(f"module 'manyviews' has no attribute {name!r}", name=name, obj=package)
    return getattr(import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    """What ``manyviews`` holds and what it can load."""
    return sorted({*vars(sys.modules["manyviews"]), *HOMES})
