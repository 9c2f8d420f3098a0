"""Fast rotational matching with the wedge, then fast translational matching: the paper's search.

The moduli of the transforms of particle and map, A and B, do not depend on the shift. With the particle's
wedge m (the map has all frequencies) their normalised correlation at a rotation is

    (n12 - n1 n2 / n0) / sqrt((n11 - n1^2 / n0) (n22 - n2^2 / n0)),

n12 the correlation of A m with B over that rotation, n1, n11 sums of A m and A^2 m and n0 of m, which do not
depend on it, n2, n22 the correlations of m with B and B^2, which are the same for all particles with one
wedge (Chen et al., J. Struct. Biol. 182 (2013) 235; Xu et al., J. Struct. Biol. 178 (2012) 152). So one
correlation a particle is enough. The shift of each rotation is then where the transform of ``conj(y) m`` is
largest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.geometry.poses import euler_to_matrices
from manyviews.kernels.points_cpu import gather_points
from manyviews.operators.fourier_slice import FourierVolume
from manyviews.subtomo.candidates.joint_search import Candidates, PoseGrid, best_apart, joined
from manyviews.subtomo.candidates.spherical import (
    Complex128,
    Harmonics,
    RotationalCorrelation,
    degree_for,
    harmonics,
)
from manyviews.subtomo.candidates.translational_matching import best_shifts
from manyviews.subtomo.coverage import sample_half_spectrum
from manyviews.subtomo.refine.objective import Poses
from manyviews.subtomo.volumes import FourierSubtomograms
from manyviews.subtomo.wedge.transfer import is_measured

Float64 = NDArray[np.float64]

_FIRST_SHELL = 2
_AT_ONCE = 16
_TINY = 1e-30


@dataclass(frozen=True)
class Spheres:
    """S spheres of frequencies with P points each; ``weight (S,)`` is the area that each stands for."""

    shells: NDArray[np.int64]
    basis: Harmonics

    @property
    def points(self) -> Float64:
        """``(S, P, 3)`` frequencies."""
        return self.shells[:, None, None] * self.basis.directions

    @property
    def weight(self) -> Float64:
        """Of a sphere."""
        return self.shells.astype(np.float64) ** 2

    def integral(self, samples: Float64) -> float:
        """Over all spheres, of samples ``(S, P)``."""
        mean = self.basis.coefficients(samples)[:, 0].real * np.sqrt(4 * np.pi)
        return float(mean @ self.weight)

    def weighted(self, samples: Float64) -> Complex128:
        """``(S, K)`` coefficients of samples ``(S, P)`` times the spheres' weights."""
        return self.basis.coefficients(samples) * self.weight[:, None]


@dataclass(frozen=True)
class _Wedge:
    """One wedge on the spheres, and what it makes of the map at every rotation."""

    mask: Float64
    total: float
    first: Float64
    second: Float64


def rotational_matching(
    subtomograms: FourierSubtomograms,
    reference: FourierVolume,
    count: int,
    *,
    diameter: float,
    shift_range: float,
    symmetry: Float64,
) -> Candidates:
    """The best ``count`` poses of each subtomogram that are no neighbours.

    Parameters
    ----------
    subtomograms, reference
        Particles and map, compared up to the frequencies of the particles.
    diameter, shift_range
        Of the particle, and how far from the middle it may be, voxels.
    symmetry
        ``(n, 3, 3)`` rotations of the map's point group.
    """
    basis = harmonics(degree_for(subtomograms.radius, diameter / subtomograms.box))
    spheres = Spheres(np.arange(_FIRST_SHELL, subtomograms.radius + 1), basis)
    flat = spheres.points.reshape(1, -1, 3)[0].astype(np.float32)
    read = gather_points(reference.grid.numpy(), np.eye(3)[None], flat, reference.padding)
    modulus = np.abs(read[0]).astype(np.float64).reshape(len(spheres.shells), -1)
    # whitened, so that low frequencies do not decide alone: data are whitened too
    modulus /= np.maximum(modulus.mean(axis=1, keepdims=True), _TINY)
    fold = _turns_about_z(symmetry)
    plain = RotationalCorrelation(basis, spheres.weighted(modulus), fold)
    squared = RotationalCorrelation(basis, spheres.weighted(modulus**2), fold)
    wedges = [_wedge(one, subtomograms, spheres, plain, squared) for one in subtomograms.transfers]
    grid = PoseGrid(grid_rotations(plain), np.zeros((1, 3)), 360.0 / plain.size)
    parts: list[tuple[Poses, Float64]] = []
    for first in range(0, len(subtomograms), _AT_ONCE):
        own = np.arange(first, min(len(subtomograms), first + _AT_ONCE))
        index = subtomograms.transfer_index[own]
        seen = np.stack(
            [
                _modulus(subtomograms, int(n), spheres) * wedges[w].mask
                for n, w in zip(own, index, strict=True)
            ]
        )
        cross = plain.correlate(basis.coefficients(seen))
        for row, number in enumerate(own):
            score = _score(cross[row], seen[row], wedges[index[row]], spheres).ravel().astype(np.float32)
            middle = np.zeros(len(score), dtype=np.int64)
            parts.append(best_apart(int(number), score, middle, grid, count, symmetry))
    return best_shifts(subtomograms, reference, joined(parts), shift_range)


