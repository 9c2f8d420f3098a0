"""The volume of a run in other formats, where they are asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manyviews.io.atomic import atomic_path
from manyviews.io.ome_zarr import write_ome_zarr
from manyviews.jobs.run import Job
from manyviews.nano.plan import Plan

Float32 = NDArray[np.float32]

TIFF_FILE, ZARR_FOLDER = "volume.tiff", "volume.zarr"
COPIES = (TIFF_FILE, ZARR_FOLDER)
"""For the list of a job's results."""


def write_copies(job: Job, plan: Plan, volume: Float32, pixel_size_nm: float | None) -> None:
    """As ``--tiff`` and ``--ome-zarr`` say."""
    if plan.options.tiff:
        write_tiff(job, volume, pixel_size_nm)
    if plan.options.ome_zarr:
        write_ome_zarr(job.folder / ZARR_FOLDER, volume, pixel_size_nm)


def write_tiff(job: Job, volume: Float32, pixel_size_nm: float | None) -> None:
    """A page a slice, float32, as ImageJ reads it."""
    import tifffile

    resolution = None if pixel_size_nm is None else (1 / pixel_size_nm,) * 2
    with atomic_path(job.folder / TIFF_FILE, overwrite=True) as made:
        tifffile.imwrite(
            made, volume, imagej=True, resolution=resolution,
            metadata={"axes": "ZYX", "unit": "nm", "spacing": pixel_size_nm or 1.0},
        )  # fmt: skip
