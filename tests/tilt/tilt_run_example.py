"""A finished run to make a report of: smooth blobs, four tilt axes, plausible curves."""

import json
from pathlib import Path

import numpy as np

from manyviews.io.mrc import write_mrc
from manyviews.runs.folder import RunFolder

AXES = (0.0, 45.0, 90.0, 135.0)


def example_volume(shape=(24, 96, 128)):
    generator = np.random.default_rng(0)
    grids = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij", sparse=True)
    volume = 0.05 * generator.normal(size=shape)
    for _ in range(40):
        centre = generator.uniform(0, 1, 3) * shape
        squared = sum((grid - middle) ** 2 for grid, middle in zip(grids, centre, strict=True))
        volume += np.exp(-squared / generator.uniform(8, 40))
    return volume.astype(np.float32)


def write_tables(folder: Path, axes=AXES, views=41):
    generator = np.random.default_rng(1)
    ncc = ["view,series,section,axis_degrees,tilt_degrees,ncc"]
    geometry = [
        "view,series,section,axis_degrees,tilt_degrees,shift_x_angstrom,shift_y_angstrom,source",
    ]
    for series, axis in enumerate(axes):
        for section, tilt in enumerate(np.linspace(60, -60, views)):
            view = series * views + section
            value = 0.97 - 0.0015 * abs(tilt) - 0.01 * series + 0.004 * generator.normal()
            ncc.append(f"{view},{series},{section},{axis},{tilt:.2f},{value:.5f}")
            geometry.append(f"{view},{series},{section},{axis},{tilt:.2f},0.0,1.5,series{series}.rawtlt")
    (folder / "ncc.csv").write_text("\n".join(ncc) + "\n")
    (folder / "geometry.csv").write_text("\n".join(geometry) + "\n")
    frequency = np.linspace(0.001, 0.05, 50)
    fsc = 1 / (1 + np.exp((frequency - 0.03) / 0.004))
    rows = [f"{f:.6f},{c:.6f}" for f, c in zip(frequency, fsc, strict=True)]
    (folder / "fsc.csv").write_text("\n".join(["frequency_per_angstrom,fsc", *rows]) + "\n")


def write_example(folder: Path, *, method="consensus", summary=None, options=None) -> Path:
    chosen = {"reconstruct": {"method": method, "iterations": 20, "subsets": 16}} | (options or {})
    with RunFolder.open(
        folder,
        job="tilt reconstruct",
        options=chosen,
        inputs={"data/a.mrc": "sha256:0123", "data/b.mrc": "sha256:4567"},
        command=["manyviews", "tilt", "reconstruct", "data/a.mrc", "--out", str(folder)],
    ) as run:
        for iteration in range(1, 21):
            run.event(
                "iteration", iteration=iteration, objective=5e4 / iteration**2.2, data_passes=4.0 * iteration
            )
        run.event("stop", iteration=20, reason="iterations", message="")
        write_mrc(folder / "volume.mrc", example_volume(), 10.0, overwrite=True)
        write_tables(folder)
        figures = {
            "wall_seconds": 203.4,
            "peak_memory_bytes": 3_456_789_012,
            "views": 164,
            "mean_ncc": 0.912345,
            "resolution_angstrom": 31.7,
            "device": "cpu",
        }
        (folder / "summary.json").write_text(json.dumps(figures if summary is None else summary))
        run.finish(["volume.mrc", "ncc.csv", "fsc.csv", "geometry.csv", "summary.json"])
    return folder
