"""The transform of a real volume within a radius as one vector of independent real coordinates.

A half grid holds some coefficients twice: on its plane x = 0 a point and its mirror image are conjugates. The
vector has each once: real and imaginary part of every point of half a ball, times sqrt 2, and last the real
coefficient at the origin. So its length is that of the whole ball's coefficients, every number with its
mirror image, and a Hessian in it is that over the whole complex transform, as papers write it.

    H = A' W A,    A: vector -> half grid -> slices

where A, linear over the reals, reads slices by trilinear interpolation; what lies beyond the radius is zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from manyviews.operators.fourier_points import half_ball
from manyviews.operators.fourier_slice import grid_half, grid_to_volume, volume_to_grid


@dataclass(frozen=True)
class FourierBall:
    """Where the coordinates of the vector lie on the half grid ``(2h + 1, 2h + 1, h + 2)``, flat.

    Attributes
    ----------
    radius, padding
        Highest frequency in cycles per box, and grid points for each.
    place
        ``(n,)`` of the points of half a ball, by increasing frequency.
    plane, mirror
        Which of them are on the plane x = 0, and where their mirror images are.
    length
        ``(n,)`` frequency of each point in cycles per box, float64.
    """

    radius: int
    padding: int
    place: torch.Tensor
    plane: torch.Tensor
    mirror: torch.Tensor
    length: torch.Tensor

    @classmethod
    def of(cls, radius: int, padding: int = 1) -> FourierBall:
        """The ball of a radius in cycles per box, at least 1."""
        reach = padding * radius
        points = torch.from_numpy(half_ball(reach, 2 * reach + 2)).long()
        half = grid_half(radius, padding)
        x, y, z = points.unbind(1)
        place = _flat(half, x, y, z)
        plane = torch.nonzero(x == 0)[:, 0]
        mirror = _flat(half, x[plane], -y[plane], -z[plane])
        length = points.double().square().sum(1).sqrt() / padding
        return cls(radius, padding, place, plane, mirror, length)

    @property
    def size(self) -> int:
        """How many real coordinates there are."""
        return 2 * len(self.place) + 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the half grid."""
        half = grid_half(self.radius, self.padding)
        return 2 * half + 1, 2 * half + 1, half + 2

    @property
    def origin(self) -> int:
        """Where zero frequency lies on the flat half grid."""
        half = grid_half(self.radius, self.padding)
        return half * (2 * half + 1) * (half + 2) + half * (half + 2)

    def to_grid(self, vector: torch.Tensor) -> torch.Tensor:
        """The half grid of a real vector ``(size,)``, complex."""
        parts = torch.view_as_complex(vector[:-1].reshape(-1, 2)) * math.sqrt(0.5)
        grid = parts.new_zeros(math.prod(self.shape))
        grid[self.place] = parts
        grid[self.mirror] = parts[self.plane].conj()
        grid[self.origin] = vector[-1]
        return grid.view(self.shape)

    def from_grid(self, grid: torch.Tensor) -> torch.Tensor:
        """The exact adjoint of `to_grid` over the reals: ``(size,)``."""
        flat = grid.reshape(-1)
        parts = flat[self.place]
        parts[self.plane] += flat[self.mirror].conj()
        vector = grid.real.new_empty(self.size)
        vector[:-1] = torch.view_as_real(parts.resolve_conj()).reshape(-1) * math.sqrt(0.5)
        vector[-1] = flat[self.origin].real
        return vector

    def diagonal(self, grid: torch.Tensor) -> torch.Tensor:
        """The diagonal of ``A' W A`` in these coordinates, from W splatted on the real half grid by ``w^2``.

        Of W splatted by ``w``, it is a diagonal that is nowhere below ``A' W A``. W is twice the weight of a
        squared difference. A point on the plane x = 0 gets what was added at either of the two places.
        """
        flat = grid.reshape(-1)
        parts = flat[self.place]
        parts[self.plane] += flat[self.mirror]
        vector = grid.new_empty(self.size)
        vector[:-1] = (parts * 0.5).repeat_interleave(2)
        vector[-1] = flat[self.origin]
        return vector

    def shells(self) -> torch.Tensor:
        """``(size,)`` shell of every coordinate in cycles per box, rounded."""
        shell = torch.round(self.length).long()
        return torch.cat([shell.repeat_interleave(2), shell.new_zeros(1)])

    def from_volume(self, volume: torch.Tensor) -> torch.Tensor:
        """The vector of a real volume ``(D, D, D)`` whose slices are its projections', but for blurring."""
        grid = volume_to_grid(volume, self.radius, self.padding).reshape(-1)
        vector = volume.new_empty(self.size)
        vector[:-1] = torch.view_as_real(grid[self.place]).reshape(-1) * math.sqrt(2.0)
        vector[-1] = grid[self.origin].real
        return vector

    def to_volume(self, vector: torch.Tensor, box: int) -> torch.Tensor:
        """The real volume ``(box, box, box)`` of a vector, corrected for the blurring of interpolation."""
        return grid_to_volume(self.to_grid(vector), box, self.radius, self.padding)


def _flat(half: int, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    return ((z + half) * (2 * half + 1) + y + half) * (half + 2) + x
