"""How finely poses are searched, from everywhere down to neighbours: a tree of levels by frequency.

Two poses look the same up to the frequency whose wavelength is the way that the particle's edge moves between
them. So a coarse grid over everything needs low frequencies only, and each finer level, around the few poses
that are left, takes in more of them: branch and bound by frequency.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.geometry.poses import rotations_from_vectors

Float32 = NDArray[np.float32]

# Radians times Fourier pixels: the spacing of rotations at which a level's frequencies are read, and that at
# which the last level stops, for a particle that fills `_FILLED` of the box.
_COARSE = 1.4
_FINE = 0.9
_FILLED = 0.8
_COARSE_SHIFTS_PER_WAVE = 3.0
_FINE_SHIFTS_PER_WAVE = 8.0
_REACH_SIGMAS = 3.0


@dataclass(frozen=True)
class Level:
    """One level of the search.

    Frequencies are looked at up to ``radius``, Fourier pixels; neighbouring rotations are ``spacing`` radians
    apart, neighbouring shifts ``shift_step`` pixels.
    """

    radius: int
    spacing: float
    shift_step: float

    @property
    def rotation_count(self) -> int:
        """Rotations of an even grid with this spacing: the volume of SO(3), 8 pi^2, over that of a cell."""
        return math.ceil(8 * math.pi**2 / self.spacing**3)


def coarse_level(radius: int, box: int, filled: float) -> Level:
    """The level that looks everywhere, for a particle of ``filled`` times the side of the box."""
    spacing = _COARSE * _FILLED / (filled * radius)
    return Level(radius, spacing, max(1.0, box / radius / _COARSE_SHIFTS_PER_WAVE))


def finer_levels(coarse: Level, radius: int, box: int, filled: float) -> list[Level]:
    """The levels below ``coarse`` down to the one that suits ``radius``: each halves the steps."""
    scale = _FILLED / filled
    least_step = box / radius / _FINE_SHIFTS_PER_WAVE
    levels = []
    spacing, step = coarse.spacing, coarse.shift_step
    while True:
        spacing, step = spacing / 2, max(step / 2, least_step)
        last = spacing * radius <= _FINE * scale
        seen = radius if last else min(radius, round(_COARSE * scale / spacing))
        levels.append(Level(max(seen, coarse.radius), spacing, step))
        if last:
            return levels


def rotations_within(spacing: float) -> Float32:
    """``(8, 3, 3)`` rotations that divide a cell of the level above, whose spacing is twice as wide."""
    half = 0.5 * spacing
    corners = np.array([[a, b, c] for a in (-half, half) for b in (-half, half) for c in (-half, half)])
    return np.ascontiguousarray(rotations_from_vectors(corners), dtype=np.float32)


def shift_offsets_within(step: float) -> Float32:
    """``(9, 2)`` shifts around a given one."""
    along = np.array([-step, 0.0, step])
    return np.array([[x, y] for y in along for x in along], dtype=np.float32)


def shifts_everywhere(step: float, sigma: float) -> Float32:
    """``(T, 2)`` a square grid of shifts, in pixels, out to three standard deviations of their prior."""
    reach = _REACH_SIGMAS * sigma
    count = math.floor(reach / step)
    along = np.arange(-count, count + 1) * step
    y, x = np.meshgrid(along, along, indexing="ij")
    grid = np.stack([x.ravel(), y.ravel()], axis=1)
    return np.asarray(grid[np.sum(grid**2, axis=1) <= reach**2 + 1e-6], dtype=np.float32)
