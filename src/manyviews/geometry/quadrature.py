"""Points and weights to integrate over the poses of a particle: view direction, in-plane angle, shift.

Punjani, Brubaker and Fleet, "Building proteins in a day", section 3.2. The integral over all poses becomes a
sum over the product of three sets of points, as dense as the highest frequency asks for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyviews.geometry.poses import direction_matrices

Float64 = NDArray[np.float64]

_MOST_HERMITE_POINTS = 100  # beyond it the outer weights underflow and the inner points are far too dense


@dataclass(frozen=True)
class Quadrature:
    """A product rule over directions, in-plane angles and shifts: ``sum_jkl w_j w_k w_l f(d_j, psi_k, t_l)``.

    The weights hold the priors, uniform over rotations and Gaussian over shifts, so each set sums to 1 and
    the rule gives the mean of ``f``. ``directions (Md, 3)`` are unit vectors (x, y, z), ``in_plane_degrees
    (Mpsi,)`` psi, evenly spaced from 0, ``shifts (Mt, 2)`` (x, y) in angstrom; ``spacing_degrees`` is the
    angle between neighbours that the directions and in-plane angles were made for.
    """

    directions: Float64
    direction_weights: Float64
    in_plane_degrees: Float64
    in_plane_weights: Float64
    shifts: Float64
    shift_weights: Float64
    spacing_degrees: float

    @property
    def size(self) -> int:
        """Number of poses."""
        return len(self.directions) * len(self.in_plane_degrees) * len(self.shifts)

    def rotations(self, turn: ArrayLike | None = None) -> Float64:
        """Poses ``(Md, Mpsi, 3, 3)``; ``turn`` 3x3 turns the whole grid, ``A turn``, so that points move."""
        poses = direction_matrices(self.directions[:, None], self.in_plane_degrees)
        return poses if turn is None else poses @ np.asarray(turn, dtype=np.float64)


def angular_spacing(radius: float) -> float:
    """Angle in radians between neighbouring wave numbers at a radius in Fourier samples.

    The paper's ``alpha = arccos((r^2 - 1) / (r^2 + 1)) / 2``, ``r = D omega``, which is ``arctan(1 / r)``.
    """
    return math.atan2(1.0, radius)


def pose_quadrature(
    radius: float,
    shift_sigma: float,
    *,
    undersampling: float = 1.0,
    shift_points: int | None = None,
    least_weight: float = 0.0,
) -> Quadrature:
    """The paper's points for frequencies up to ``radius``: ``(3.6 / alpha)^2`` directions and so on.

    Parameters
    ----------
    radius
        Highest frequency in samples of the image's transform, box size times frequency (``D omega``).
    shift_sigma
        Prior standard deviation of the shifts in x and in y, angstrom; 0: one point.
    undersampling
        Factor on the angular spacing, e.g. 1.5 for 1.5^3 times fewer rotations.
    shift_points
        Points along x and along y; left out: ``radius``, rounded, as in the paper.
    least_weight
        Shifts that carry less than this part of the largest weight are left out.

    Raises
    ------
    ValueError
        If the radius or the undersampling is not positive, or the shift's sigma is negative.
    """
    if not radius > 0 or not undersampling > 0 or not shift_sigma >= 0:
        raise ValueError(f"no quadrature for {radius=}, {undersampling=}, {shift_sigma=}")
    spacing = angular_spacing(radius) * undersampling
    directions = spiral_directions(_direction_count(spacing))
    in_plane = in_plane_angles(_in_plane_count(spacing))
    along = max(1, round(radius)) if shift_points is None else shift_points
    shifts, shift_weights = gaussian_shifts(along, shift_sigma, least_weight=least_weight)
    return Quadrature(
        directions=directions,
        direction_weights=_equal(len(directions)),
        in_plane_degrees=in_plane,
        in_plane_weights=_equal(len(in_plane)),
        shifts=shifts,
        shift_weights=shift_weights,
        spacing_degrees=math.degrees(spacing),
    )


def quadrature_size(radius: float, shift_sigma: float) -> int:
    """How many poses `pose_quadrature` has, without making them; `ValueError` as there."""
    if not radius > 0 or not shift_sigma >= 0:
        raise ValueError(f"no quadrature for {radius=}, {shift_sigma=}")
    spacing = angular_spacing(radius)
    along = 1 if shift_sigma == 0 else min(max(1, round(radius)), _MOST_HERMITE_POINTS)
    return _direction_count(spacing) * _in_plane_count(spacing) * along**2


def _direction_count(spacing: float) -> int:
    return max(2, math.ceil((3.6 / spacing) ** 2))


def _in_plane_count(spacing: float) -> int:
    return math.ceil(2 * math.pi / spacing)


def spiral_directions(count: int) -> Float64:
    """Unit vectors ``(count, 3)`` on a spiral from pole to pole, about ``3.6 / sqrt(count)`` radians apart.

    Saff and Kuijlaars, Math. Intelligencer 19 (1997) 5: evenly spaced heights; the longitude goes on by
    ``3.6 / sqrt(count (1 - h^2))`` a step.
    """
    if count == 1:
        return np.array([[0.0, 0.0, 1.0]])
    height = np.linspace(-1.0, 1.0, count)
    radius = np.sqrt(np.maximum(1 - height**2, 0))
    step = np.zeros(count)
    step[1:-1] = 3.6 / (math.sqrt(count) * radius[1:-1])
    longitude = np.cumsum(step)
    return np.stack([radius * np.cos(longitude), radius * np.sin(longitude), height], axis=1)


def in_plane_angles(count: int) -> Float64:
    """``(count,)`` evenly spaced degrees from 0 on."""
    return np.asarray(np.arange(count) * (360.0 / count), dtype=np.float64)


def gaussian_shifts(count: int, sigma: float, *, least_weight: float = 0.0) -> tuple[Float64, Float64]:
    """Gauss-Hermite points ``(n, 2)`` (x, y) and weights ``(n,)`` for the mean over a round 2-D Gaussian.

    Exact for polynomials of degree ``2 count - 1`` in x and in y. There are ``count`` points along each axis,
    at most 100; ``sigma``, in any unit, is the standard deviation in x and in y; 0 gives the one point 0.
    Points with less than ``least_weight`` of the largest weight are left out and the rest scaled to sum to 1.
    """
    if sigma == 0:
        return np.zeros((1, 2)), np.ones(1)
    nodes, along = np.polynomial.hermite_e.hermegauss(min(count, _MOST_HERMITE_POINTS))
    y, x = (grid.ravel() for grid in np.meshgrid(nodes, nodes, indexing="ij"))
    weights = np.outer(along, along).ravel()
    kept = weights >= least_weight * weights.max()
    return np.stack([x, y], axis=1)[kept] * sigma, weights[kept] / weights[kept].sum()


def _equal(count: int) -> Float64:
    return np.full(count, 1 / count)
