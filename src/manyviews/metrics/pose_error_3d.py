"""How far poses of small volumes are from true ones: a rotation and a place in space for each.

A volume is ``s(X) = reference(A^T (X + shift))``, so the shift is what centres the particle. Unlike images,
volumes tell the place along the beam, and the hand too, unless the hand of what they were cut from is wrong:
mirrored along z, which flips the beam, a map inverted through its centre has the poses ``Rz(180) A`` and the
z of all shifts changes its sign.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyviews.metrics.common_turn import CAP_DEGREES, HALF_TURN, common_turn, distances

Float64 = NDArray[np.float64]

_MIRROR = np.diag([1.0, 1.0, -1.0])
_ROUNDS = 3


@dataclass(frozen=True)
class SpatialErrors:
    """What is left between found and true poses.

    Attributes
    ----------
    angles
        ``(N,)`` degrees, to the nearest pose equivalent by symmetry.
    shifts
        ``(N,)`` angstrom, distance of the found from the true centre.
    rotation
        ``G``, 3x3: ``found = truth S G``, S of the group; the identity where maps are in one frame.
    mirrored
        Whether the found poses belong to the other hand.
    centre
        ``(3,)`` (x, y, z) in angstrom: where the centre of the true map lies in the found map; zero where
        maps are in one frame.
    """

    angles: Float64
    shifts: Float64
    rotation: Float64
    mirrored: bool
    centre: Float64


@dataclass(frozen=True)
class ErrorSummary:
    """Median, mean and 90th percentile of errors."""

    median: float
    mean: float
    percentile90: float

    @classmethod
    def of(cls, errors: Float64) -> ErrorSummary:
        """Of ``(N,)`` errors, at least one."""
        return cls(float(np.median(errors)), float(np.mean(errors)), float(np.quantile(errors, 0.9)))

    def text(self, digits: int = 2) -> str:
        """The three for a table, in the order of their names."""
        return " ".join(f"{value:8.{digits}f}" for value in (self.median, self.mean, self.percentile90))


def spatial_errors(
    found: ArrayLike,
    truth: ArrayLike,
    found_shifts: ArrayLike,
    true_shifts: ArrayLike,
    *,
    symmetry: ArrayLike | None = None,
    one_frame: bool = False,
    hands: bool = False,
) -> SpatialErrors:
    """Compare poses of volumes; the map may be turned and moved as a whole, unless it is in one frame.

    The turn and the place are those that most particles agree on, so wrong poses do not bias them. With
    symmetry the found map is as symmetric as the true one, about its own axes.

    Parameters
    ----------
    found, truth
        ``(N, 3, 3)`` matrices as in `manyviews.geometry.poses`.
    found_shifts, true_shifts
        ``(N, 3)`` angstrom (x, y, z), what centres the particles.
    symmetry
        ``(n, 3, 3)`` rotations of the point group in the frame of the true poses; left out: C1.
    one_frame
        The found map lies where the true one lies, as after an alignment to it: nothing is taken out.
    hands
        Try the other hand too.

    Raises
    ------
    ValueError
        If the numbers of poses or shifts differ, or there are none.
    """
    a, b, f, t = (np.asarray(one, dtype=np.float64) for one in (found, truth, found_shifts, true_shifts))
    if a.shape != b.shape or a.ndim != 3 or len(a) == 0 or not f.shape == t.shape == (len(a), 3):
        raise ValueError(
            f"poses of the same volumes can be compared, not {a.shape} with {f.shape} and {b.shape} "
            f"with {t.shape}"
        )
    group = np.eye(3)[None] if symmetry is None else np.asarray(symmetry, dtype=np.float64)
    fits = [_errors(a, b, f - t, group, one_frame=one_frame)]
    if hands:
        other = _errors(HALF_TURN @ a, b, f @ _MIRROR - t, group, one_frame=one_frame)
        fits.append(replace(other, mirrored=True))
    return min(fits, key=lambda fit: float(np.minimum(fit.angles, CAP_DEGREES).mean()))


def _errors(a: Float64, b: Float64, left: Float64, group: Float64, *, one_frame: bool) -> SpatialErrors:
    """Of one hand; ``left`` are the shifts ``(N, 3)`` less the true ones."""
    between = b.transpose(0, 2, 1) @ a  # S G, one for each particle
    turn = np.eye(3) if one_frame else common_turn(between, group)
    centre = np.zeros(3) if one_frame else _common_centre(a, left)
    shifts = np.linalg.norm(left - a @ centre, axis=1)
    return SpatialErrors(distances(between, group, turn), shifts, turn, False, centre)


def _common_centre(poses: Float64, left: Float64) -> Float64:
    """The place ``(3,)`` c whose ``A c`` the differences of the shifts are, as most particles see it.

    The median by coordinates, then the mean of those within three times the median distance.
    """
    seen = np.einsum("nji,nj->ni", poses, left)
    centre: Float64 = np.median(seen, axis=0)
    for _ in range(_ROUNDS):
        away = np.linalg.norm(seen - centre, axis=1)
        centre = seen[away <= 3 * np.median(away) + 1e-9].mean(axis=0)
    return centre
