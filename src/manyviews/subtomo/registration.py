"""The map of one half laid over that of the other, where both came from nothing.

Halves that share their low frequencies only can settle in places that these do not tell apart: GroEL at 60
angstrom is nearly as symmetric as a prism of 14 sides, and two halves a 14th of a turn apart agree there and
nowhere else. Each is a good map; only together they are none. Two maps are always laid over each other before
they are compared; here it is done while they grow, so that they can share what they know next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.alignment.map_alignment import move_map
from manyviews.alignment.map_search import find_placement
from manyviews.geometry.poses import angular_distance
from manyviews.metrics.fsc import fsc
from manyviews.operators.fourier_sums import FourierSums
from manyviews.subtomo.averaging import particle_mask, solvent_flattened

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_CLEARLY = 0.1  # of the mean correlation of shells; noise came to 0.06
_SAME_AXES_DEGREES = 2.0
_AGREED = 0.8  # halves that agree so well, up to twice what they share, lie well
_REACH = 3  # times the shared radius: far enough to tell places apart
_SPARE = 2  # shells of the small box beyond


@dataclass(frozen=True)
class HalfPlacement:
    """``map(X) = second(R^T (X - t))`` lies on the first half.

    Attributes
    ----------
    rotation, shift
        R ``(3, 3)`` and t ``(3,)`` in voxels.
    degrees
        The angle of R, or of the least of its equals under the symmetry.
    before, after
        Mean correlation of the shells that the halves do not share, as they lay and as they lie.
    """

    rotation: Float64
    shift: Float64
    degrees: float
    before: float
    after: float

    def moved(self, rotations: Float64, shifts: Float64) -> tuple[Float64, Float64]:
        """Poses ``(M, 3, 3)``, ``(M, 3)`` that show the moved map where they showed the second half."""
        turned = rotations @ self.rotation.T
        return turned, shifts + turned @ self.shift


def half_placement(
    sums: FourierSums, box: int, diameter: float, shared_radius: int, symmetry: Float64
) -> HalfPlacement | None:
    """How the second half lies clearly better on the first; None where it lies well.

    Parameters
    ----------
    sums
        Of both halves.
    box, diameter
        Of the particles, voxels.
    shared_radius
        Shells beyond it decide, cycles per box.
    symmetry
        ``(n, 3, 3)``: only turns that leave its axes where they are count.
    """
    if sums.radius <= shared_radius:
        return None  # all shells are shared: none that could decide
    sums = sums.at_radius(min(sums.radius, _REACH * shared_radius))
    small = min(box, 2 * (sums.radius + _SPARE))
    mask = particle_mask(small, diameter * small / box)
    first, second = (solvent_flattened(sums.half_volume(half, small), mask).numpy() for half in range(2))
    beyond = slice(shared_radius + 1, sums.radius + 1)
    as_they_lie = fsc(second, first, 1.0).correlation
    if as_they_lie[beyond.start : 2 * shared_radius + 1].mean() > _AGREED:
        return None
    found = find_placement(second, first, hands=False)
    if not _keeps(found.rotation, symmetry):
        return None
    shift = (symmetry @ found.shift).mean(axis=0)  # along axes only
    moved = move_map(second, found.rotation, shift)
    before, after = (float(one[beyond].mean()) for one in (as_they_lie, fsc(moved, first, 1.0).correlation))
    if not after > before + _CLEARLY:
        return None
    turned = float(min(angular_distance(turn, found.rotation) for turn in symmetry))
    return HalfPlacement(found.rotation, shift * (box / small), turned, before, after)


def placed(
    placement: HalfPlacement, chosen: NDArray[np.bool_], rotations: torch.Tensor, shifts: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Poses ``(N, 3, 3)``, ``(N, 3)`` of all particles with those that are ``chosen (N,)`` moved along."""
    turned, moved = placement.moved(rotations.numpy(), shifts.numpy())
    picked = torch.from_numpy(chosen)
    return (
        torch.where(picked[:, None, None], torch.from_numpy(turned), rotations),
        torch.where(picked[:, None], torch.from_numpy(moved), shifts),
    )


def _keeps(rotation: Float64, symmetry: Float64) -> bool:
    """Whether a rotation takes the axes of a symmetry to axes of the same kind."""
    turned = rotation @ symmetry @ rotation.T
    return all(float(np.min(angular_distance(symmetry, one))) < _SAME_AXES_DEGREES for one in turned)
