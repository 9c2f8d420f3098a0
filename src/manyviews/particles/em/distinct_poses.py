"""Of many poses of an image those that are apart: the ways in which it may have been seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manyviews.particles.em.pose_samples import PoseSamples

_IMAGES_AT_ONCE = 2000


def distinct_poses(samples: PoseSamples, radians: float, pixels: float) -> PoseSamples:
    """One of all poses of an image that are near each other: the weightiest, with the weight of all.

    ``samples`` are sorted by image. Poses are near when they differ by at most ``radians`` of rotation and
    ``pixels`` of shift; each belongs to the first in order of weight that it is near to.
    """
    ordered = samples.select(np.lexsort((-samples.weights, samples.image)))
    present, first, counts = np.unique(ordered.image, return_index=True, return_counts=True)
    leader = np.arange(len(ordered))
    # |A - B|^2 = 8 sin^2(angle / 2) of two rotations
    limit = 8 * np.sin(min(radians, np.pi) / 2) ** 2
    for begin in range(0, len(present), _IMAGES_AT_ONCE):
        some = slice(begin, begin + _IMAGES_AT_ONCE)
        _lead(leader, ordered, first[some], counts[some], limit, pixels**2)
    weights = np.bincount(leader, ordered.weights, len(ordered)).astype(np.float32)
    chosen = np.flatnonzero(leader == np.arange(len(ordered)))
    found = ordered.select(chosen)
    return PoseSamples(found.image, found.rotations, found.shifts, weights[chosen])


def _lead(
    leader: NDArray[np.int64],
    poses: PoseSamples,
    first: NDArray[np.int64],
    counts: NDArray[np.int64],
    turned: float,
    moved: float,
) -> None:
    """Write who leads the poses of some images: ``counts[i]`` from ``first[i]`` on are of image i."""
    most = int(counts.max())
    place = np.minimum(first[:, None] + np.arange(most), len(poses) - 1)
    free = np.arange(most) < counts[:, None]
    rotations, shifts = poses.rotations[place], poses.shifts[place]
    for column in range(most):
        leads = np.flatnonzero(free[:, column])
        if not len(leads):
            continue
        angle = np.sum((rotations[leads] - rotations[leads, column][:, None]) ** 2, axis=(2, 3))
        away = np.sum((shifts[leads] - shifts[leads, column][:, None]) ** 2, axis=2)
        near = free[leads] & (angle <= turned) & (away <= moved)
        near[:, column] = True
        row, other = np.nonzero(near)
        leader[place[leads[row], other]] = place[leads[row], column]
        free[leads] &= ~near
