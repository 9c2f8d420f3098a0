"""Subtomograms averaged: each turned back, centred, weighted by what was measured of it.

The map is the Wiener quotient of `manyviews.operators.fourier_sums`: sum of c y over sum of c^2, noise in the
units of `manyviews.subtomo.volumes`, damped where the wedges of all particles together leave little.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.alignment.map_alignment import soft_sphere
from manyviews.operators.fourier_sums import FourierSums
from manyviews.parallel.world import World
from manyviews.subtomo.refine.objective import Poses
from manyviews.subtomo.volumes import FourierSubtomograms

Float64 = NDArray[np.float64]

_POINTS_AT_ONCE = 2**21
_EDGE = 5.0  # voxels over which the mask falls


def add_up(
    subtomograms: FourierSubtomograms,
    poses: Poses,
    weights: Float64,
    halves: NDArray[np.int64],
    *,
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
    symmetry
        ``(n, 3, 3)``: each is added once for every rotation.
    """
    sums = FourierSums.zeros(subtomograms.radius)
    points = subtomograms.points
    for half in (1, 2):
        members = np.flatnonzero((halves[poses.particle] == half) & (weights > 0))
        step = max(1, _POINTS_AT_ONCE // len(points))
        for first in range(0, len(members), step):
            own = members[first : first + step]
            values, powers = _centred(subtomograms, poses.select(own), weights[own])
            for turn in symmetry:
                sums.add_solids(half - 1, poses.rotations[own] @ turn, points, values, powers)
    numerator = world.sum(sums.numerator.to(torch.complex128)).to(torch.complex64)
    denominator = world.sum(sums.denominator.double()).float()
    return FourierSums(numerator, denominator, sums.radius).mirrored()


def _centred(
    subtomograms: FourierSubtomograms, poses: Poses, weights: Float64
) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """``(M, P)`` c y of the particles moved to the centre, and c^2, both times their weights."""
    transfer = subtomograms.transfers[subtomograms.transfer_index[poses.particle]]
    turns = (poses.shifts @ subtomograms.points.T.astype(np.float64)) / subtomograms.box
    phases = np.exp(-2j * np.pi * turns).astype(np.complex64)
    share = weights.astype(np.float32)[:, None]
    return share * transfer * phases * subtomograms.values[poses.particle], share * transfer**2


def solvent_flattened(volume: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """A map ``(box, box, box)`` less its level outside the mask, then masked.

    Zero frequency is not in the data; the solvent is where the density is 0.
    """
    outside = 1 - mask
    level = (volume * outside).sum() / outside.sum()
    return (volume - level) * mask


def particle_mask(box: int, diameter: float) -> torch.Tensor:
    """``(box, box, box)``: 1 in a sphere of ``diameter`` voxels; the soft edge outside stays in the box."""
    radius = min(diameter / 2 + _EDGE, box / 2)
    return torch.from_numpy(soft_sphere(box, radius, _EDGE))
