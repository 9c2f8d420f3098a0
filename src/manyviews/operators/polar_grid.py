"""Transforms of slices at points on lines through the origin: what a projection needs of a slice.

A non-uniform fast Fourier transform: the slice is divided by the transform of a short window, transformed on
a grid somewhat finer than its frequencies, and read at each point by as many taps as the window has.

Window: Kaiser-Bessel, with the shape of Beatty, Nishimura & Pauly 2005, IEEE Trans. Med. Imaging 24:799,
eq. 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.special import i0

Array = NDArray[Any]
OVERSAMPLING = 1.25
# Taps along an axis, and the relative error of white noise in L2 that they leave, rounded up. Each number of
# taps is a kernel of its own to compile, so there are few.
ERRORS = {4: 7.2e-3, 6: 4.5e-4, 8: 2.5e-5}


def taps_for(epsilon: float) -> int:
    """The fewest taps with a relative error of at most ``epsilon``; the most, if none has."""
    return next((taps for taps, error in ERRORS.items() if error <= epsilon), max(ERRORS))


def even_fast_length(least: float) -> int:
    """The smallest even number, not below ``least``, without a prime factor above 5."""
    return 2 * int(scipy.fft.next_fast_len(max(1, math.ceil(least / 2)), real=True))


@dataclass(frozen=True)
class PolarGrid:
    """Where frequencies of a slice lie on the oversampled grid, and with which weights they are read.

    Points are ``j / line (cos theta, sin theta)`` cycles per pixel, for every angle, with j in the order of a
    discrete transform of ``line`` numbers; j = -line / 2, which has no counterpart, is left out: it reads
    zero.

    Attributes
    ----------
    theta_degrees
        ``(views,)``.
    size
        Pixels along a side of a slice, whose origin is ``size // 2``.
    line
        Points on a line, even.
    taps
        Of the window, along an axis.
    """

    theta_degrees: NDArray[np.float64]
    size: int
    line: int
    taps: int

    @cached_property
    def grid(self) -> int:
        """Points along a side of the oversampled grid."""
        return even_fast_length(max(OVERSAMPLING * self.size, self.taps))

    @property
    def margin(self) -> int:
        """Points that are copied to each side of the grid."""
        return (self.taps + 1) // 2

    @property
    def side(self) -> int:
        """Points along a side with the margins."""
        return self.grid + 2 * self.margin

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """Where pixels of a row lie on the cyclic grid, counted with the margin: ``(size,)``."""
        return (np.arange(self.size) - self.size // 2) % self.grid + self.margin

    @cached_property
    def factors(self) -> NDArray[np.float64]:
        """What pixels of a row are multiplied by: ``(size,)``.

        One over the transform of the window, with alternating signs: these put frequency zero in the middle.
        """
        position = np.arange(self.size) - self.size // 2
        signs = 1.0 - 2.0 * (position % 2)
        return signs / _window_transform(position / self.grid, self.taps, self._shape)

    def points(self, views: slice) -> tuple[NDArray[np.int64], Array, Array]:
        """First tap in the flat grid of sixteen lanes, and weights across and down, of all points of views.

        ``(P,)`` and twice ``(P, taps)``, float64, with P = views x line.
        """
        theta = np.deg2rad(self.theta_degrees[views])
        number = scipy.fft.fftfreq(self.line, 1.0 / self.line)
        frequency = np.where(number == -self.line // 2, 0.0, number) * (self.grid / self.line)
        x, across = self._taps(np.cos(theta)[:, None] * frequency)
        y, down = self._taps(np.sin(theta)[:, None] * frequency)
        down[:, number == -self.line // 2] = 0.0
        first = (y * self.side + x) * 16
        return first.reshape(-1), across.reshape(-1, self.taps), down.reshape(-1, self.taps)

    def _taps(self, frequency: Array) -> tuple[NDArray[np.int64], Array]:
        start = np.ceil(frequency - 0.5 * self.taps)
        distance = start[..., None] + np.arange(self.taps) - frequency[..., None]
        weights = _window(distance, self.taps, self._shape)
        return start.astype(np.int64) + self.grid // 2 + self.margin, weights

    @property
    def _shape(self) -> float:
        return _window_shape(self.taps, self.grid / self.size)


def _window_shape(taps: int, oversampling: float) -> float:
    return math.pi * math.sqrt((taps / oversampling * (oversampling - 0.5)) ** 2 - 0.8)


def _window(distance: Array, taps: int, shape: float) -> Array:
    """Zero at the ends and beyond: a tap there would have no counterpart on the other side."""
    inside = 1.0 - (2.0 * distance / taps) ** 2 - 1e-9  # angles are rounded
    return np.where(inside > 0.0, i0(shape * np.sqrt(np.maximum(inside, 0.0))), 0.0)


def _window_transform(frequency: Array, taps: int, shape: float) -> Array:
    root = np.sqrt(shape**2 - (math.pi * taps * frequency) ** 2 + 0j)
    return np.real(taps * np.sinh(root) / root)
