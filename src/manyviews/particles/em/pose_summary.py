"""One pose a particle from samples of its posterior, and how wide that is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from manyviews.geometry.poses import angular_distance
from manyviews.particles.em.pose_samples import PoseSamples

Float64 = NDArray[np.float64]

# Samples further than this from the best are of another peak of the posterior, and not averaged with it.
_SAME_PEAK_DEGREES = 20.0


def summarise_poses(
    samples: PoseSamples, count: int, symmetry: Float64 | None = None
) -> tuple[PoseSamples, Float64, Float64]:
    """The best pose of each of ``count`` particles, and the spread of the others around it.

    ``samples`` are sorted by image, at least one an image; poses that the rotations ``symmetry (n, 3, 3)`` of
    the point group make equal count as one.

    Returns
    -------
    tuple
        One pose a particle, its weight the share of the posterior that it stands for; root mean square angle
        in degrees and distance in pixels of the posterior from it, each ``(count,)``.
    """
    best = _best(samples, count)
    turned, angle = _nearest_copies(samples, best, symmetry)
    return best, *_spreads(turned, best, angle, count)


def mean_poses(
    samples: PoseSamples, count: int, symmetry: Float64 | None = None
) -> tuple[PoseSamples, Float64, Float64]:
    """As `summarise_poses`, with the mean of the posterior about its best pose in the place of that.

    The best is one point of the grid that poses were searched on; the mean is that of the samples of the same
    peak, of rotations the one with the least sum of squared chords (Moakher 2002, SIAM Journal on Matrix
    Analysis and Applications 24:1). Weights stay those of the best.
    """
    best = _best(samples, count)
    turned, angle = _nearest_copies(samples, best, symmetry)
    weights = turned.weights * (angle < _SAME_PEAK_DEGREES)
    total = np.bincount(turned.image, weights, count)
    sums = [np.bincount(turned.image, weights * entry, count) for entry in turned.rotations.reshape(-1, 9).T]
    left, _, right = np.linalg.svd(np.stack(sums, axis=1).reshape(count, 3, 3))
    left[:, :, 2] *= np.linalg.det(left @ right)[:, None]  # no mirror image
    shifts = [np.bincount(turned.image, weights * along, count) / total for along in turned.shifts.T]
    mean = replace(
        best,
        rotations=(left @ right).astype(np.float32),
        shifts=np.stack(shifts, axis=1).astype(np.float32),
    )
    away = angular_distance(turned.rotations, mean.rotations[turned.image])
    return mean, *_spreads(turned, mean, away, count)


def _best(samples: PoseSamples, count: int) -> PoseSamples:
    """The pose of each particle with the largest weight."""
    order = np.lexsort((-samples.weights, samples.image))
    return samples.select(order[np.searchsorted(samples.image, np.arange(count))])


def _nearest_copies(
    samples: PoseSamples, centre: PoseSamples, symmetry: Float64 | None
) -> tuple[PoseSamples, Float64]:
    """Of the poses that symmetry makes equal those nearest to a centre, and how far they are, in degrees."""
    if symmetry is None or len(symmetry) == 1:
        return samples, angular_distance(samples.rotations, centre.rotations[samples.image])
    rotations = samples.rotations.copy()
    nearest = np.full(len(samples), np.inf)
    for turn in symmetry:
        copies = samples.rotations @ turn
        angle = angular_distance(copies, centre.rotations[samples.image])
        closer = angle < nearest
        rotations[closer], nearest[closer] = copies[closer], angle[closer]
    return replace(samples, rotations=rotations), nearest


def _spreads(
    samples: PoseSamples, centre: PoseSamples, angle: Float64, count: int
) -> tuple[Float64, Float64]:
    """Root mean squares of the angles and of the distances of the shifts from a centre, by particle."""
    away = np.sum((samples.shifts - centre.shifts[samples.image]) ** 2, axis=1)
    total = np.bincount(samples.image, samples.weights, count)
    spread = np.sqrt(np.bincount(samples.image, samples.weights * angle**2, count) / total)
    return spread, np.sqrt(np.bincount(samples.image, samples.weights * away, count) / total)
