"""Images with unknown poses: their log probability, summed over all poses, and its gradient; exhaustive.

Equation (4) of Punjani, Brubaker & Fleet 2017 (IEEE TPAMI 39:706). All points of the lattice are scored as
matrix products, a tile of poses at a time; a second pair of products turns their posterior weights into the
slope of every slice, and the slopes are added up in the grid of the volume's transform.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.operators.fourier_slice import FourierVolume
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.sagd.lattice import PoseLattice
from manyviews.particles.sagd.likelihood import ImageTerms, as_real_rows

TILE_BYTES = 2**21  # scores of a tile, so that the passes over them stay in the cache
LEAST_TILE = 32
LEAST_EXPONENT = -80.0


@dataclass(frozen=True)
class Marginal:
    """What a batch of images says about a volume.

    ``log_probability (N,)``, float64, is ``log p`` of each image, up to the constant of its noise; ``gradient
    (d, d, d)`` that of their sum with respect to the volume, or None where it was not asked for. ``direction
    (N, D)``, ``in_plane (N, K)`` and ``shift (N, L)``, float32, are posterior probabilities of the lattice's
    points.
    """

    log_probability: NDArray[np.float64]
    gradient: torch.Tensor | None
    direction: NDArray[np.float32]
    in_plane: NDArray[np.float32]
    shift: NDArray[np.float32]


@dataclass(frozen=True)
class _Views:
    """A volume, what slices are read of it, and the grid for their slopes where a gradient is wanted."""

    volume: FourierVolume
    poses: NDArray[np.float32]
    points: NDArray[np.int32]
    slope: FourierVolume | None

    @classmethod
    def of(cls, volume: FourierVolume, images: FourierImages, lattice: PoseLattice, gradient: bool) -> _Views:
        """All rotations of the lattice."""
        directions, in_plane, _ = lattice.shape
        poses = lattice.rotations(np.arange(directions), np.arange(in_plane))
        return cls(volume, poses, images.points, volume.empty() if gradient else None)


@dataclass(frozen=True)
class _Tile:
    """Weights of some poses, all relative to ``exp(offset)`` of their image.

    ``weights (n, L, T)`` are only kept for the gradient; ``by_pose (n, T)``, ``by_shift (n, L)`` are sums.
    """

    first: int
    slices: torch.Tensor
    offset: torch.Tensor
    by_pose: torch.Tensor
    by_shift: torch.Tensor
    weights: torch.Tensor | None


def marginal(
    images: FourierImages,
    volume: torch.Tensor,
    lattice: PoseLattice,
    *,
    gradient: bool = True,
    padding: int = 2,
    memory_bytes: int = 2**29,
) -> Marginal:
    """Log probability of each image of a batch, summed over every point of a lattice.

    Parameters
    ----------
    images
        Cropped to the radius wanted.
    volume
        ``(d, d, d)`` float32, or float64 with complex128 images; its transform is oversampled by ``padding``.
    gradient
        Whether to find the gradient too, which costs about as much again.
    memory_bytes
        For the scores kept until their sum is known: images are taken in blocks that fit, at least one.
    """
    views = _Views.of(FourierVolume.of(volume, images.radius, padding), images, lattice, gradient)
    terms = ImageTerms.of(images)
    phases = torch.from_numpy(lattice.phases(np.arange(lattice.shape[2]), images.points, images.box))
    element = terms.power.element_size()
    block = max(1, int(memory_bytes // (lattice.size * element))) if gradient else len(images)
    parts = [
        _block(terms, phases, slice(first, min(first + block, len(images))), views, lattice)
        for first in range(0, len(images), block)
    ]
    joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
    slope = None if views.slope is None else views.slope.gradient()
    return Marginal(joined[0] - terms.energy, slope, *joined[1:])


def _block(
    terms: ImageTerms,
    phases: torch.Tensor,
    chosen: slice,
    views: _Views,
    lattice: PoseLattice,
) -> tuple[NDArray[Any], ...]:
    """Log probability (less the energy) and the posteriors of some images; adds to the slope of the views."""
    power = terms.power[chosen]
    rows = as_real_rows((terms.matched[chosen, None] * phases.conj()).reshape(-1, phases.shape[1]))
    log_pose = torch.from_numpy(
        (lattice.log_direction[:, None] + lattice.log_in_plane).reshape(-1).astype(rows.numpy().dtype)
    )
    log_shift = torch.from_numpy(lattice.log_shift.astype(rows.numpy().dtype))
    tiles = list(_scored(rows, power, log_pose, log_shift, views))
    offset = torch.stack([tile.offset for tile in tiles]).amax(0)
    total = sum(
        (tile.offset - offset).double().exp() * tile.by_pose.sum(1, dtype=torch.float64) for tile in tiles
    )
    assert isinstance(total, torch.Tensor)
    log_sum = offset.double() + total.log()
    scales = [(tile.offset - log_sum).exp().to(power.dtype) for tile in tiles]
    by_pose = torch.cat(
        [tile.by_pose * scale[:, None] for tile, scale in zip(tiles, scales, strict=True)], dim=1
    ).reshape(len(power), *lattice.shape[:2])
    by_shift = torch.zeros(len(power), lattice.shape[2], dtype=power.dtype)
    for tile, scale in zip(tiles, scales, strict=True):
        by_shift += tile.by_shift * scale[:, None]
        if views.slope is not None:
            _add_slopes(tile, scale, rows, power, views, views.slope)
    found = (log_sum, by_pose.sum(2), by_pose.sum(1), by_shift)
    return tuple(tensor.numpy() for tensor in found)


def _scored(
    rows: torch.Tensor,
    power: torch.Tensor,
    log_pose: torch.Tensor,
    log_shift: torch.Tensor,
    views: _Views,
) -> Iterator[_Tile]:
    """All poses against all shifted images, some poses at a time."""
    count, shifts = len(power), len(log_shift)
    width = max(LEAST_TILE, TILE_BYTES // (len(rows) * rows.element_size()))
    for first in range(0, len(views.poses), width):
        slices = views.volume.slices(views.poses[first : first + width], views.points)
        weights, offset = pose_weights(rows, power, slices, log_pose[first : first + width], log_shift)
        yield _Tile(
            first,
            slices,
            offset,
            weights.sum(1),
            weights.sum(2),
            None if views.slope is None else weights.reshape(count, shifts, -1),
        )


def pose_weights(
    rows: torch.Tensor,
    power: torch.Tensor,
    slices: torch.Tensor,
    log_pose: torch.Tensor,
    log_shift: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What images weigh at shifts and poses, the constant of an image left out.

    ``rows (n * L, 2P)`` are shifted ``2 w C Y`` as real numbers, ``power (n, P)`` is ``w C^2``, ``slices (T,
    P)`` are complex; ``log_pose (T,)`` and ``log_shift (L,)`` are logarithms of the weights of poses and of
    shifts.

    Returns
    -------
    ``exp(log p - offset) (n, L, T)``, and the offsets ``(n,)``, which are the largest ``log p``.
    """
    columns = as_real_rows(slices)
    scores = (rows @ columns.T).reshape(len(power), len(log_shift), len(columns))
    squares = slices.real.square().add_(slices.imag.square())
    norms = (power @ squares.T).sub_(log_pose)
    scores.sub_(norms[:, None, :]).add_(log_shift[None, :, None])
    offset = scores.amax((1, 2))
    # Below it lie the denormal numbers, which the processor is slow at, and nothing that adds up to anything.
    return scores.sub_(offset[:, None, None]).clamp_(min=LEAST_EXPONENT).exp_(), offset


