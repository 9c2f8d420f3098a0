"""Projections of a volume as slices of its Fourier transform.

By the projection-slice theorem the transform of a projection (the sum of voxels along the view) is the plane
through the origin of the volume's transform at right angles to the view. The transform is sampled ``padding``
times finer than the box asks for and read by trilinear interpolation; what that blurring does to the volume,
``sinc^2`` along each axis, is divided out beforehand (gridding correction).

Sampling, gridding correction and the choice of low frequencies are separable, so the map from a volume to its
grid is one small matrix an axis: three matrix products, exact adjoint included, with no padded volume in
memory and less work the fewer frequencies are wanted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from manyviews.kernels.select import native, slices


def grid_half(radius: float, padding: int) -> int:
    """``h`` of the half grid ``(2h + 1, 2h + 1, h + 2)`` that holds frequencies up to a radius."""
    return padding * math.ceil(radius) + 1


def volume_to_grid(volume: torch.Tensor, radius: float, padding: int = 2) -> torch.Tensor:
    """The transform of a volume ``(D, D, D)``, real, origin at ``D // 2``, on a half grid ready for slices.

    Frequencies up to ``radius`` cycles per box will be read, on ``padding`` grid points per cycle per box.

    Returns
    -------
    ``(2h + 1, 2h + 1, h + 2)`` complex with ``h = grid_half(radius, padding)``; unnormalised.
    """
    box = volume.shape[0]
    full, half = _axis_matrices(box, grid_half(radius, padding), padding, volume.dtype, volume.device)
    # real times complex as one real product
    columns = half.shape[0]
    both = torch.view_as_real(half.T.contiguous()).reshape(box, 2 * columns)
    rows = torch.view_as_complex((volume.reshape(-1, box) @ both).view(box, box, columns, 2))
    planes = torch.matmul(full, rows)
    return torch.matmul(full, planes.reshape(box, -1)).view(len(full), len(full), columns)


def grid_adjoint(grid: torch.Tensor, box: int, radius: float, padding: int = 2) -> torch.Tensor:
    """The exact adjoint of `volume_to_grid` (gridding correction included): ``(box, box, box)`` real.

    Adjoint over the reals: real and imaginary part of every stored number count as two coordinates. Turns
    what `splat_slices` added up into the gradient of a function of slices with respect to the volume.
    """
    half_size = grid_half(radius, padding)
    if grid.shape[0] != 2 * half_size + 1:
        raise ValueError(f"a grid of {tuple(grid.shape)} is not one for radius {radius}, padding {padding}")
    full, half = _axis_matrices(box, half_size, padding, grid.real.dtype, grid.device)
    columns = half.shape[0]
    planes = torch.matmul(full.mH, grid.reshape(len(full), -1)).view(box, len(full), columns)
    rows = torch.view_as_real(torch.matmul(full.mH, planes)).reshape(-1, 2 * columns)
    both = torch.view_as_real(half.T.contiguous()).reshape(box, 2 * columns)
    return (rows @ both.T).view(box, box, box)


def grid_to_volume(grid: torch.Tensor, box: int, radius: float, padding: int = 2) -> torch.Tensor:
    """The volume whose transform, blurred by trilinear interpolation, is on the grid: ``(box, box, box)``.

    For what `splat_weighted` collected, after division: an inverse transform over the sphere of ``radius``
    and gridding correction. The plane x = 0 must be its own mirror image (`mirror_plane`).
    """
    weights = sphere(grid.shape[0] // 2, radius, padding).to(grid.device, grid.real.dtype) * 2.0
    weights[:, :, 0] *= 0.5
    return grid_adjoint(grid * weights, box, radius, padding) / (padding * box) ** 3


def mirror_plane(grid: torch.Tensor) -> None:
    """Give the plane x = 0, in place, the mirror images of what was added to it.

    A point and its mirror image are one measurement. Away from the plane only one of the two falls on the
    half grid; on it both do, and `splat_slices` adds one.
    """
    plane = grid[:, :, 0]
    grid[:, :, 0] = plane + torch.flip(plane, (0, 1)).conj()


@lru_cache(maxsize=8)
def squared_frequency(half: int) -> torch.Tensor:
    """``q^2`` of every point of a half grid, in grid units, int64; do not change it."""
    q = torch.arange(-half, half + 1)
    x = torch.arange(half + 2)
    return q[:, None, None] ** 2 + q[:, None] ** 2 + x**2


def sphere(half: int, radius: float, padding: int = 2) -> torch.Tensor:
    """Which points of a half grid are within a radius in cycles per box, boolean."""
    return squared_frequency(half) <= (padding * radius) ** 2


def grid_shells(half: int, padding: int = 2) -> torch.Tensor:
    """Shell of every point of a half grid in cycles per box, int64; half-way between two, the even one."""
    return torch.round(squared_frequency(half).double().sqrt() / padding).long()


@lru_cache(maxsize=8)
def _axis_matrices(
    box: int, half: int, padding: int, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Transform and gridding correction along z or y, ``(2h + 1, box)``, and along x, ``(h + 2, box)``."""
    fine = padding * box
    position = np.arange(box) - box // 2
    frequency = np.arange(-half, half + 2)
    # whole turns are taken off before the angle becomes a rounded number
    turns = frequency[:, None] * position % fine / fine
    matrix = np.exp(-2j * np.pi * turns) / np.sinc(position / fine) ** 2
    kind = torch.complex64 if dtype == torch.float32 else torch.complex128
    both = torch.from_numpy(matrix).to(device, kind)
    return both[:-1].contiguous(), both[half:].contiguous()


