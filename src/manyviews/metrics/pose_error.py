"""How far found poses are from true ones, up to what no image can tell: a turn of the whole map, its hand,
its place, and the symmetry of the particle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyviews.metrics.common_turn import CAP_DEGREES, HALF_TURN, common_turn, distances

Float64 = NDArray[np.float64]


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
        between = b.transpose(0, 2, 1) @ (HALF_TURN @ a if mirrored else a)  # S G, one for each image
        turn = common_turn(between, group)
        fits.append((turn, distances(between, group, turn), mirrored))
    turn, angles, mirrored = min(fits, key=lambda fit: float(np.minimum(fit[1], CAP_DEGREES).mean()))
    shifts, offset = None, np.zeros(3)
    if found_shifts is not None and true_shifts is not None:
        left = np.asarray(found_shifts, dtype=np.float64) - np.asarray(true_shifts, dtype=np.float64)
        offset = _common_offset(a, left)
        shifts = np.linalg.norm(left + (a @ offset)[:, :2], axis=1)
    return PoseErrors(angles, shifts, turn, mirrored, offset)


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
