"""At which frequencies of a map turned particles were measured."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["count_measured"]


@njit(nogil=True, cache=True)
def count_measured(measured, rotations, first, counts):  # type: ignore[no-untyped-def]
    """Add to ``counts (z, y, x)`` how many particles measured each frequency, in slices from ``first`` on.

    ``measured (box, box, box // 2 + 1)`` is of all the particles, by frequency in the order of FFTs, of whose
    pairs one is there; the frequency k of the map is ``rotations[i] k`` of particle i ``(N, 3, 3)``,
    ``(x, y, z)``, of which the nearest is looked up; none beyond the grid was measured.
    """
    box, half = measured.shape[0], measured.shape[0] // 2
    for slice_number in range(counts.shape[0]):
        kz = first + slice_number
        kz = kz - box if kz >= (box + 1) // 2 else kz
        for row in range(counts.shape[1]):
            ky = row - box if row >= (box + 1) // 2 else row
            for kx in range(counts.shape[2]):
                found = 0
                for i in range(rotations.shape[0]):
                    turn = rotations[i]
                    x = np.rint(turn[0, 0] * kx + turn[0, 1] * ky + turn[0, 2] * kz)
                    y = np.rint(turn[1, 0] * kx + turn[1, 1] * ky + turn[1, 2] * kz)
                    z = np.rint(turn[2, 0] * kx + turn[2, 1] * ky + turn[2, 2] * kz)
                    if x < 0:
                        x, y, z = -x, -y, -z
                    if x < half and -half < y < half and -half < z < half:
                        found += measured[int(z) % box, int(y) % box, int(x)]
                counts[slice_number, row, kx] += found
