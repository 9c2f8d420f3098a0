"""Functions on spheres as spherical harmonics, and their correlation over all rotations.

With ``f_lm`` the coefficients of a real f, and ``(L g)(x) = g(R^-1 x)``, R = Rz(a) Ry(b) Rz(c),

    C(R) = sum_lmn conj(f_lm) D^l_mn(R) g_ln,
    D^l_mn = exp(-i m a) d^l_mn(b) exp(-i n c),
    d^l_mn(b) = exp(-i m pi/2) [sum_h D_mh D_nh exp(-i h b)] exp(i n pi/2),  D = d^l(pi/2),

so that C is a three-dimensional Fourier series (Risbo, J. Geodesy 70 (1996) 383; Kovacs and Wriggers, Acta
Cryst. D 58 (2002) 1282). What is the same at k and -k, as the modulus and the real part of a real map's
transform, has even degrees only; what changes its sign, as the imaginary part, has odd ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, special

Float64 = NDArray[np.float64]
Complex128 = NDArray[np.complex128]


@dataclass(frozen=True)
class Harmonics:
    """Even or odd degrees up to ``degree``, and the sphere's points where functions are sampled for them.

    ``parity`` is 0 for even degrees, 1 for odd ones. ``directions (P, 3)`` are unit vectors, ``analysis (K,
    P)`` makes the coefficients of samples there, in the order of ``degrees (K,)`` and ``orders (K,)``. Exact
    for functions without degrees beyond ``degree``.
    """

    degree: int
    parity: int
    directions: Float64
    analysis: Complex128
    degrees: NDArray[np.int64]
    orders: NDArray[np.int64]

    def coefficients(self, samples: NDArray[Any]) -> Complex128:
        """``(..., K)`` of samples ``(..., P)``."""
        return np.asarray(samples @ self.analysis.T)

    def of_degree(self, degree: int) -> slice:
        """Where the coefficients of a degree stand, by order from ``-degree`` on."""
        # the degrees before have 2 l + 1 coefficients each
        first = degree * (degree - 1) // 2
        return slice(first, first + 2 * degree + 1)


@lru_cache(maxsize=4)
def harmonics(degree: int, parity: int = 0) -> Harmonics:
    """The even or odd degrees up to ``degree``: Gauss-Legendre in latitude, equal steps in longitude."""
    nodes, weights = np.polynomial.legendre.leggauss(degree + 1)
    polar = np.arccos(nodes)
    count = 2 * degree + 2
    azimuth = 2 * np.pi * np.arange(count) / count
    theta, phi = (part.ravel() for part in np.meshgrid(polar, azimuth, indexing="ij"))
    area = np.repeat(weights, count) * (2 * np.pi / count)
    directions = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=1)
    pairs = [(j, m) for j in range(parity, degree + 1, 2) for m in range(-j, j + 1)]
    degrees, orders = np.array(pairs).T
    values = special.sph_harm_y(degrees[:, None], orders[:, None], theta[None], phi[None])
    return Harmonics(degree, parity, directions, values.conj() * area, degrees, orders)


@lru_cache(maxsize=128)
def quarter_turn(degree: int) -> Float64:
    """Wigner's ``d^l_mn(pi/2)``, ``(2 l + 1, 2 l + 1)`` by rising m and n."""
    m = np.arange(-degree, degree)
    raising = np.sqrt(degree * (degree + 1) - m * (m + 1.0))
    # exp(-i b J_y) in the basis where J_z is diagonal; i J_y is real
    values, vectors = np.linalg.eigh((np.diag(raising, -1) - np.diag(raising, 1)) / 2j)
    return np.asarray(((vectors * np.exp(-0.5j * np.pi * values)) @ vectors.conj().T).real)


class RotationalCorrelation:
    """Correlates functions with one of them, g, over a grid of rotations.

    Parameters
    ----------
    basis
        The degrees.
    reference
        ``(S, K)`` coefficients of g on S shells, times the shells' weights.
    fold
        g looks the same after a turn by ``1 / fold`` about z: only orders that are multiples count.
    """

    def __init__(self, basis: Harmonics, reference: Complex128, fold: int = 1) -> None:
        self.basis = basis
        self.reference = reference
        self.fold = fold
        degree = basis.degree
        self.size = fft.next_fast_len(2 * degree + 1)
        self.turns = degree // fold  # multiples of the fold on either side of 0
        self.last = fft.next_fast_len(2 * self.turns + 1)

    def grid(self) -> tuple[Float64, Float64, Float64]:
        """Angles a, b, c in radians of the values of `correlate`; c goes once round a fold."""
        along = 2 * np.pi * np.arange(self.size) / self.size
        third = 2 * np.pi / self.fold * np.arange(self.last) / self.last
        return along, along[: self.size // 2 + 1], third

    def correlate(self, functions: Complex128) -> Float64:
        """``(N, a, b, c)`` correlations of ``functions (N, S, K)``, on the shells of the reference."""
        basis, degree = self.basis, self.basis.degree
        count = len(functions)
        orders = self.fold * np.arange(-self.turns, self.turns + 1)
        cube = np.zeros((count, self.size, self.size, self.last), np.complex128)
        for j in range(basis.parity, degree + 1, 2):
            own = basis.of_degree(j)
            used = orders[np.abs(orders) <= j]
            right = self.reference[:, own][:, j + used]
            pairs = np.einsum("nsm,sk->nmk", functions[:, :, own].conj(), right, optimize=True)
            m = np.arange(-j, j + 1)
            pairs *= (1j) ** (-m[:, None]) * (1j) ** used[None]
            turn = quarter_turn(j)
            parts = np.einsum("nmk,mh,kh->nmhk", pairs, turn, turn[j + used], optimize=True)
            where = np.ix_(np.arange(count), m % self.size, m % self.size, (used // self.fold) % self.last)
            cube[where] += parts
        # exp(-i m a): a forward transform without its factor
        return np.asarray(fft.fftn(cube, axes=(1, 2, 3)).real[:, :, : self.size // 2 + 1])


def degree_for(radius: float, diameter_over_box: float, most: int = 32) -> int:
    """The even degree of detail at ``radius`` cycles per box on a particle that fills so much of the box.

    The phase at the particle's rim turns ``pi radius diameter / box`` radians from middle to rim.
    """
    wanted = math.ceil(math.pi * radius * diameter_over_box)
    return min(most, max(4, wanted + wanted % 2))
