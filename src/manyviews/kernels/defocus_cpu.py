"""Filters by a contrast transfer, and shares of pixels that lie between two levels of defocus, on the CPU.

One thread each: images of other views are filtered beside.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from manyviews.kernels.inner import inner

__all__ = ["SIGN", "TRANSFER", "WIENER", "add_product", "add_share", "fill_transfer"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

TRANSFER, SIGN, WIENER = 0, 1, 2
_FAST = {"contract", "reassoc", "nsz", "arcp"}
# Taylor's series of the sine from x on, good to 7e-10 up to a quarter of a turn.
_SINE = tuple((-1.0) ** n / math.factorial(2 * n + 1) for n in range(7))


@inner(fastmath=_FAST, nogil=True)
def _fill_row(sy, sx, phase, row):  # type: ignore[no-untyped-def]
    """Minus the sine of the phase, in float64 but for the result: phases are hundreds of turns."""
    for column in range(len(sx)):
        x = sx[column]
        squared = sy * sy + x * x
        angle = phase[0] + phase[1] * squared + phase[2] * (x * x - sy * sy)
        angle += phase[3] * 2.0 * x * sy + phase[4] * squared * squared
        turns = angle * (0.5 / math.pi)
        turns -= np.rint(turns)
        folded = min(abs(turns), 0.5 - abs(turns)) * (2.0 * math.pi)
        power = folded * folded
        sine = _SINE[6]
        for factor in (_SINE[5], _SINE[4], _SINE[3], _SINE[2], _SINE[1], _SINE[0]):
            sine = sine * power + factor
        row[column] = -math.copysign(sine * folded, turns)


@inner(fastmath=_FAST, nogil=True)
def _fade_row(sy, sx, envelope, steps, row):  # type: ignore[no-untyped-def]
    for column in range(len(sx)):
        place = math.sqrt(sy * sy + sx[column] * sx[column]) * steps
        below = min(int(place), len(envelope) - 2)
        row[column] *= envelope[below] + (place - below) * (envelope[below + 1] - envelope[below])


@njit(nogil=True, cache=True)
def _fill(sy, sx, phase, envelope, steps, kind, constant, out):  # type: ignore[no-untyped-def]
    for y in range(len(sy)):
        row = out[y]
        _fill_row(sy[y], sx, phase, row)
        if len(envelope):
            _fade_row(sy[y], sx, envelope, steps, row)
        if kind == SIGN:
            for x in range(len(row)):
                row[x] = -1.0 if row[x] < 0.0 else 1.0
        elif kind == WIENER:
            for x in range(len(row)):
                row[x] /= row[x] * row[x] + constant


def fill_transfer(
    frequencies: tuple[Float64, Float64],
    phase: Float64,
    envelope: Float64,
    steps: float,
    out: Float32,
    kind: int = TRANSFER,
    constant: float = 0.0,
) -> None:
    """Contrast transfer on a grid of frequencies, or what is made of it.

    Parameters
    ----------
    frequencies
        ``(y,)`` and ``(x,)`` in 1/angstrom.
    phase
        ``(5,)`` of `manyviews.operators.contrast_transfer.phase_coefficients`.
    envelope, steps
        A factor by frequency, ``(n,)``, with so many entries for each 1/angstrom from 0; empty: 1.
    out
        ``(y, x)``: minus the sine of the phase times the envelope, T.
    kind, constant
        `TRANSFER`: T itself; `SIGN`: its sign, 1 for 0; `WIENER`: ``T / (T^2 + constant)``.
    """
    _fill(*frequencies, phase, envelope, steps, kind, constant, out)


@njit(fastmath=_FAST, nogil=True, cache=True)
def add_share(total: Any, plane: Any, place: float, image: Any) -> None:
    """Add ``max(0, 1 - |plane + place|) image`` to ``total``, all ``(y, x)`` and contiguous."""
    offset = np.float32(place)
    for y in range(total.shape[0]):
        for x in range(total.shape[1]):
            share = np.float32(1.0) - abs(plane[y, x] + offset)
            if share > 0.0:
                total[y, x] += share * image[y, x]


@njit(fastmath=_FAST, nogil=True, cache=True)
def add_product(total: Any, spectrum: Any, values: Any) -> None:
    """Add ``values spectrum`` to ``total``, complex both, ``(y, x)``."""
    for y in range(total.shape[0]):
        for x in range(total.shape[1]):
            total[y, x] += spectrum[y, x] * values[y, x]
