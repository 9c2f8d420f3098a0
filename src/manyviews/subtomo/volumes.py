"""Subtomograms as the fits see them: whitened Fourier coefficients, and what was measured of each.

A subtomogram is ``y(k) = a c(k) G(A^T k) exp(2 pi i k . t / box) + noise``; c is the transfer: zero where the
wedge is missing, the CTF where it is known. Both y and c are divided by the noise's standard deviation at
their frequency, so that the noise of a coefficient is 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyviews.operators.fourier_points import extract_solid, half_ball, shells, take_solid
from manyviews.subtomo.wedge.transfer import is_measured

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

_EDGE = 3.0  # voxels over which the background's mask rises, so that its transform is narrow
_LEAST_BACKGROUND = 0.02  # of the box
_LEAST_SQUARED = 4  # of a frequency: noise is taken from here on
# voxels that noise is blurred over for so many particles, and the least and most
_BLUR, _ENOUGH, _BLURS = 1.0, 50.0, (0.6, 2.5)


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
    power = sum((power for _, power in made), start=np.zeros((2, len(maker.points))))
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

    def coefficients(self, volume: Float32, transfer: int) -> tuple[Complex64, NDArray[np.float64]]:
        """Of one volume with background mean 0 and spread 1: coefficients, and the background's power.

        The power is ``(2, P)``: that of each frequency, 0 where nothing was measured, and whether it was.
        """
        mean = float((volume * self.mask).sum() / self.mask.sum())
        level = volume - np.float32(mean)
        background = level * self.mask
        square = float(np.sum(self.mask.astype(np.float64) ** 2))
        spread = np.sqrt(float(np.sum(background.astype(np.float64) ** 2)) / square)
        values = extract_solid(level, self.points) / np.float32(spread)
        noise = np.abs(extract_solid(background, self.points) / np.float32(spread)) ** 2
        noise = noise * (self.box**3 / square)
        measured = is_measured(self.transfers[transfer])
        return values.astype(np.complex64), np.stack([noise * measured, measured])

    def whitened(
        self, values: Complex64, transfer_index: Int64, power: NDArray[np.float64]
    ) -> FourierSubtomograms:
        """All subtomograms over their noise, of which ``power`` is the sum over `coefficients` of all."""
        inverse = (1 / np.sqrt(noise_variance(power, self.points, self.box))).astype(np.float32)
        values *= inverse
        # outside of what was measured there is nothing to fit
        transfers = self.transfers * inverse
        return FourierSubtomograms(self.points, values, transfers, transfer_index, self.box, self.pixel_size)


def noise_variance(power: NDArray[np.float64], points: NDArray[np.int32], box: int) -> NDArray[np.float64]:
    """``(P,)`` variance of the noise of each coefficient.

    The mean power of the backgrounds, from sums ``power (2, P)`` as of `SubtomogramMaker.coefficients`,
    blurred over neighbouring frequencies, the more the fewer particles there are. It is not the same all over
    a shell: weighted back-projection makes noise grow with the distance from the tilt axis, where views
    overlap. The lowest frequencies, which subtracting the mean has emptied, are as those around them.
    """
    from scipy import ndimage

    sums, counts = power
    usable = np.sum(points.astype(np.int64) ** 2, axis=1) >= _LEAST_SQUARED
    reach = int(np.abs(points).max())
    lattice = np.zeros((2, *(2 * reach + 1,) * 3), dtype=np.float64)
    for sign in (1, -1):
        x, y, z = (reach + sign * points.astype(np.int64)).T
        lattice[:, z, y, x] = np.where(usable, power, 0.0)
    width = float(np.clip(_BLUR * (_ENOUGH / max(1.0, counts.max(initial=0.0))) ** (1 / 3), *_BLURS))
    blurred = [ndimage.gaussian_filter(part, width, mode="constant", truncate=3.0) for part in lattice]
    x, y, z = (reach + points.astype(np.int64)).T
    total, weight = (part[z, y, x] for part in blurred)
    mean = sums.sum() / max(1.0, counts.sum())
    # far from all that was measured there is nothing to divide
    found = (total + 1e-3 * mean) / (weight + 1e-3)
    return np.asarray(np.maximum(found, 1e-6 * box**3), dtype=np.float64)


def subtomogram_bytes(count: int, radius: float) -> int:
    """Memory of the coefficients of ``count`` subtomograms up to a radius in cycles per box."""
    return math.ceil(count * 2 / 3 * math.pi * radius**3 * 8)
