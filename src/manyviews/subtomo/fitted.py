"""A few subtomograms beside the average in their poses, for the report: projections along z."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.jobs.run import Job
from manyviews.report.fitted_images import chosen_images
from manyviews.report.fitted_slices import SeenImages, write_fitted_slices
from manyviews.subtomo.volumes import FourierSubtomograms

HEADINGS = (
    "number in the table, correlation of the low-passed projection with that of the average. Subtomograms are"
    " projected along z, in units of their noise, and so is the average, in its pose and with its wedge"
)


def seen_along_z(
    data: FourierSubtomograms,
    own: NDArray[np.int64],
    rotations: NDArray[np.float64],
    shifts: NDArray[np.float64],
) -> SeenImages:
    """Projections of some subtomograms ``own (k,)``: their coefficients in the plane kz = 0.

    ``rotations (k, 3, 3)`` and ``shifts (k, 3)`` in voxels are their poses.
    """
    flat = data.points[:, 2] == 0
    return SeenImages(
        np.ascontiguousarray(data.points[flat, :2]),
        data.values[own][:, flat],
        data.transfers[data.transfer_index[own]][:, flat],
        rotations,
        shifts[:, :2],
        data.box,
    )


def write_fitted_subtomograms(
    job: Job,
    data: FourierSubtomograms,
    own: NDArray[np.int64],
    places: NDArray[np.int64],
    rotations: NDArray[np.float64],
    shifts: NDArray[np.float64],
    volume: torch.Tensor,
    diameter: float,
) -> None:
    """Write some, evenly chosen, and what the average explains of them; all ranks make this call.

    Parameters
    ----------
    data, own
        Those of this process, and their places ``(n,)`` among the K that count.
    places
        ``(K,)`` rows of these in the table, from 0.
    rotations, shifts
        ``(K, 3, 3)`` and ``(K, 3)`` in voxels, as of `manyviews.subtomo.refine.objective.Poses`.
    volume
        The average ``(D, D, D)``.
    diameter
        Of the particle, angstrom.
    """
    chosen = chosen_images(len(places))
    mine, here = np.flatnonzero(np.isin(chosen, own)), np.flatnonzero(np.isin(own, chosen))
    seen = seen_along_z(data, here, rotations[chosen[mine]], shifts[chosen[mine]])
    write_fitted_slices(
        job.folder, job.world, places[chosen], mine, seen, volume,
        pixel_size=data.pixel_size, diameter=diameter,
    )  # fmt: skip
