"""A run over a small simulated scan to make a report of, every file of it made as a run would."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from manyviews.alignment.slice_registration import moved_slices, registered_fsc
from manyviews.io.mrc import write_mrc
from manyviews.nano.results import (
    Center,
    Choice,
    Examples,
    GaugeTable,
    Iteration,
    SpaceMotion,
    Views,
    write_center,
    write_choice,
    write_examples,
    write_gauge,
    write_iterations,
    write_motion,
    write_returned,
    write_shifts,
    write_views,
)
from manyviews.nano.simulate import simulate_arrays
from manyviews.nano.simulate_options import SimulateOptions
from manyviews.random import Stream, generator
from manyviews.report.fitted_images import write_fitted
from manyviews.runs.folder import RunFolder

PIXEL_NM = 20.0
VIEWS = 24
OPTIONS = SimulateOptions(
    size=(32, 24), views=VIEWS, specimen="tissue", deformation_percent=6.0, jitter=0.5, pixel_size_nm=PIXEL_NM
)
ITERATIONS = tuple(
    Iteration(
        level, number, 3 - level, 64.0 - 8 * number, 0.5 / (number + 2 * level), 900.0 / (number + 3 * level),
        0.5, 0.25, 1.0 + 0.1 * number, 0.3, 0.1, 0.2,
    )
    for level in (1, 2)
    for number in range(1, 6)
)  # fmt: skip


def views(theta) -> Views:
    residual = 0.1 + 0.02 * np.sin(np.arange(VIEWS))
    residual[[7, 8]] = 0.6
    bad, jump = np.zeros(VIEWS), np.zeros(VIEWS)
    bad[[7, 8]], jump[15] = 1, 1
    return Views(theta, 2 * residual, residual, np.linspace(0.1, 2, VIEWS), 1 - 0.9 * bad, bad, jump)


def write_maps(folder: Path, truth, rng) -> None:
    size = PIXEL_NM * 10
    noise = rng.normal(scale=0.4 * truth.std(), size=(2, *truth.shape)).astype(np.float32)
    shear = np.stack([np.linspace(-4, 4, len(truth)), np.zeros(len(truth))], axis=1)
    halves = truth + noise[0], np.asarray(moved_slices(truth + noise[1], shear), dtype=np.float32)
    for name, one in zip(("half1", "half2", "volume"), [*halves, (halves[0] + halves[1]) / 2], strict=True):
        write_mrc(folder / f"{name}.mrc", one, size, overwrite=True)
    write_mrc(folder / "volume_before.mrc", truth + 2 * noise[0], size, overwrite=True)
    found = registered_fsc(*halves, size)
    found.rigid.write_csv(folder / "fsc.csv", samples=True, overwrite=True)
    found.slicewise.write_csv(folder / "fsc_slices.csv", samples=True, overwrite=True)
    registered_fsc(halves[0], truth, size).rigid.write_csv(
        folder / "fsc_reference.csv", samples=True, overwrite=True
    )


def motion(theta) -> SpaceMotion:
    """Along x alone, by -3 pixels in the first view and 3 in the last."""
    knots = np.zeros((1, 3, 4, 5, 5))
    knots[0, 2] = 3.0
    return SpaceMotion(knots, theta, np.linspace(-1, 1, VIEWS)[:, None], np.zeros((VIEWS, 2)))


def write_nano_run(folder: Path) -> Path:
    made = simulate_arrays(replace(OPTIONS, photons=1e4))
    rng = generator(11, Stream.TEST)
    with RunFolder.open(
        folder,
        job="nano reconstruct",
        options={"method": "oftv", "levels": 2},
        inputs={"scan.h5": "sha256:0123"},
        command=["manyviews", "nano", "reconstruct", "scan.h5", "--out", str(folder)],
    ) as run:
        run.event("iteration", iteration=1)
        write_maps(folder, made.truth, rng)
        write_iterations(folder / "iterations.csv", ITERATIONS)
        write_views(folder / "views.csv", views(made.theta_degrees))
        write_shifts(folder / "shifts.csv", made.theta_degrees, rng.normal(size=(VIEWS, 2)))
        z = np.linspace(-1, 1, 24)
        write_gauge(folder / "gauge.csv", GaugeTable(z, z**2, 0 * z, 0.01 * z))
        write_center(folder / "center.toml", Center(15.25, 31.0, "opposite views"))
        write_motion(folder, motion(made.theta_degrees))
        write_choice(folder / "choice.toml", Choice("oftv", 0.06, 0.12, 0.05, 16))
        left = np.linspace(0, 0.5, VIEWS)
        write_returned(folder / "trust.csv", made.theta_degrees, 4 * left, left)
        chosen = np.array([0, 8, 16, 23])
        examples = Examples(
            chosen, made.theta_degrees[chosen], made.projections[chosen], made.still[chosen],
            made.still[chosen], made.flow[chosen],
        )  # fmt: skip
        write_examples(folder, examples)
        pairs = np.stack([made.projections[chosen], made.still[chosen]], axis=1)
        write_fitted(folder, pairs, [f"{view + 1}: 0.9" for view in chosen], 10.0)
        (folder / "summary.json").write_text(json.dumps({"resolution_half_bit_nm": 61.5, "views": VIEWS}))
        run.finish(["volume.mrc", "summary.json"])
    return folder
