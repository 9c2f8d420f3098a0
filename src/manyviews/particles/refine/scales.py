"""Contrast of groups of particles: how strong they are in their images beside the map, from what they leave.

As RELION's intensity scales (Scheres, J. Struct. Biol. 180 (2012) 519): in each group likeness of images and
map over the map's power, at the poses found. Thick ice makes weak particles, so images of a micrograph share
one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.io.particle_table import ParticleTable
from manyviews.particles.refine.evidence import Evidence

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_COLUMNS = ("rlnGroupName", "rlnGroupNumber", "rlnMicrographName")
_PRIOR_SPREAD = 0.3  # of scales, which groups of little evidence lean on
_SMALLEST, _LARGEST = 0.2, 5.0


@dataclass(frozen=True)
class ContrastGroups:
    """``group (N,)`` of each particle of a table, and what the groups are called."""

    group: Int64
    names: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.names)


def one_group(count: int) -> ContrastGroups:
    """All particles are alike."""
    return ContrastGroups(np.zeros(count, np.int64), ("all",))


def contrast_groups(table: ParticleTable) -> ContrastGroups:
    """RELION's groups or micrographs, where the table has more than one of them, else its optics groups."""
    for label in _COLUMNS:
        if label in table.extra:
            names, group = np.unique(np.array(table.extra[label]), return_inverse=True)
            if len(names) > 1:
                return ContrastGroups(group.ravel().astype(np.int64), tuple(names.tolist()))
    return ContrastGroups(table.optics_index, tuple(group.name for group in table.optics))


def renewed_scales(
    scales: Float64, group: Int64, found: Evidence, believed: Float64, prior_spread: float = _PRIOR_SPREAD
) -> Float64:
    """``(groups,)`` scales, of which the ``scales`` were those that the evidence was found with.

    ``group (n,)`` and ``believed (n,)`` are of the images of the evidence. The mean scale of an image is 1:
    what all images have in common is the map's.
    """
    count = len(scales)
    if count == 1:
        return np.ones(1)
    like = np.bincount(group, believed * found.cross / scales[group], count)
    power = np.bincount(group, believed * found.power / scales[group] ** 2, count)
    common = like.sum() / max(power.sum(), 1e-30)
    if not common > 0:
        return scales
    prior = 0.5 / prior_spread**2
    # the map is common times as bright as it seems
    own = (like * common + prior) / (power * common**2 + prior)
    own = np.clip(own, _SMALLEST, _LARGEST)
    weight = np.bincount(group, believed, count)
    return np.asarray(np.clip(own / np.average(own, weights=weight + 1e-12), _SMALLEST, _LARGEST))
