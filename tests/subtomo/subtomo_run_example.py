"""A run over subtomograms to make a report of: three iterations of a blob, half of it in a wedge."""

import json
import math
from pathlib import Path

import numpy as np
from scipy import fft

from manyviews.geometry.missing_wedge import TiltScheme
from manyviews.geometry.poses import random_rotations
from manyviews.io.mrc import write_mrc
from manyviews.metrics.directional_fsc import directional_fsc, write_cones
from manyviews.metrics.fsc import fsc
from manyviews.metrics.masked_fsc import masked_fsc
from manyviews.report.fitted_images import write_fitted
from manyviews.runs.folder import RunFolder
from manyviews.subtomo.coverage import write_coverage
from manyviews.subtomo.iteration_files import Iteration, write_iterations, write_slices
from manyviews.subtomo.score_files import Rejection, Scores, write_rejection, write_scores
from manyviews.subtomo.wedge.measure import MeasuredWedge
from manyviews.subtomo.wedge_views import wedge_view, write_wedges

BOX, PIXEL, COUNT = 32, 6.0, 300
ITERATIONS = (
    Iteration(1, math.inf, 61.0, mean_score=0.1, frequency_limit=1 / 90),
    Iteration(2, 40.0, 45.0, 14.0, 9.0, 0.25, 1 / 60),
    Iteration(3, 30.0, 34.0, 0.6, 0.5, 0.3, 1 / 40),
)


def blob(box=BOX):
    """Two balls of different size (z, y, x)."""
    z, y, x = np.meshgrid(*(np.arange(box) - box // 2,) * 3, indexing="ij")
    large = np.exp(-0.5 * (x**2 + y**2 + z**2) / 5**2)
    small = np.exp(-0.5 * ((x - 7) ** 2 + (y + 3) ** 2 + (z - 4) ** 2) / 2.5**2)
    return (large + small).astype(np.float32)


def wedge(box=BOX, degrees=60.0):
    """What tilts of +-degrees about y measure, in the half-spectrum."""
    kz, _, kx = np.meshgrid(fft.fftfreq(box), fft.fftfreq(box), fft.rfftfreq(box), indexing="ij")
    return np.asarray(np.abs(kz) <= np.abs(kx) * math.tan(math.radians(degrees)) + 1e-9, np.float32)


def write_maps(folder: Path, rng):
    volume = blob()
    halves = [volume + 0.1 * rng.normal(size=volume.shape).astype(np.float32) for _ in range(2)]
    for name, one in zip(("half1.mrc", "half2.mrc", "volume.mrc"), [*halves, sum(halves) / 2], strict=True):
        write_mrc(folder / name, one, PIXEL, overwrite=True)
    mask = np.clip(3 * volume, 0, 1)
    masked_fsc(*halves, PIXEL, mask).write_csv(folder / "fsc.csv", overwrite=True)
    write_cones(folder / "directional_fsc.csv", directional_fsc(*halves, PIXEL, mask=mask))
    fsc(halves[0] + halves[1], volume, PIXEL).write_csv(folder / "fsc_reference.csv", overwrite=True)
    panels = rng.normal(size=(8, 3, BOX, BOX)).astype(np.float32)
    write_fitted(folder, panels, [f"{one + 1}: 0.5" for one in range(8)], PIXEL, 24.0)
    for one in ITERATIONS:
        noise = rng.normal(size=volume.shape).astype(np.float32)
        write_slices(folder / "slices.mrc", one.iteration, volume + noise / one.iteration, PIXEL)


def write_tables(folder: Path, rng):
    write_iterations(folder / "iterations.csv", ITERATIONS)
    score = rng.normal(0.3, 0.08, COUNT)
    write_scores(folder / "scores.csv", Scores(np.arange(COUNT) % 2 + 1, score, score > 0.2))
    kept = np.linspace(0.3, 1, 8)
    curve = Rejection(kept, 30 + 20 * (kept - 0.8) ** 2, np.quantile(score, 1 - kept))
    write_rejection(folder / "rejection.csv", curve)
    write_coverage(folder / "coverage.csv", random_rotations(COUNT, rng), wedge())
    power = (0.05 + wedge()) / (1 + 100 * np.add.outer(np.zeros((BOX, BOX)), fft.rfftfreq(BOX) ** 2))
    told = TiltScheme.of_range(-60, 60)
    shown = MeasuredWedge("wedge", TiltScheme.of_range(-58, 61), 0.1, 0.9, *[np.zeros(0)] * 2, BOX, COUNT)
    write_wedges(folder, [wedge_view(power, shown, wedge(), told)], PIXEL)
    (folder / "duplicates.csv").write_text("particle,duplicate_of,distance_angstrom\n7,3,12.5\n")
    (folder / "set_aside.csv").write_text("particle,why\n9,empty\n10,NaN\n")


def write_subtomo_run(folder: Path, *, merged: bool = False) -> Path:
    options = {"method": "sag", "symmetry": "C1", "merged": merged}
    rng = np.random.default_rng(11)
    with RunFolder.open(
        folder,
        job="subtomo align",
        options=options,
        inputs={"particles.star": "sha256:0123"},
        command=["manyviews", "subtomo", "align", "particles.star", "--out", str(folder)],
    ) as run:
        for one in ITERATIONS:
            run.event("iteration", iteration=one.iteration)
        write_maps(folder, rng)
        write_tables(folder, rng)
        summary = {"particles": COUNT, "resolution_fsc0143_of_independent_halves_angstrom": 30.25}
        (folder / "summary.json").write_text(json.dumps(summary))
        run.finish(["volume.mrc", "summary.json"])
    return folder
