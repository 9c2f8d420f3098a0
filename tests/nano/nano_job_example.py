"""A small simulated scan in a folder, and quick reconstructions of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from manyviews.nano.reconstruct import reconstruct
from manyviews.nano.reconstruct_options import ReconstructOptions
from manyviews.nano.scan.options import ScanOptions
from manyviews.nano.simulate import simulate
from manyviews.nano.simulate_options import SimulateOptions
from manyviews.options import RunOptions

SIDE, VIEWS, CENTER = 32, 48, 15.5
MACHINE = {"threads": 1}
QUICK = ReconstructOptions(method="oftv", levels=2, iterations=(4, 3), inner_iterations=3, **MACHINE)


def write_scan(folder: Path, **options) -> Path:
    """Simulate into a new folder; its scan, beside which the truth lies."""
    given = {"size": (SIDE,), "views": VIEWS, "rotations": 2, "pixel_size_nm": 20.0, "center": CENTER}
    return simulate(SimulateOptions(**{**given, **options}), folder).scan


def run(scan: Path, out: Path, options: ReconstructOptions = QUICK, *, world=None, run=None, **given):
    """A reconstruction with the centre that was simulated; ``given`` are options of the scan."""
    told = RunOptions(out=out, quiet=True, **(run or {}))
    return reconstruct(ScanOptions(scan=scan, **{"center": CENTER, **given}), options, told, world=world)


def within(volume):
    """A volume inside the disk that all views see."""
    place = np.arange(volume.shape[1]) - volume.shape[1] // 2
    return volume * (np.hypot(place[:, None], place) < volume.shape[1] / 2 - 1)


def error(volume, truth) -> float:
    """Relative, within the disk."""
    return float(np.linalg.norm(within(volume - truth)) / np.linalg.norm(within(truth)))
