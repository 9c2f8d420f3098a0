"""A few particles beside the projections of the map that explain them, for the report."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.jobs.run import Job
from manyviews.particles.em.pose_samples import PoseSamples
from manyviews.particles.em.pose_summary import mean_poses
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.report.fitted_images import chosen_images
from manyviews.report.fitted_slices import SeenImages, write_fitted_slices

HEADINGS = "number in the table, correlation of the low-passed image with its reprojection"


def write_fitted_samples(
    job: Job, images: FourierImages, own: NDArray[np.int64], rows: NDArray[np.int64], samples: PoseSamples,
    volume: torch.Tensor, diameter: float, symmetry: str,
) -> None:  # fmt: skip
    """As `write_fitted_particles`, with the mean poses that samples of all particles have."""
    chosen = chosen_images(len(rows))
    poses, _, _ = mean_poses(samples.among(chosen, len(rows)), len(chosen), symmetry_rotations(symmetry))
    _write(job, images, own, rows, chosen, poses.rotations, poses.shifts, volume, diameter)


def write_fitted_particles(
    job: Job, images: FourierImages, own: NDArray[np.int64], rows: NDArray[np.int64],
    rotations: NDArray[np.floating], shifts: NDArray[np.floating], volume: torch.Tensor, diameter: float,
) -> None:  # fmt: skip
    """Write some particles, evenly chosen, and what the map explains of them; all ranks make this call.

    Parameters
    ----------
    images, own
        Those of this process, and their places ``(n,)`` among all.
    rows
        ``(N,)`` rows of all particles in the table, from 0.
    rotations, shifts
        ``(N, 3, 3)`` and ``(N, 2)`` in pixels, of all particles, as of `PoseSamples`.
    volume
        The map ``(D, D, D)``.
    diameter
        Of the particle, angstrom.
    """
    chosen = chosen_images(len(rows))
    _write(job, images, own, rows, chosen, rotations[chosen], shifts[chosen], volume, diameter)


def _write(
    job: Job, images: FourierImages, own: NDArray[np.int64], rows: NDArray[np.int64],
    chosen: NDArray[np.int64], rotations: ArrayLike, shifts: ArrayLike, volume: torch.Tensor, diameter: float,
) -> None:  # fmt: skip
    """With the poses of the ``chosen`` alone."""
    mine = np.flatnonzero(np.isin(chosen, own))
    some = images.select(np.flatnonzero(np.isin(own, chosen)))
    seen = SeenImages(
        images.points,
        some.values,
        some.ctf,
        np.asarray(rotations)[mine],
        np.asarray(shifts)[mine],
        images.box,
    )
    write_fitted_slices(
        job.folder, job.world, rows[chosen], mine, seen, volume,
        pixel_size=images.pixel_size, diameter=diameter,
    )  # fmt: skip