def _add_slopes(
    tile: _Tile,
    scale: torch.Tensor,
    rows: torch.Tensor,
    power: torch.Tensor,
    views: _Views,
    slope: FourierVolume,
) -> None:
    """Slope of ``sum_i log p_i`` with respect to the slices of a tile, but for poses that nobody takes."""
    assert tile.weights is not None
    posterior = tile.by_pose * scale[:, None]
    # What falls below the rounding of a weight of 1 cannot be seen in the sums either.
    kept = torch.nonzero(posterior.amax(0) > torch.finfo(power.dtype).eps / 8)[:, 0]
    if not len(kept):
        return
    if 2 * len(kept) > posterior.shape[1]:  # picking would cost more than it saves
        kept = torch.arange(posterior.shape[1])
        weights = tile.weights
    else:
        weights = tile.weights[:, :, kept]
    slopes = slice_slopes(
        weights.mul_(scale[:, None, None]), posterior[:, kept], rows, power, tile.slices[kept]
    )
    slope.add(views.poses[tile.first + kept.numpy()], views.points, slopes)


def slice_slopes(
    weights: torch.Tensor,
    posterior: torch.Tensor,
    rows: torch.Tensor,
    power: torch.Tensor,
    slices: torch.Tensor,
) -> torch.Tensor:
    """Slopes ``(T, P)`` of ``sum_i log p_i`` with respect to slices; the rest is as in `pose_weights`.

    ``weights (n, L, T)`` are posterior weights of images, shifts and poses, ``posterior (n, T)`` their sums
    over the shifts.
    """
    pulled = weights.reshape(-1, weights.shape[2]).T @ rows
    held = (posterior.T @ power).mul_(2.0)
    return torch.view_as_complex(pulled.reshape(len(slices), -1, 2)).sub_(held * slices)


def relative_error(estimate: NDArray[np.float64], exact: NDArray[np.float64]) -> float:
    """Mean of ``|estimate - exact| / |exact|`` over images: the error of the paper's Fig. 8."""
    return math.fsum(np.abs(estimate - exact) / np.abs(exact)) / len(exact)
