"""Rotations and shifts searched together: every pose of a grid is scored with all phases, as matrix products.

The search of the paper compares power spectra, which do not depend on the shift, and looks for the shift
afterwards; phases, which hold most of what there is to see, are lost on it. At the low frequencies of a first
search there are so few of them that all pairs of some thousand rotations and some hundred shifts can be
scored with phases, by one product of matrices: (particles x shifts) by frequencies, times frequencies by
rotations.

The score is ``y . m / |m|``, the constrained correlation up to the particle's own norm: what the wedge passes
of the map in a pose is divided out, once for each rotation and transfer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.geometry.poses import uniform_rotations
from manyviews.kernels.points_cpu import gather_points
from manyviews.operators.fourier_slice import FourierVolume
from manyviews.subtomo.candidates.priors import OrientationPriors
from manyviews.subtomo.refine.objective import Poses
from manyviews.subtomo.volumes import FourierSubtomograms

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_BLOCK_BYTES = 2**27
_SEPARATE = 1.2  # of the grid's spacing: nearer poses would be refined to the same one
_LOOKED_AT = 40  # rotations looked at for each candidate wanted


@dataclass(frozen=True)
class PoseGrid:
    """Rotations ``(M, 3, 3)``, shifts ``(D, 3)`` in voxels, and how far rotations lie apart in degrees."""

    rotations: Float64
    shifts: Float64
    spacing_degrees: float

    @classmethod
    def of(
        cls,
        radius: float,
        box: int,
        diameter: float,
        shift_range: float,
        symmetry: Float64,
        *,
        coarseness: float = 1.0,
    ) -> PoseGrid:
        """As fine as a map asks for that is looked at up to ``radius``, in cycles per box.

        The phase of the finest detail at the rim of a particle of ``diameter`` changes by half a cycle from
        one rotation to the next; shifts are a quarter of that detail apart and reach ``shift_range``, both in
        voxels. Of rotations that the symmetry ``(n, 3, 3)`` makes equal one is taken.
        """
        spacing = coarseness * 2 * box / (math.pi * radius * max(diameter, 1.0))
        count = max(64, math.ceil(8 * math.pi**2 / spacing**3))
        return cls(
            _one_of_equals(uniform_rotations(count), symmetry),
            _ball(shift_range, coarseness * box / (4 * radius)),
            math.degrees(spacing),
        )


@dataclass(frozen=True)
class Candidates:
    """The best poses of each particle: ``poses`` in order of particle and score, and their ``scores``."""

    poses: Poses
    scores: Float64


def joint_search(
    subtomograms: FourierSubtomograms,
    reference: FourierVolume,
    grid: PoseGrid,
    count: int,
    *,
    symmetry: Float64,
    priors: OrientationPriors | None = None,
    device: str = "cpu",
) -> Candidates:
    """The best ``count`` poses of each subtomogram that are no neighbours.

    Parameters
    ----------
    subtomograms
        Up to the frequency that the grid was made for.
    reference
        The map.
    symmetry
        ``(n, 3, 3)`` rotations of its point group.
    priors
        Of their orientations, added to the log likelihood, which is the square of the score.
    device
        Where the products are made; all else is the processor's.
    """
    points = subtomograms.points
    reading = gather_points(
        reference.grid.numpy(), grid.rotations, points.astype(np.float32), reference.padding
    )
    right = torch.from_numpy(np.concatenate([reading.real, reading.imag], axis=1)).T.contiguous().to(device)
    power = torch.from_numpy(np.abs(reading).astype(np.float32) ** 2).to(device)
    squared = torch.from_numpy(subtomograms.transfers**2).to(device)
    norms = torch.sqrt(squared @ power.T).clamp_(min=1e-20)
    phases = _phases(grid.shifts, points, subtomograms.box)
    step = max(1, _BLOCK_BYTES // (8 * len(grid.shifts) * max(len(points), len(grid.rotations) // 2)))
    parts = []
    for first in range(0, len(subtomograms), step):
        chosen = np.arange(first, min(len(subtomograms), first + step))
        left = _left(subtomograms, chosen, phases).to(device)
        cross = (left @ right).view(len(chosen), len(grid.shifts), -1)
        best, place = cross.max(dim=1)
        own = torch.from_numpy(subtomograms.transfer_index[chosen]).to(device)
        score = (best / norms[own]).cpu().numpy()
        place = place.cpu()
        if priors is not None:
            log_prior = priors.select(chosen).log(grid.rotations, symmetry, grid.spacing_degrees)
            score = _with_prior(score, log_prior)
        for row, number in enumerate(chosen):
            parts.append(best_apart(int(number), score[row], place[row].numpy(), grid, count, symmetry))
    return joined(parts)


def _left(
    subtomograms: FourierSubtomograms, chosen: NDArray[np.int64], phases: NDArray[np.complex64]
) -> torch.Tensor:
    """``(n * D, 2 P)``: conjugate data times transfer, for every shift; the sign makes a real product."""
    own = subtomograms.values[chosen].conj() * subtomograms.transfers[subtomograms.transfer_index[chosen]]
    shifted = (own[:, None] * phases).reshape(-1, phases.shape[1])
    return torch.from_numpy(np.concatenate([shifted.real, -shifted.imag], axis=1))


def _phases(shifts: Float64, points: NDArray[np.int32], box: int) -> NDArray[np.complex64]:
    """``(D, P)`` what a shift does to the map's transform."""
    return np.asarray(np.exp(2j * np.pi / box * (shifts @ points.T.astype(np.float64))), dtype=np.complex64)


