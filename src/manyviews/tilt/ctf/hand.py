"""Which way defocus changes with depth, told by the images: one side of a tilted view is more out of focus.

Every view is cut into patches. Their power, divided by the mean of the view at each distance from zero
frequency, is compared with the squared CTF at the two values of defocus that the patch has with one hand and
with the other. What is common to all patches of a view (the specimen, the detector, the background) drops
out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray

from manyviews.geometry.view_depth import DepthPlane
from manyviews.geometry.views import TiltGeometry
from manyviews.operators.view_transfer import TransferGrid, ViewTransfer

Float64 = NDArray[np.float64]

# Standard errors beyond which the hand counts as told; patches overlap by half, which makes them too small.
TOLD = 4.0
_SMALLEST_PATCH, _LARGEST_PATCH = 32, 256
# Frequencies below so many cycles a patch are of its window and of slow changes.
_LEAST_CYCLES = 3
# Views whose defocus changes the phase at Nyquist by less than this from side to side say nothing.
_LEAST_PHASE = 0.2


@dataclass(frozen=True)
class HandTest:
    """What the images say of the hand.

    ``margin`` is the sum of evidence for +1 against -1 in units of its standard error; ``views`` took part.
    """

    margin: float
    views: int

    @property
    def hand(self) -> int | None:
        """1, -1, or None where it cannot be told."""
        return None if abs(self.margin) < TOLD else int(np.sign(self.margin))

    @property
    def words(self) -> str:
        """For the user."""
        if not self.views:
            return "hand cannot be told: defocus changes too little over the images"
        said = "cannot be told" if self.hand is None else f"{self.hand:+d}"
        return (
            f"hand {said} (rlnTomoHand): evidence for +1 is {self.margin:+.1f} standard errors, from "
            f"{self.views} views; {TOLD:g} are asked for"
        )


def find_hand(
    read: Callable[[NDArray[np.int64]], torch.Tensor],
    geometry: TiltGeometry,
    transfer: ViewTransfer,
    image_shape: tuple[int, int],
    pixel_size: float,
) -> HandTest:
    """Find the sign of the change of defocus with depth in images ``(k, y, x)`` that are not corrected."""
    side = _patch_side(transfer, image_shape, pixel_size)
    grid = TransferGrid.of((side, side), pixel_size, 0)
    finer = TransferGrid.of((2 * grid.padded[0], 2 * grid.padded[1]), pixel_size, 0)
    evidence: list[Float64] = []
    energy: list[Float64] = []
    for view in range(len(geometry)):
        depth = DepthPlane.of(geometry.matrices[view])
        corners, depths = _patches(depth, image_shape, side, pixel_size)
        if np.ptp(depths) < _LEAST_PHASE / np.pi * 4 * transfer.level_distance(pixel_size):
            continue
        image = read(np.array([view]))[0].cpu().numpy()
        excess = _excess(image, corners, grid)
        difference = _difference(depths, view, transfer, grid, finer)
        evidence.append(np.einsum("pk,pk->p", excess, difference))
        energy.append(np.einsum("pk,pk->p", difference, difference))
    if not evidence:
        return HandTest(0.0, 0)
    return HandTest(_margin(np.sum(evidence, axis=0), np.sum(energy, axis=0)), len(evidence))


def _margin(evidence: Float64, energy: Float64) -> float:
    """Sum of the evidence ``(place,)`` over its standard error.

    A place in the specimen may be odd in the same way in all views, so that places are the samples. The rings
    give evidence in proportion to the ``energy`` of the predicted difference; what is left is the error.
    """
    total = float(energy.sum())
    if total == 0.0:
        return 0.0
    left = evidence - evidence.sum() / total * energy
    spread = float(np.sqrt(np.sum(left**2) * len(left) / max(1, len(left) - 1)))
    return float(evidence.sum()) / spread if spread > 0.0 else 0.0


def _patch_side(transfer: ViewTransfer, image_shape: tuple[int, int], pixel_size: float) -> int:
    """Large enough for the rings at Nyquist, small enough for several beside each other."""
    wanted = min(_LARGEST_PATCH, max(_SMALLEST_PATCH, 4 * transfer.spread_pixels(pixel_size)))
    return max(8, min(wanted, *image_shape, max(image_shape) // 4))


def _patches(
    depth: DepthPlane, image_shape: tuple[int, int], side: int, pixel_size: float
) -> tuple[list[tuple[int, int]], Float64]:
    """First row and column of patches that overlap by half, and the depth in their middles."""
    plane = depth.on_pixels(image_shape, pixel_size)
    rows, columns = (
        np.unique(np.linspace(0, n - side, max(1, 2 * (n - side) // side + 1)).astype(int))
        for n in image_shape
    )
    corners = [(int(row), int(column)) for row in rows for column in columns]
    half = side // 2
    return corners, np.array([plane[row + half, column + half] for row, column in corners])


def _excess(image: NDArray[np.float32], corners: list[tuple[int, int]], grid: TransferGrid) -> Float64:
    """Power of every patch over the view's mean at that distance from zero, less the mean over all patches.

    ``(patch, frequency)``, of `_used` ones; every patch is brought to the same mean power before.
    """
    side = grid.image_shape[0]
    parts = np.stack([image[row : row + side, column : column + side] for row, column in corners])
    parts = (parts - parts.mean(axis=(1, 2), keepdims=True)) * _window(side)
    used = _used(grid)
    power = np.abs(scipy.fft.rfft2(parts.astype(np.float64), s=grid.padded)[:, used]) ** 2
    ring = np.round(_radius(grid)[used]).astype(np.int64)
    mean = np.bincount(ring, power.mean(axis=0)) / np.maximum(np.bincount(ring), 1)
    relative = power / np.maximum(mean[ring], 1e-12 * mean.max() + 1e-300)
    relative /= np.maximum(relative.mean(axis=1, keepdims=True), 1e-12)
    return np.asarray(relative - relative.mean(axis=0), dtype=np.float64)


def _difference(
    depths: Float64, view: int, transfer: ViewTransfer, grid: TransferGrid, finer: TransferGrid
) -> Float64:
    """What hand +1 predicts of the power of every patch, less what -1 does: ``(patch, frequency)``."""
    step = 0.5 * transfer.level_distance(grid.pixel_size)
    levels, which = np.unique(np.round(transfer.slope * depths / step), return_inverse=True)
    pairs = (_rings(view, sign * step * levels, transfer, grid, finer) for sign in (1, -1))
    grown, fallen = pairs
    return (grown - fallen)[which]


def _rings(
    view: int, change: Float64, transfer: ViewTransfer, grid: TransferGrid, finer: TransferGrid
) -> Float64:
    """Squared CTF ``(level, frequency)`` as a patch shows it: smoothed by what its window resolves."""
    side = grid.image_shape[0]
    window = np.zeros(finer.padded)
    window[:side, :side] = _window(side)
    overlap = scipy.fft.irfft2(np.abs(scipy.fft.rfft2(window)) ** 2, s=finer.padded) / np.sum(window**2)
    found = np.empty((len(change), int(_used(grid).sum())))
    for level in range(len(change)):
        squared = transfer.at_defocus(view, change[level : level + 1], finer)[0].numpy() ** 2
        lags = scipy.fft.irfft2(squared.astype(np.float64), s=finer.padded) * overlap
        smooth = scipy.fft.rfft2(lags).real[::2, ::2]
        found[level] = smooth[: grid.spectrum_shape[0], : grid.spectrum_shape[1]][_used(grid)]
    return found


def _window(side: int) -> Float64:
    taper = np.hanning(side + 2)[1:-1]
    return np.asarray(np.outer(taper, taper), dtype=np.float64)


def _radius(grid: TransferGrid) -> Float64:
    """Cycles a patch, ``(y, x // 2 + 1)``."""
    length = np.linalg.norm(grid.points, axis=1).reshape(grid.spectrum_shape)
    return np.asarray(length * grid.padded[0], dtype=np.float64)


def _used(grid: TransferGrid) -> NDArray[np.bool_]:
    radius = _radius(grid)
    return (radius >= _LEAST_CYCLES) & (radius <= 0.5 * grid.padded[0])
