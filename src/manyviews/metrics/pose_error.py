"""How far found poses are from true ones, up to what no image can tell: a turn of the whole map, its hand,
its place, and the symmetry of the particle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyviews.geometry.poses import angular_distance

Float64 = NDArray[np.float64]

_HALF_TURN = np.diag([-1.0, -1.0, 1.0])
_TRIALS = 200
_JUDGES = 1000
_CAP_DEGREES = 30.0
_ROUNDS = 20


@dataclass(frozen=True)
class PoseErrors:
    """What is left between found and true poses after one turn, hand and shift of the whole map.

    Attributes
    ----------
    angles
        ``(N,)`` degrees, to the nearest pose equivalent by symmetry.
    shifts
        ``(N,)`` angstrom, length of the difference in the image plane; None where no shifts were given.
    rotation
        ``G``, 3x3: ``found = truth S G``, S of the group, with the half turn of the other hand taken out.
    mirrored
        Whether the found poses belong to the map of the other hand.
    offset
        ``(3,)`` (x, y, z) in angstrom, by which the found map lies elsewhere, in its own frame.
    """

    angles: Float64
    shifts: Float64 | None
    rotation: Float64
    mirrored: bool
    offset: Float64


def pose_errors(
    found: ArrayLike,
    truth: ArrayLike,
    *,
    found_shifts: ArrayLike | None = None,
    true_shifts: ArrayLike | None = None,
    symmetry: ArrayLike | None = None,
    hands: bool = True,
) -> PoseErrors:
    """Compare poses, whose map may be turned, moved and mirrored as a whole.

    The turn is the one that most images agree on, so wrong poses do not bias it. A map inverted through its
    centre projects as the other hand does after half a turn in the plane: ``Rz(180) A``.

    Parameters
    ----------
    found, truth
        ``(N, 3, 3)`` matrices as in `manyviews.geometry.poses`.
    found_shifts, true_shifts
        ``(N, 2)`` angstrom, of one sign; left out: shifts are not compared.
    symmetry
        ``(n, 3, 3)`` rotations of the particle's point group in the frame of the true poses; left out: C1.
    hands
        Try the other hand too.

    Raises
    ------
    ValueError
        If the numbers of poses differ, or there are none.
    """
    a, b = np.asarray(found, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 3 or len(a) == 0:
        raise ValueError(f"poses of the same images can be compared, not {a.shape} and {b.shape}")
    group = np.eye(3)[None] if symmetry is None else np.asarray(symmetry, dtype=np.float64)
    fits = []
    for mirrored in (False, True)[: 1 + hands]:
        between = b.transpose(0, 2, 1) @ (_HALF_TURN @ a if mirrored else a)  # S G, one for each image
        turn = _common_turn(between, group)
        fits.append((turn, _distances(between, group, turn), mirrored))
    turn, angles, mirrored = min(fits, key=lambda fit: float(np.minimum(fit[1], _CAP_DEGREES).mean()))
    shifts, offset = None, np.zeros(3)
    if found_shifts is not None and true_shifts is not None:
        left = np.asarray(found_shifts, dtype=np.float64) - np.asarray(true_shifts, dtype=np.float64)
        offset = _common_offset(a, left)
        shifts = np.linalg.norm(left + (a @ offset)[:, :2], axis=1)
    return PoseErrors(angles, shifts, turn, mirrored, offset)


def _distances(between: Float64, group: Float64, turn: Float64) -> Float64:
    """``(N,)`` degrees from each ``S G`` to the nearest of the group times ``turn``."""
    targets = group @ turn
    return np.asarray(np.min([angular_distance(between, one) for one in targets], axis=0))


def _common_turn(between: Float64, group: Float64) -> Float64:
    """The turn that most images agree on: the best of some images' own, then the mean of those near it."""
    step = max(1, len(between) // _TRIALS)
    judges = between[:: max(1, len(between) // _JUDGES)]
    trials = between[::step][:_TRIALS]
    costs = [np.minimum(_distances(judges, group, trial), _CAP_DEGREES).mean() for trial in trials]
    turn: Float64 = trials[int(np.argmin(costs))]
    for _ in range(_ROUNDS):
        targets = group @ turn
        distances = np.array([angular_distance(between, target) for target in targets])
        nearest = distances.argmin(axis=0)
        least = distances.min(axis=0)
        # Three times the median keeps the images that have found their pose, however good that is.
        near = least <= min(_CAP_DEGREES, 3 * float(np.median(least)) + 1e-6)
        if not near.any():
            break
        back = group[nearest[near]].transpose(0, 2, 1) @ between[near]
        turn = _nearest_rotation(back.sum(axis=0))
    return turn


def _nearest_rotation(matrix: Float64) -> Float64:
    left, _, right = np.linalg.svd(matrix)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    return np.asarray((left * signs) @ right, dtype=np.float64)


def _common_offset(poses: Float64, left: Float64) -> Float64:
    """The place ``(3,)`` whose images ``(A X)[:2]`` cancel the shift differences best.

    Least squares, then again without the images beyond three times the median.
    """
    rows = poses[:, :2]
    kept = np.ones(len(poses), dtype=bool)
    offset: Float64 = np.zeros(3)
    for _ in range(3):
        solved = np.linalg.lstsq(rows[kept].reshape(-1, 3), -left[kept].ravel(), rcond=None)[0]
        offset = np.asarray(solved, dtype=np.float64)
        rest = np.linalg.norm(left + rows @ offset, axis=1)
        kept = rest <= 3 * np.median(rest) + 1e-9
    return offset