def _with_prior(score: Float32, log_prior: Float64) -> Float32:
    """The score whose square is the log likelihood and the prior together."""
    gain = np.sign(score) * score.astype(np.float64) ** 2 + log_prior
    return np.asarray(np.sign(gain) * np.sqrt(np.abs(gain)), dtype=np.float32)


def best_apart(
    number: int, score: Float32, place: NDArray[np.int64], grid: PoseGrid, count: int, symmetry: Float64
) -> tuple[Poses, Float64]:
    """The best poses of one particle that are no neighbours, in order of their score.

    ``score (M,)`` of each rotation of the grid, at the shift ``place (M,)`` of the grid.
    """
    looked = min(len(score), _LOOKED_AT * count)
    order = np.argpartition(-score, looked - 1)[:looked]
    order = order[np.argsort(-score[order], kind="stable")]
    rotations = grid.rotations[order]
    flat = rotations.reshape(len(order), 9)
    least_trace = 1 + 2 * math.cos(math.radians(min(180.0, _SEPARATE * grid.spacing_degrees)))
    free = np.isfinite(score[order])
    picked: list[int] = []
    while len(picked) < count and free.any():
        one = int(np.argmax(free))
        picked.append(one)
        equals = (rotations[one] @ symmetry).reshape(-1, 9)
        free &= (flat @ equals.T).max(axis=1) < least_trace
        free[one] = False
    own = order[picked]
    poses = Poses(grid.rotations[own], grid.shifts[place[own]], np.full(len(own), number, dtype=np.int64))
    return poses, score[own].astype(np.float64)


def joined(parts: list[tuple[Poses, Float64]]) -> Candidates:
    """Those of all particles."""
    return Candidates(
        Poses.joined([poses for poses, _ in parts]), np.concatenate([score for _, score in parts])
    )


def _one_of_equals(rotations: Float64, symmetry: Float64) -> Float64:
    """Those that turn least among their equals: ``A S`` is as good as A."""
    if len(symmetry) == 1:
        return rotations
    traces = np.einsum("mij,nji->mn", rotations, symmetry)
    return np.asarray(rotations[traces[:, 0] >= traces.max(axis=1) - 1e-9])


def _ball(radius: float, spacing: float) -> Float64:
    """``(D, 3)`` points of a cubic lattice within a radius, the origin among them."""
    reach = int(radius / spacing)
    along = np.arange(-reach, reach + 1) * spacing
    grid = np.stack(np.meshgrid(along, along, along, indexing="ij"), axis=-1).reshape(-1, 3)
    return np.asarray(grid[np.linalg.norm(grid, axis=1) <= radius + 1e-9])
