"""Gold beads: found in a quick reconstruction, measured in the images, and cut out of these as discs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from manyviews.geometry.views import TiltGeometry
from manyviews.tilt.pixels.quick import QuickVolume

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_THRESHOLD = 0.4  # of the strongest voxels
_STRONGEST = 20  # voxels
_ABOVE_THE_REST = 4.0  # times what all but one in a thousand of the other voxels are below
_FEWEST_VOXELS = 3
_MOST_BEADS = 2000
_ROUNDS = 10  # of dividing voxels among beads that touch (Lloyd 1982)
_LOW_TILT_DEGREES = 30.0
_EDGE = 0.1  # of a bead's contrast: where it ends
_GUARD = 1.5  # pixels around a bead that are cut out too


@dataclass(frozen=True)
class Beads:
    """Centres ``(n, 3)`` x, y, z in angstrom from the volume's, and their common radius in angstrom."""

    centres: Float64
    radius: float

    def discs(self, geometry: TiltGeometry, image_shape: tuple[int, int], pixel_size: float) -> Float64:
        """Where the views show them: ``(view, n, 3)`` row, column and radius in pixels of ``pixel_size``."""
        seen = geometry.project(self.centres) / pixel_size
        middle = np.array(image_shape) // 2
        found = np.empty((len(geometry), len(self.centres), 3))
        found[..., 0], found[..., 1] = seen[..., 1] + middle[0], seen[..., 0] + middle[1]
        found[..., 2] = self.radius / pixel_size + _GUARD
        return found


def find_beads(quick: QuickVolume, diameter: float | None) -> Beads | None:
    """Beads in a quick volume, ``diameter`` in angstrom if it is known; None if there are none."""
    volume = quick.volume - np.float32(np.median(quick.volume))
    sign = 1.0 if volume.max() > -volume.min() else -1.0
    strength = np.float32(sign) * volume
    flat = np.partition(strength.ravel(), -_STRONGEST)
    level = _THRESHOLD * float(flat[-_STRONGEST:].mean())
    strong = strength > level
    near = scipy.ndimage.binary_dilation(strong, iterations=3)
    rest = np.percentile(np.abs(strength[~near]), 99.9) if not near.all() else np.inf
    if not level / _THRESHOLD > _ABOVE_THE_REST * rest:
        return None
    labels, count = scipy.ndimage.label(strong)
    if not 0 < count <= _MOST_BEADS:
        return None
    sizes = np.bincount(labels.ravel())[1:]
    kept = np.flatnonzero(sizes >= _FEWEST_VOXELS) + 1
    if not len(kept):
        return None
    usual = float(np.median(sizes[kept - 1]))
    centres = np.concatenate(
        [_centres(np.argwhere(labels == number), round(sizes[number - 1] / usual)) for number in kept]
    )
    middle = np.array(volume.shape) // 2
    places = (centres - middle)[:, ::-1] * quick.pixel_size
    radius = 0.5 * diameter if diameter is not None else _measured_radius(quick, places)
    # binned positions are uncertain by a part of a voxel
    return Beads(places, radius + 0.25 * quick.pixel_size)


def _centres(voxels: NDArray[np.int64], count: int) -> Float64:
    """Of beads that hold these voxels ``(n, 3)``: one, or several that touch, from those farthest apart."""
    points = voxels.astype(np.float64)
    if count < 2:
        return np.asarray(points.mean(axis=0)[None], dtype=np.float64)
    starts = [points[np.argmax(np.square(points - points.mean(axis=0)).sum(axis=1))]]
    while len(starts) < count:
        nearest = np.min([np.square(points - start).sum(axis=1) for start in starts], axis=0)
        starts.append(points[np.argmax(nearest)])
    centres = np.array(starts)
    for _ in range(_ROUNDS):
        own = np.argmin(np.square(points[:, None] - centres[None]).sum(axis=2), axis=1)
        centres = np.array([points[own == number].mean(axis=0) for number in range(count)])
    return np.asarray(centres, dtype=np.float64)


def _measured_radius(quick: QuickVolume, places: Float64) -> float:
    """Where the mean profile of all beads in the images of low tilt ends, in angstrom."""
    source = quick.source.binned(1)
    geometry, pixel_size = source.binned_geometry, source.pixel_size
    low = np.abs(geometry.tilt_degrees) <= max(_LOW_TILT_DEGREES, float(np.abs(geometry.tilt_degrees).min()))
    reach = max(6, 8 * quick.bin)
    total, counts = np.zeros(2 * reach), np.zeros(2 * reach)
    shape = source.shape[1:]
    discs = Beads(places, 0.0).discs(geometry, shape, pixel_size)
    views = np.flatnonzero(low)
    for view in views[:: max(1, len(views) // 20)]:
        image = source.read([view])[0]
        for row, column, _ in discs[view]:
            window = _window(shape, float(row), float(column), 2 * reach)
            if window is None:
                continue
            y, x = np.mgrid[window]
            ring = np.hypot(y - row, x - column).astype(int)
            inside = ring < 2 * reach
            values = image[window] - np.median(image[window])
            total += np.bincount(ring[inside], weights=values[inside], minlength=2 * reach)
            counts += np.bincount(ring[inside], minlength=2 * reach)
    profile = total / np.maximum(counts, 1.0)
    if not counts[0]:
        return 2.0 * quick.pixel_size
    profile = (profile - profile[reach:].mean()) / (profile[0] - profile[reach:].mean())
    below = np.flatnonzero(profile < _EDGE)
    return float(below[0] if len(below) else reach) * pixel_size


def _window(shape: tuple[int, ...], row: float, column: float, reach: int) -> tuple[slice, slice] | None:
    """The square around a place, None where it is not whole within the image."""
    first, left = round(row) - reach, round(column) - reach
    if first < 0 or left < 0 or first + 2 * reach >= shape[0] or left + 2 * reach >= shape[1]:
        return None
    return slice(first, first + 2 * reach + 1), slice(left, left + 2 * reach + 1)
