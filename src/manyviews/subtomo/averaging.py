"""Subtomograms averaged: each turned back, centred, weighted by what was measured of it.

The map is the Wiener quotient of `manyviews.operators.fourier_sums`: sum of c y over sum of c^2, noise in the
units of `manyviews.subtomo.volumes`, damped where the wedges of all particles together leave little.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.alignment.map_alignment import soft_sphere
from manyviews.kernels.points_cpu import splat_lanes
from manyviews.operators.fourier_slice import grid_half
from manyviews.operators.fourier_sums import PADDING, FourierSums
from manyviews.parallel.world import World
from manyviews.subtomo.refine.objective import Poses
from manyviews.subtomo.volumes import FourierSubtomograms

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_POINTS_AT_ONCE = 2**21
_EDGE = 5.0  # voxels over which the mask falls


def add_up(
    subtomograms: FourierSubtomograms,
    poses: Poses,
    weights: Float64,
    halves: Int64,
    *,
    lanes: Int64,
    symmetry: Float64,
    world: World,
) -> FourierSums:
    """Sums over the particles of all processes.

    Parameters
    ----------
    subtomograms
        Those of this process, up to the frequency wanted.
    poses, weights
        ``M`` poses of them and how much each counts; several poses of one particle share its weight.
    halves
        ``(N,)`` 1 or 2, the half of each subtomogram; what is neither is left out.
    lanes
        ``(N,)`` which lane each subtomogram is added up in, see `manyviews.parallel.lanes`.
    symmetry
        ``(n, 3, 3)``: each is added once for every rotation.
    """
    halves_of_sums = [
        _half_sums(
            subtomograms,
            poses,
            weights,
            np.flatnonzero((halves[poses.particle] == half) & (weights > 0)),
            lanes,
            symmetry,
        )
        for half in (1, 2)
    ]
    numerator = world.sum(torch.from_numpy(np.stack([one for one, _ in halves_of_sums])))
    denominator = world.sum(torch.from_numpy(np.stack([one for _, one in halves_of_sums])))
    whole = numerator.to(torch.complex64), denominator.to(torch.float32)
    return FourierSums(*whole, subtomograms.radius).mirrored()


def _half_sums(
    subtomograms: FourierSubtomograms,
    poses: Poses,
    weights: Float64,
    members: Int64,
    lanes: Int64,
    symmetry: Float64,
) -> tuple[NDArray[np.complex128], Float64]:
    """Sums of some of the poses, added up in lanes and these in double precision.

    So the order of sums does not depend on how many processes and threads there are.
    """
    half = grid_half(subtomograms.radius, PADDING)
    present = np.unique(lanes)
    shape = (len(present), 2 * half + 1, 2 * half + 1, half + 2)
    numerators, denominators = np.zeros(shape, np.complex64), np.zeros(shape, np.float32)
    points = subtomograms.points
    lane = np.searchsorted(present, lanes[poses.particle])
    step = max(1, _POINTS_AT_ONCE // len(points))
    for first in range(0, len(members), step):
        own = members[first : first + step]
        own = own[np.argsort(lane[own], kind="stable")]
        starts = np.searchsorted(lane[own], np.arange(len(present) + 1))
        values, powers = _centred(subtomograms, poses.select(own), weights[own])
        for turn in symmetry:
            rotations = poses.rotations[own] @ turn
            splat_lanes(numerators, denominators, starts, rotations, points, values, powers, PADDING)
    # float32 numbers of like size add up without rounding in float64
    return numerators.sum(0, dtype=np.complex128), denominators.sum(0, dtype=np.float64)


def _centred(
    subtomograms: FourierSubtomograms, poses: Poses, weights: Float64
) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """``(M, P)`` c y of the particles moved to the centre, and c^2, both times their weights."""
    transfer = subtomograms.transfers[subtomograms.transfer_index[poses.particle]]
    turns = (poses.shifts @ subtomograms.points.T.astype(np.float64)) / subtomograms.box
    phases = np.exp(-2j * np.pi * turns).astype(np.complex64)
    share = weights.astype(np.float32)[:, None]
    return share * transfer * phases * subtomograms.values[poses.particle], share * transfer**2


def solvent_free(volume: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """A map ``(box, box, box)`` less its level outside the mask.

    Zero frequency is not in the data; the solvent is where the density is 0.
    """
    outside = 1 - mask
    return volume - (volume * outside).sum() / outside.sum().clamp(min=1e-6)


def solvent_flattened(volume: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """`solvent_free`, and masked."""
    return solvent_free(volume, mask) * mask


def particle_mask(box: int, diameter: float) -> torch.Tensor:
    """``(box, box, box)``: 1 in a sphere of ``diameter`` voxels; the soft edge outside stays in the box."""
    radius = min(diameter / 2 + _EDGE, box / 2)
    return torch.from_numpy(soft_sphere(box, radius, _EDGE))