def _wedge(
    transfer: NDArray[np.float32],
    subtomograms: FourierSubtomograms,
    spheres: Spheres,
    plain: RotationalCorrelation,
    squared: RotationalCorrelation,
) -> _Wedge:
    measured = is_measured(transfer)
    mask = (lattice_samples(measured.astype(np.float64), subtomograms, spheres) > 0.5).astype(np.float64)
    own = spheres.basis.coefficients(mask)[None]
    return _Wedge(mask, spheres.integral(mask), plain.correlate(own)[0], squared.correlate(own)[0])


def _score(cross: Float64, seen: Float64, wedge: _Wedge, spheres: Spheres) -> Float64:
    """Normalised correlation at every rotation."""
    total = max(wedge.total, _TINY)
    one, two = spheres.integral(seen), spheres.integral(seen**2)
    upper = cross - one * wedge.first / total
    lower = max(two - one**2 / total, _TINY) * np.maximum(wedge.second - wedge.first**2 / total, _TINY)
    return np.asarray(upper / np.sqrt(lower))


def _modulus(subtomograms: FourierSubtomograms, number: int, spheres: Spheres) -> Float64:
    """``(S, P)`` modulus of a particle's whitened transform."""
    return lattice_samples(np.abs(subtomograms.values[number]).astype(np.float64), subtomograms, spheres)


def lattice_samples(
    values: NDArray[Any], subtomograms: FourierSubtomograms, spheres: Spheres, *, odd: bool = False
) -> Float64:
    """Values ``(P,)`` at half of the frequencies, between them on the spheres: ``(S, points)``.

    They are the same at k and -k, or, ``odd``, of the other sign.
    """
    side = 2 * subtomograms.radius + 3
    lattice = np.zeros((side, side, side // 2 + 1))
    x, y, z = subtomograms.points.astype(np.int64).T
    lattice[z % side, y % side, x] = values
    edge = x == 0
    lattice[-z[edge] % side, -y[edge] % side, 0] = -values[edge] if odd else values[edge]
    points = spheres.points
    found = sample_half_spectrum(lattice, points)
    return np.where(points[..., 0] < 0, -found, found) if odd else found


def grid_rotations(correlation: RotationalCorrelation) -> Float64:
    """``(M, 3, 3)`` poses A = Rz(a) Ry(b) Rz(c) of the values of a correlation, in their order."""
    first, second, third = np.meshgrid(*correlation.grid(), indexing="ij")
    # RELION's angles turn axes, these turn points: each is the inverse of the other with its sign changed
    angles = np.stack([-third, -second, -first], axis=-1).reshape(-1, 3)
    return euler_to_matrices(np.rad2deg(angles))


def _turns_about_z(symmetry: Float64) -> int:
    """How many rotations of a group are about z."""
    return int(np.count_nonzero(symmetry[:, 2, 2] > 1 - 1e-9))
