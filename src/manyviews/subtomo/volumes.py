"""Subtomograms as the fits see them: whitened Fourier coefficients, and what was measured of each.

A subtomogram is ``y(k) = a c(k) G(A^T k) exp(2 pi i k . t / box) + noise``; c is the transfer: zero where the
wedge is missing, the CTF where it is known. Both y and c are divided by the noise's standard deviation in
their shell, so that the noise of a coefficient is 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyviews.operators.fourier_points import extract_solid, half_ball, shells, take_solid

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

_EDGE = 3.0  # voxels over which the background's mask rises, so that its transform is narrow
_LEAST_BACKGROUND = 0.02  # of the box
_MEASURED = 1e-3  # of the largest transfer: less than that was not measured


@dataclass(frozen=True)
class FourierSubtomograms:
    """N subtomograms at P frequencies up to ``radius``, in cycles per box.

    Attributes
    ----------
    points
        ``(P, 3)`` int32 frequencies, see `manyviews.operators.fourier_points.half_ball`.
    values
        ``(N, P)`` complex64, whitened.
    transfers
        ``(W, P)`` float32, whitened: several subtomograms may share one.
    transfer_index
        ``(N,)`` which of them is a subtomogram's.
    box, pixel_size
        Voxels along a side, and their size in angstrom.
    """

    points: NDArray[np.int32]
    values: Complex64
    transfers: Float32
    transfer_index: Int64
    box: int
    pixel_size: float

    def __len__(self) -> int:
        return len(self.values)

    @property
    def radius(self) -> int:
        """The highest shell."""
        return int(shells(self.points[-1:])[0])

    def crop(self, radius: float) -> FourierSubtomograms:
        """The same up to a smaller radius; the arrays are shared."""
        count = int(
            np.searchsorted(np.sum(self.points.astype(np.int64) ** 2, axis=1), radius**2, side="right")
        )
        return replace(
            self,
            points=self.points[:count],
            values=self.values[:, :count],
            transfers=self.transfers[:, :count],
        )

    def select(self, chosen: ArrayLike) -> FourierSubtomograms:
        """Some of them, in another order; their coefficients are copied."""
        own = np.asarray(chosen)
        return replace(self, values=self.values[own], transfer_index=self.transfer_index[own])


def background_mask(box: int, diameter: float) -> Float32:
    """``(box, box, box)``: 1 outside a sphere of ``diameter`` voxels, 0 inside, soft between.

    A particle that fills the box leaves the corners.
    """
    along = (np.arange(box) - box // 2).astype(np.float32) ** 2
    distance = np.sqrt(along[:, None, None] + along[:, None] + along)
    radius = diameter / 2
    mask = np.clip((distance - radius) / _EDGE, 0, 1)
    while mask.mean() < _LEAST_BACKGROUND:
        radius -= 1
        mask = np.clip((distance - radius) / _EDGE, 0, 1)
    return np.asarray(mask, dtype=np.float32)


def fourier_subtomograms(
    volumes: ArrayLike,
    transfers: ArrayLike,
    transfer_index: ArrayLike,
    *,
    pixel_size: float,
    radius: float,
    diameter: float,
) -> FourierSubtomograms:
    """Make `FourierSubtomograms` of volumes in memory.

    Parameters
    ----------
    volumes
        ``(N, box, box, box)``.
    transfers, transfer_index
        ``(W, box, box, box // 2 + 1)`` in the layout of ``rfftn``, and ``(N,)`` which one is whose.
    pixel_size
        Angstrom.
    radius
        Highest frequency, in cycles per box.
    diameter
        Of the particle in angstrom: what is outside is background, and its spectrum that of the noise.
    """
    whole = np.asarray(transfers, dtype=np.float32)
    maker = SubtomogramMaker.of(iter(whole), whole.shape[1], pixel_size, radius, diameter)
    index = np.asarray(transfer_index, dtype=np.int64)
    made = [
        maker.coefficients(np.asarray(volume, np.float32), int(own))
        for volume, own in zip(np.asarray(volumes), index, strict=True)
    ]
    values = np.stack([one for one, _ in made]) if made else np.zeros((0, len(maker.points)), np.complex64)
    power = sum((power for _, power in made), start=np.zeros((2, maker.shells)))
    return maker.whitened(values, index, power)


@dataclass(frozen=True)
class SubtomogramMaker:
    """Turns volumes into coefficients one by one, and their noise into weights when all were seen."""

    points: NDArray[np.int32]
    transfers: Float32
    mask: Float32
    box: int
    pixel_size: float

    @classmethod
    def of(
        cls, transfers: Iterable[Float32], box: int, pixel_size: float, radius: float, diameter: float
    ) -> SubtomogramMaker:
        """Transfers one after another, the side of the box, and the rest as of `fourier_subtomograms`."""
        points = half_ball(radius, box)
        # a process without particles has no transfers
        rows = [take_solid(one, points) for one in transfers]
        taken = np.array(rows, dtype=np.float32).reshape(len(rows), len(points))
        return cls(points, taken, background_mask(box, diameter / pixel_size), box, pixel_size)

    @property
    def shells(self) -> int:
        """How many there are, zero frequency included."""
        return int(shells(self.points[-1:])[0]) + 1

    def coefficients(self, volume: Float32, transfer: int) -> tuple[Complex64, NDArray[np.float64]]:
        """Of one volume with background mean 0 and spread 1: coefficients, and the background's power.

        The power is ``(2, shells)``: sums over what was measured, and how many frequencies that is.
        """
        mean = float((volume * self.mask).sum() / self.mask.sum())
        level = volume - np.float32(mean)
        background = level * self.mask
        square = float(np.sum(self.mask.astype(np.float64) ** 2))
        spread = np.sqrt(float(np.sum(background.astype(np.float64) ** 2)) / square)
        values = extract_solid(level, self.points) / np.float32(spread)
        noise = np.abs(extract_solid(background, self.points) / np.float32(spread)) ** 2
        noise = noise * (self.box**3 / square)
        one = self.transfers[transfer]
        measured = np.abs(one) > _MEASURED * np.abs(one).max()
        shell = shells(self.points)[measured]
        sums = np.bincount(shell, noise[measured], self.shells), np.bincount(shell, minlength=self.shells)
        return values.astype(np.complex64), np.stack(sums)

    def whitened(
        self, values: Complex64, transfer_index: Int64, power: NDArray[np.float64]
    ) -> FourierSubtomograms:
        """All subtomograms over their noise, of which ``power`` is the sum over `coefficients` of all."""
        inverse = (1 / np.sqrt(noise_variance(power, self.box)))[shells(self.points)].astype(np.float32)
        values *= inverse
        # outside of what was measured there is nothing to fit
        transfers = self.transfers * inverse
        return FourierSubtomograms(self.points, values, transfers, transfer_index, self.box, self.pixel_size)


def noise_variance(power: NDArray[np.float64], box: int) -> NDArray[np.float64]:
    """``(shells,)`` variance of a coefficient: mean power, smoothed over three shells.

    Shells 0 and 1, which subtracting the mean has emptied, are as shell 2.
    """
    mean: NDArray[Any] = power[0] / np.maximum(power[1], 1)
    if len(mean) > 3:
        mean[:2] = mean[2]
        padded = np.pad(mean, 1, mode="edge")
        mean = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    return np.asarray(np.maximum(mean, 1e-6 * box**3), dtype=np.float64)


def subtomogram_bytes(count: int, radius: float) -> int:
    """Memory of the coefficients of ``count`` subtomograms up to a radius in cycles per box."""
    return math.ceil(count * 2 / 3 * math.pi * radius**3 * 8)
