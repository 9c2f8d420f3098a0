"""The files of a run folder, written by hand: what a reader may count on, whatever wrote them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from manyviews.io.mrc import write_mrc
from manyviews.io.particle_table import OpticsGroup, table_of_stack
from manyviews.io.relion_particles import write_relion_particles

VOLUME = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
SUMMARY = {"method": "cg", "volume_voxels": [5, 4, 3], "mean_ncc": 0.912345, "peak": "1 <GiB>"}
ANGLES = np.array([[10.0, 20.0, 30.0], [40.0, 50.0, 60.0]])
SHIFTS = np.array([[1.5, -2.0], [0.0, 0.0]])
_RECORD = """command = ["manyviews"]
[options]
method = "cg"
iterations = 3
[inputs]
[versions]
"""


def write_run(folder: Path, *, job: str = "tilt reconstruct", iterations: int = 3, done: bool = True) -> Path:
    """A run: the record and the story of it; with results where it is done."""
    folder.mkdir(parents=True)
    (folder / "run.toml").write_text(f'job = "{job}"\n{_RECORD}')
    events = [{"kind": "start"}]
    events += [{"kind": "iteration", "iteration": n, "objective": 1 / n} for n in range(1, iterations + 1)]
    if done:
        write_mrc(folder / "volume.mrc", VOLUME, 8.0)
        (folder / "fsc.csv").write_text("frequency_per_angstrom,fsc\n0,1\n0.01,0.5\n")
        (folder / "summary.json").write_text(json.dumps(SUMMARY))
        if job.startswith("particles"):
            optics = OpticsGroup("one", 300.0, 2.7, 0.1, 4.0, image_size=64)
            table = table_of_stack(Path("absent.mrcs"), optics, np.ones((2, 2)), angles=ANGLES, shifts=SHIFTS)
            write_relion_particles(folder / "particles.star", table)
        events.append({"kind": "done", "results": ["volume.mrc", "summary.json"]})
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return folder
