"""What no image tells of an alignment, and how it is fixed.

A volume that is moved by t and whose views are moved by ``-P_v t`` gives the same images: along x and y that
is a common shift, across the beam a shift ``b sin(tilt)`` across the axis. Turned about the beam, with all
axes turned alike, and tilted about the axis of a single series, with its tilt offset changed, it does so too.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from manyviews.geometry.views import TiltGeometry

Float64 = NDArray[np.float64]


def moved_volume(geometry: TiltGeometry, translation: Float64) -> TiltGeometry:
    """The same images of a volume that is moved by ``(x, y, z)``, in the unit of the matrices."""
    matrices = geometry.matrices.copy()
    matrices[:, :3, 3] -= matrices[:, :3, :3] @ np.asarray(translation, dtype=np.float64)
    return replace(geometry, matrices=matrices)


def common_translation(
    found: TiltGeometry, wanted: TiltGeometry, weights: Float64 | None = None, axes: int = 3
) -> Float64:
    """``(x, y, z)`` by which to move the volume of ``found`` so that its views are seen as in ``wanted``.

    In the least squares of the views' shifts, weighted by ``weights (view,)``; the first ``axes`` of them.
    """
    counted = np.ones(len(found)) if weights is None else np.asarray(weights, dtype=np.float64)
    rows = found.matrices[:, :2, :axes] * counted[:, None, None]
    difference = (found.matrices[:, :2, 3] - wanted.matrices[:, :2, 3]) * counted[:, None]
    solved = np.linalg.lstsq(rows.reshape(-1, axes), difference.reshape(-1), rcond=1e-9)[0]
    return np.asarray(solved, dtype=np.float64)


def without_common_shift(
    found: TiltGeometry, given: TiltGeometry, weights: Float64 | None = None
) -> TiltGeometry:
    """Views whose shifts against those given have no part that is a shift of the volume in its plane.

    Where along the beam the volume lies is left as it is: `centred_in_slab` says that.
    """
    in_plane = common_translation(found, given, weights, axes=2)
    return moved_volume(found, np.array([*in_plane, 0.0]))


def slab_offset(profile: Float64, slices: int) -> float:
    """How far from the middle ``n // 2`` of a profile along z the window lies that holds most of it.

    ``profile (z,)`` is what each slice holds; among windows of ``slices`` that hold nearly the most, their
    middle.
    """
    slices = min(slices, len(profile))
    sums = np.convolve(profile, np.ones(slices), mode="valid")
    best = np.flatnonzero(sums >= sums.max() - 0.002 * profile.sum())
    first = 0.5 * float(best[0] + best[-1])
    return first + slices // 2 - len(profile) // 2
