"""Reading and adding Fourier slices with torch, on any device: `manyviews.kernels.slices_cpu` in tensors.

Same half grid, same arithmetic. Rotations are taken a few at a time, so that the eight corners of their
points need little memory. On CUDA the order of atomic sums, and so the last bits, may differ between runs.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

_POINTS_AT_ONCE = 2**20


def gather_slices(
    grid: torch.Tensor, rotations: torch.Tensor, points: torch.Tensor, padding: int
) -> torch.Tensor:
    """Read slices ``(M, P)`` of a complex half grid; see `manyviews.kernels.slices_cpu.gather_slices`."""
    out = grid.new_empty((len(rotations), len(points)))
    flat = grid.reshape(-1)
    for chosen in _parts(len(rotations), len(points)):
        corners, weights, mirrored = _corners(grid.shape, rotations[chosen], points, padding)
        total = grid.new_zeros(mirrored.shape)
        for corner, weight in zip(corners, weights, strict=True):
            total += weight * flat[corner]
        out[chosen] = torch.where(mirrored, total.conj(), total)
    return out


def splat_slices(
    grid: torch.Tensor, rotations: torch.Tensor, points: torch.Tensor, values: torch.Tensor, padding: int
) -> None:
    """Add slices to a complex half grid in place: the exact adjoint of `gather_slices`."""
    flat = torch.view_as_real(grid).view(-1, 2)
    for chosen in _parts(len(rotations), len(points)):
        corners, weights, mirrored = _corners(grid.shape, rotations[chosen], points, padding)
        part = torch.view_as_real(torch.where(mirrored, values[chosen].conj(), values[chosen]).resolve_conj())
        for corner, weight in zip(corners, weights, strict=True):
            flat.index_add_(0, corner.reshape(-1), (weight[..., None] * part).reshape(-1, 2))


def splat_weighted(
    numerator: torch.Tensor,
    denominator: torch.Tensor,
    rotations: torch.Tensor,
    points: torch.Tensor,
    values: torch.Tensor,
    weights: torch.Tensor,
    padding: int,
) -> None:
    """Add ``values (M, P)`` to a complex half grid and ``weights (M, P)`` to a real one, both in place."""
    splat_slices(numerator, rotations, points, values, padding)
    splat_weights(denominator, rotations, points, weights, padding)


def splat_weights(
    grid: torch.Tensor,
    rotations: torch.Tensor,
    points: torch.Tensor,
    weights: torch.Tensor,
    padding: int,
    *,
    squared: bool = False,
) -> None:
    """Add ``weights (M, P)`` to a real half grid in place, by trilinear shares or by their squares."""
    flat = grid.view(-1)
    for chosen in _parts(len(rotations), len(points)):
        corners, shares, _ = _corners(grid.shape, rotations[chosen], points, padding)
        for corner, share in zip(corners, shares, strict=True):
            part = share * share if squared else share
            flat.index_add_(0, corner.reshape(-1), (part * weights[chosen]).reshape(-1))


def _parts(rotations: int, points: int) -> Iterator[slice]:
    step = max(1, _POINTS_AT_ONCE // max(1, points))
    return (slice(first, first + step) for first in range(0, rotations, step))


def _corners(
    shape: torch.Size, rotations: torch.Tensor, points: torch.Tensor, padding: int
) -> tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor]:
    """Flat indices and weights, each ``(m, P)``, of the eight corners around points; which are mirrored."""
    half, width, columns = shape[0] // 2, shape[1], shape[2]
    places = (points.to(rotations) @ rotations[:, :2]) * padding
    mirrored = places[..., 0] < 0
    x, y, z = torch.where(mirrored[..., None], -places, places).unbind(-1)
    y, z = y + half, z + half
    inside = (x < half + 1) & (y >= 0) & (y < 2 * half) & (z >= 0) & (z < 2 * half)
    x, y, z = (torch.where(inside, q, 0.0) for q in (x, y, z))
    i, j, k = (q.to(torch.int64) for q in (x, y, z))
    x, y, z = x - i, y - j, z - k
    first = (k * width + j) * columns + i
    corners, weights = [], []
    for dz in range(2):
        for dy in range(2):
            row = (z if dz else 1 - z) * (y if dy else 1 - y) * inside
            for dx in range(2):
                corners.append(first + (dz * width + dy) * columns + dx)
                weights.append(row * (x if dx else 1 - x))
    return corners, weights, mirrored
