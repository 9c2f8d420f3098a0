"""Reconstruction of a pitched scan, by all ranks: ``mpiexec -n N python pitch_ranks.py FOLDER``."""

import sys
from pathlib import Path

import numpy as np
from test_pitch import BOX, CENTER, THETA, images_pitched

from manyviews.io.mrc import write_mrc
from manyviews.jobs import run as job
from manyviews.nano.reconstruct import reconstruct
from manyviews.nano.reconstruct_options import ReconstructOptions
from manyviews.nano.scan.options import ScanOptions
from manyviews.options import RunOptions
from manyviews.parallel import launch


def run(folder: Path, name: str = "run", pitch=BOX, *, world=None, **options):
    """Into a folder of that name."""
    folder.mkdir(exist_ok=True)
    if world is None or world.size == 1:
        write_mrc(folder / "scan.mrc", images_pitched(pitch), 10.0, is_volume=False, overwrite=True)
        np.savetxt(folder / "angles.txt", THETA)
    given = {"method": "shifts", "levels": 1, "iterations": (4,), "halves": False, "threads": 1}
    scan = ScanOptions(scan=folder / "scan.mrc", angles=folder / "angles.txt", center=CENTER, minus_log=False)
    told = RunOptions(out=folder / name, quiet=True, checkpoint_seconds=0)
    return reconstruct(scan, ReconstructOptions(**{**given, **options}), told, world=world)


if __name__ == "__main__":
    job.build_report = lambda folder, sections, tell=None: folder
    world = launch.start_world()
    run(Path(sys.argv[1]), f"{world.size}-ranks", world=world, method="oftv")
    launch.leave_together()
