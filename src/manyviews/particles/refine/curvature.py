"""How much EM's diagonal exceeds that of the true Hessian where poses are not known, shell by shell.

The negative log likelihood of an image is ``-log sum_s p_s exp(-f_s)`` over its poses s. With ``g_s`` the
gradient of ``f_s`` its Hessian is (Louis 1982, J. R. Statist. Soc. B 44:226)

    H = E[f_s''] - Cov[g_s],

expectations over the posterior. EM minimises ``E[f_s]``, whose Hessian is the first term alone: where poses
are ambiguous, EM's steps are too short by the ratio of the two. Here are the traces of both terms over the
coordinates (`manyviews.operators.fourier_ball`) of every shell, by Hutchinson's probes that are zero outside
a shell: ``z' E[f''] z`` and ``Var[z' g_s]`` need slices of z only, and no product with H in full.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.operators.fourier_ball import FourierBall
from manyviews.operators.fourier_slice import FourierVolume
from manyviews.particles.em.pose_samples import PoseSamples
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.refine.seen import images_and_model
from manyviews.solvers.hutchinson import random_signs

Float64 = NDArray[np.float64]

FLOOR = 0.05  # of EM's diagonal: estimates of the true one may be less, or negative
_POINTS_AT_ONCE = 2**20
_REACH = 1.5  # shells from a shell to where its grid points are read


@dataclass(frozen=True)
class ShellCurvature:
    """Traces over the coordinates of each shell, ``(shells,)``, summed over images."""

    em: Float64
    covariance: Float64

    @classmethod
    def none(cls, shells: int) -> ShellCurvature:
        """Of no image."""
        return cls(np.zeros(shells), np.zeros(shells))

    def added(self, other: ShellCurvature) -> ShellCurvature:
        """Of the images of both."""
        return ShellCurvature(self.em + other.em, self.covariance + other.covariance)

    def ratio(self, floor: float = FLOOR) -> Float64:
        """The true diagonal over EM's, not below the floor; 1 where nothing is known."""
        known = self.em > 0
        true = 1 - self.covariance / np.where(known, self.em, 1.0)
        return np.where(known, np.clip(true, floor, 1.0), 1.0)


def shell_curvature(
    images: FourierImages,
    volume: FourierVolume,
    samples: PoseSamples,
    radius: int,
    rng: np.random.Generator,
    shells: NDArray[np.int64] | None = None,
) -> ShellCurvature:
    """One probe a shell, of all images that ``samples`` has poses for; numbered as the images.

    ``volume`` is the map that the posterior is of. Weights of an image sum to 1. ``shells`` are those wanted,
    all from 1 on if not given; values are rounded to single precision an image, so that sums over processes
    do not depend on how many there are.
    """
    seen = images.crop(radius)
    ball = FourierBall.of(radius)
    probe = random_signs(torch.zeros(ball.size), rng)
    shell_of, lengths = ball.shells(), np.linalg.norm(seen.points, axis=1)
    wanted = np.arange(1, radius + 1) if shells is None else shells
    probes = {int(shell): ball.to_grid(probe * (shell_of == int(shell))) for shell in wanted}
    total = ShellCurvature.none(radius + 1)
    for part in _blocks(samples, max(1, _POINTS_AT_ONCE // len(seen.points))):
        weight = seen.group_precision()[seen.group[part.image]] * seen.ctf[part.image]
        centred, model = images_and_model(seen, volume, part)
        slope = (model - centred) * weight  # of f_s with respect to the conjugate of the slice
        curvature = weight * seen.ctf[part.image]
        first = np.flatnonzero(np.diff(part.image, prepend=-1))
        for shell, grid in probes.items():
            near = slice(*np.searchsorted(lengths, (shell - _REACH, shell + _REACH)))
            read = (
                FourierVolume(grid, images.box, radius, 1).slices(part.rotations, seen.points[near]).numpy()
            )
            squares = (read.real**2 + read.imag**2) * curvature[:, near]
            along = 2 * (read.conj() * slope[:, near]).real.sum(1, dtype=np.float64)
            em = np.add.reduceat(2 * squares.sum(1, dtype=np.float64) * part.weights, first)
            mean = np.add.reduceat(along * part.weights, first)
            square = np.add.reduceat(along**2 * part.weights, first)
            total.em[shell] += em.astype(np.float32).sum(dtype=np.float64)
            total.covariance[shell] += (square - mean**2).astype(np.float32).sum(dtype=np.float64)
    return total


def _blocks(samples: PoseSamples, most: int) -> list[PoseSamples]:
    """Whole images each, with ``most`` poses or a few more."""
    starts = np.flatnonzero(np.diff(samples.image, prepend=-1))
    ends = [*starts[1:], len(samples)]
    found, begin = [], 0
    for end in ends:
        if end - begin >= most or end == len(samples):
            found.append(samples.select(slice(begin, end)))
            begin = end
    return found