@dataclass(frozen=True)
class FourierVolume:
    """The padded transform of a volume, read along slices; and the adjoint of that, for gradients.

    ``gradient`` of what was ``add``-ed to the ``empty`` grid is the exact adjoint of ``of`` and ``slices``.
    The device and the precision are those of the grid, see `volume_to_grid`. The volume, of side ``box``, may
    have fewer voxels than images have pixels, for the same field of view. A padding of 2 leaves interpolation
    errors of a percent near the box's edge, and less inside.
    """

    grid: torch.Tensor
    box: int
    radius: float
    padding: int = 2

    @classmethod
    def of(cls, volume: torch.Tensor, radius: float, padding: int = 2) -> FourierVolume:
        """The transform of ``(D, D, D)``."""
        return cls(volume_to_grid(volume.detach(), radius, padding), volume.shape[0], radius, padding)

    def empty(self) -> FourierVolume:
        """The same grid with nothing on it."""
        return replace(self, grid=torch.zeros_like(self.grid))

    def slices(self, rotations: ArrayLike, points: NDArray[Any]) -> torch.Tensor:
        """Transforms ``(M, P)`` of projections.

        Rows of ``rotations (M, 3, 3)`` are the image's x, y and z axes in the volume; ``points (P, 2)`` are
        image frequencies (kx, ky) in cycles per box, as from `half_plane`.
        """
        grid, turns, places = self._native(rotations, points)
        return torch.as_tensor(slices(self.grid.device).gather_slices(grid, turns, places, self.padding))

    def add(self, rotations: ArrayLike, points: NDArray[Any], values: torch.Tensor) -> None:
        """Add slices ``values (M, P)`` to the grid in place: the adjoint of `slices`."""
        grid, turns, places = self._native(rotations, points)
        slices(self.grid.device).splat_slices(grid, turns, places, native(values), self.padding)

    def gradient(self) -> torch.Tensor:
        """``(D, D, D)`` `grid_adjoint` of the grid: the gradient of a function whose slopes were added."""
        return grid_adjoint(self.grid, self.box, self.radius, self.padding)

    def _native(self, rotations: ArrayLike, points: NDArray[Any]) -> tuple[Any, Any, Any]:
        """Grid, rotations and points as the kernels of the device take them."""
        turns = torch.as_tensor(np.asarray(rotations)).to(self.grid.device, self.grid.real.dtype)
        places = torch.as_tensor(np.asarray(points)).to(self.grid.device)
        return native(self.grid), native(turns), native(places)
