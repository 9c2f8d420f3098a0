"""The tables of a run over subtomograms: whole files, and what reads them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from manyviews.metrics.directional_fsc import read_cones
from manyviews.metrics.masked_fsc import FscCurves
from manyviews.report.sphere import read_fields
from manyviews.subtomo.iteration_files import read_iterations
from manyviews.subtomo.score_files import read_rejection, read_scores
from manyviews.subtomo.wedge_views import WedgeView, read_wedges, write_wedges

_FREQUENCIES = (0.0, 0.01, 0.02, 0.03, 0.04)
_HEADS = {
    "fsc.csv": "frequency_per_angstrom,fsc,fsc_unmasked,fsc_masked,fsc_random_phases",
    "directional_fsc.csv": "direction,x,y,z,half_angle_degrees,frequency_per_angstrom,fsc,samples",
    "iterations.csv": "iteration,resolution_angstrom,fsc143_angstrom,median_angle_change_degrees,"
    "median_shift_change_angstrom,mean_score,frequency_limit",
    "scores.csv": "particle,half,score,kept",
    "rejection.csv": "fraction_kept,resolution_angstrom,lowest_score",
    "coverage.csv": "z,longitude_degrees,particles,measured",
    "wedge.csv": "particles,axis_x,axis_y,axis_z,beam_x,beam_y,beam_z,measured_lowest_degrees,"
    "measured_highest_degrees,told,measured",
}
_ROWS = {
    "fsc.csv": [f"{f},{1 - 25 * f},{1 - 24 * f},{1 - 20 * f},{0.3 - 5 * f}" for f in _FREQUENCIES],
    "directional_fsc.csv": [
        f"{name},{axis},20,{f},{1 - 25 * f},7"
        for name, axis in (("x", "1,0,0"), ("z", "0,0,1"))
        for f in _FREQUENCIES
    ],
    "iterations.csv": ["1,,61,,,0.1,0.011", "2,40,45,14,9,0.25,0.016", "3,30,34,0.6,0.5,0.3,0.025"],
    "scores.csv": [f"{n + 1},{n % 2 + 1},{math.sin(n):.4f},{int(math.sin(n) > -0.5)}" for n in range(40)],
    "rejection.csv": ["0.3,33.5,0.2", "0.6,30,0.1", "1,31,-0.9"],
    "coverage.csv": [
        f"{(row + 0.5) / 3 - 1:.5f},{45 * column - 157.5:.3f},{row + column},{0.1 * row:.3f}"
        for row in range(6)
        for column in range(8)
    ],
    "wedge.csv": ["9,0,1,0,0,0,1,,58,-60 to 60 degrees about y,no single wedge"],
}
TABLES = {name: "\n".join([head, *_ROWS[name], ""]).encode() for name, head in _HEADS.items()}

READERS: dict[str, Callable[[Path], object]] = {
    "fsc.csv": FscCurves.read_csv,
    "directional_fsc.csv": read_cones,
    "iterations.csv": read_iterations,
    "scores.csv": read_scores,
    "rejection.csv": read_rejection,
    "coverage.csv": lambda path: [read_fields(path, name) for name in ("particles", "measured")],
    "wedge.csv": lambda path: read_wedges(path.parent),
}


def write_run(folder: Path) -> None:
    """All of them, in a folder that holds a run."""
    power = np.outer(np.ones(8), np.arange(8.0)).astype(np.float32)
    y, z = (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
    write_wedges(folder, [WedgeView(9, y, z, math.nan, 58.0, "all", "no single wedge", power, power)], 4.0)
    for name, data in TABLES.items():
        (folder / name).write_bytes(data)
