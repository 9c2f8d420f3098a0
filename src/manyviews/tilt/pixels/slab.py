"""Where in a volume the slab of specimen lies: thickness, height of its middle, and how it is tilted.

What tells the slab from the empty space above and below is fine detail: the missing wedge smears what varies
slowly along the beam far beyond the slab, and detail hardly. So the power of every slice is that of what
varies faster than a few voxels, less the floor of noise far from the slab.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_DETAIL = 4.0  # voxels: what varies slower does not count
_EDGE = 0.1  # of the power within the slab, where it ends
_SOONER, _LATER = 0.05, 0.2  # the same for how sure that is
_BORDER = 1 / 16  # of a side, which does not count
_LEAST_CONTRAST = 2.0  # power within over the floor
_STANDARD_ERRORS = 4.0  # of a slope that is believed
_BLOCKS = 4  # a side, whose heights tell of a tilt


@dataclass(frozen=True)
class Slab:
    """A slab of specimen, in voxels; heights are from slice ``n // 2``.

    Attributes
    ----------
    thickness, least, most
        As found, and with faces where the power is 20 or 5 % of that within, not 10 %.
    height
        Of its middle.
    slope_x, slope_y
        Rise of the middle a voxel along x and y; 0 where blocks of the slab do not agree on it.
    """

    thickness: float
    least: float
    most: float
    height: float
    slope_x: float
    slope_y: float

    @property
    def tilt_degrees(self) -> float:
        """How far the slab's normal leans from the beam at zero tilt."""
        return float(np.rad2deg(np.arctan(np.hypot(self.slope_x, self.slope_y))))


def find_slab(volume: Float32) -> Slab | None:
    """The slab in a volume ``(z, y, x)`` that is thicker; None where it is not seen, or reaches the ends."""
    power = detail_power(volume)
    whole = power.mean(axis=(1, 2))
    floor = float(np.percentile(whole, 5))
    extents = [_extent(whole - floor, level) for level in (_EDGE, _LATER, _SOONER)]
    if extents[0] is None or extents[1] is None:
        return None
    low, high = extents[0]
    within = float(np.median(whole[int(np.ceil(low)) : int(high) + 1])) if high - low >= 1 else 0.0
    if not within > _LEAST_CONTRAST * floor:
        return None
    least = extents[1][1] - extents[1][0]
    most = max(high - low, extents[2][1] - extents[2][0]) if extents[2] else float(len(whole))
    slopes = _slopes(power, floor, low, high)
    return Slab(high - low, min(least, high - low), most, 0.5 * (low + high) - len(whole) // 2, *slopes)


def detail_power(volume: Float32) -> Float64:
    """Square of what varies fast within slices, ``(z, y, x)``, without the borders of these."""
    slow = scipy.ndimage.gaussian_filter(volume, (0.0, _DETAIL, _DETAIL), mode="nearest")
    rows, columns = (max(1, round(_BORDER * side)) for side in volume.shape[1:])
    found: Float64 = np.square((volume - slow)[:, rows:-rows, columns:-columns].astype(np.float64))
    return found


def extent(profile: Float64, level: float = _EDGE) -> tuple[float, float] | None:
    """First and last place where a profile ``(z,)`` above its floor is at ``level`` of what it is within."""
    return _extent(profile, level)


def _extent(profile: Float64, level: float) -> tuple[float, float] | None:
    top = float(profile.max())
    if not top > 0.0:
        return None
    threshold = level * float(np.median(profile[profile > 0.3 * top]))
    above = np.flatnonzero(profile > threshold)
    first, last = int(above[0]), int(above[-1])
    if first == 0 or last == len(profile) - 1:
        return None
    return (
        first - (profile[first] - threshold) / (profile[first] - profile[first - 1]),
        last + (profile[last] - threshold) / (profile[last] - profile[last + 1]),
    )


def _slopes(power: Float64, floor: float, low: float, high: float) -> tuple[float, float]:
    """Of the plane through the heights of blocks, by their power; what lies at random in a slab has none."""
    depth, rows, columns = power.shape
    if min(rows, columns) < 2 * _BLOCKS:
        return 0.0, 0.0
    half = 0.25 * (high - low)
    slices = slice(max(0, int(low - half)), min(depth, int(high + half) + 2))
    z = np.arange(depth)[slices]
    places = []
    for block_rows in np.array_split(np.arange(rows), _BLOCKS):
        for block_columns in np.array_split(np.arange(columns), _BLOCKS):
            block = power[
                slices, block_rows[0] : block_rows[-1] + 1, block_columns[0] : block_columns[-1] + 1
            ]
            profile = np.maximum(block.mean(axis=(1, 2)) - floor, 0.0)
            total = float(profile.sum())
            if total > 0.0:
                middle = float((profile * z).sum()) / total
                places.append((block_columns.mean(), block_rows.mean(), middle, total))
    if len(places) < 2 * _BLOCKS:
        return 0.0, 0.0
    x, y, middle, weight = np.array(places).T
    columns_of = np.stack([x - x.mean(), y - y.mean(), np.ones_like(x)], axis=1) * np.sqrt(weight)[:, None]
    found = np.linalg.lstsq(columns_of, middle * np.sqrt(weight), rcond=None)[0]
    left = middle * np.sqrt(weight) - columns_of @ found
    variance = float((left**2).sum()) / (len(middle) - 3)
    errors = np.sqrt(variance * np.diagonal(np.linalg.inv(columns_of.T @ columns_of)))
    sure = np.abs(found) > _STANDARD_ERRORS * errors
    return float(found[0] * sure[0]), float(found[1] * sure[1])
