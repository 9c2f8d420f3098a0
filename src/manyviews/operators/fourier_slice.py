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
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from manyviews.kernels import slices_cpu, slices_torch
from manyviews.operators.fourier_points import half_plane
from manyviews.operators.linear import LinearOperator, register


def grid_half(radius: float, padding: int) -> int:
    """``h`` of the half grid ``(2h + 1, 2h + 1, h + 2)`` that holds frequencies up to a radius."""
    return padding * math.ceil(radius) + 1


def volume_to_grid(volume: torch.Tensor, radius: float, padding: int = 2) -> torch.Tensor:
    """The transform of a volume on a half grid, ready for slices to be read.

    Parameters
    ----------
    volume
        ``(D, D, D)`` real, origin at ``D // 2``.
    radius
        Highest frequency that will be read, in cycles per box.
    padding
        Grid points per cycle per box.

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


class FourierSlices(LinearOperator):
    """Volume to the transforms of its projections at image frequencies.

    Parameters
    ----------
    rotations
        ``(M, 3, 3)``: rows are the image's x, y and z axes in the volume.
    points
        ``(P, 2)`` image frequencies (kx, ky) in cycles per box, as from `half_plane`.
    box
        Side D of the volume and of the images.
    padding
        Grid points per cycle per box; 2 leaves interpolation errors of a percent near the box's edge, and
        less inside.

    ``forward`` takes ``(D, D, D)`` to ``(M, P, 2)``, real and imaginary parts; memory is that of the result
    and the grid.
    """

    def __init__(self, rotations: ArrayLike, points: NDArray[Any], box: int, padding: int = 2) -> None:
        self.rotations = torch.as_tensor(np.asarray(rotations, dtype=np.float64))
        self.points = np.asarray(points, dtype=np.int32)
        self.box, self.padding = box, padding
        self.radius = float(np.sqrt(np.max(np.sum(self.points.astype(np.int64) ** 2, axis=1), initial=0)))
        self.domain = (box, box, box)
        self.range = (len(self.rotations), len(self.points), 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Transforms of the projections of a volume."""
        grid = volume_to_grid(x, self.radius, self.padding)
        if grid.device.type == "cpu":
            read = slices_cpu.gather_slices(grid.numpy(), self._turns(x).numpy(), self.points, self.padding)
            return torch.view_as_real(torch.from_numpy(read))
        points = torch.from_numpy(self.points).to(x.device)
        return torch.view_as_real(slices_torch.gather_slices(grid, self._turns(x), points, self.padding))

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """The exact adjoint."""
        values = torch.view_as_complex(y.contiguous())
        half = grid_half(self.radius, self.padding)
        grid = values.new_zeros((2 * half + 1, 2 * half + 1, half + 2))
        turns = self._turns(y)
        if y.device.type == "cpu":
            slices_cpu.splat_slices(grid.numpy(), turns.numpy(), self.points, values.numpy(), self.padding)
        else:
            points = torch.from_numpy(self.points).to(y.device)
            slices_torch.splat_slices(grid, turns, points, values, self.padding)
        return grid_adjoint(grid, self.box, self.radius, self.padding)

    def _turns(self, like: torch.Tensor) -> torch.Tensor:
        return self.rotations.to(like.device, like.dtype)


@register("fourier slices")
def _example(case: int) -> FourierSlices:
    from scipy.spatial.transform import Rotation

    box, radius, padding = ((9, 3, 2), (10, 5, 2), (12, 4, 3))[case]
    rotations = Rotation.random(5, random_state=case).as_matrix()
    return FourierSlices(rotations, half_plane(radius, box), box, padding)
