"""One pose a particle from samples of its posterior, and how wide that is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manyviews.geometry.poses import angular_distance
from manyviews.particles.em.pose_samples import PoseSamples


def summarise_poses(
    samples: PoseSamples, count: int, symmetry: NDArray[np.float64] | None = None
) -> tuple[PoseSamples, NDArray[np.float64], NDArray[np.float64]]:
    """The best pose of each of ``count`` particles, and the spread of the others around it.

    ``samples`` are sorted by image, at least one an image; poses that the rotations ``symmetry (n, 3, 3)`` of
    the point group make equal count as one.

    Returns
    -------
    tuple
        One pose a particle, its weight the share of the posterior that it stands for; root mean square angle
        in degrees and distance in pixels of the posterior from it, each ``(count,)``.
    """
    order = np.lexsort((-samples.weights, samples.image))
    first = np.searchsorted(samples.image, np.arange(count))
    best = samples.select(order[first])
    centre = best.rotations[samples.image]
    group = np.eye(3)[None] if symmetry is None else symmetry
    angle = np.min([angular_distance(samples.rotations @ turn, centre) for turn in group], axis=0)
    away = np.sum((samples.shifts - best.shifts[samples.image]) ** 2, axis=1)
    total = np.bincount(samples.image, samples.weights, count)
    spread = np.sqrt(np.bincount(samples.image, samples.weights * angle**2, count) / total)
    shift_spread = np.sqrt(np.bincount(samples.image, samples.weights * away, count) / total)
    return best, spread, shift_spread
