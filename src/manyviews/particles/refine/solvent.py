"""The solvent of the maps that poses are found with, made flat where the halves tell what is solvent.

Noise about the particle is projected onto it, and images are compared with that. A soft mask around the
particle, the same for both halves, keeps it out. It is found from what the halves have in common at 15
angstrom or coarser (`manyviews.maps.solvent_mask`), so that it follows the map from pass to pass.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from manyviews.maps.solvent_mask import automatic_mask
from manyviews.metrics.fsc import fsc
from manyviews.operators.fourier_sums import HALVES, FourierSums
from manyviews.particles.em.maximisation import RealSpaceConstraint

AUTOMATIC = "automatic"


def with_flat_solvent(
    sums: FourierSums, shape: RealSpaceConstraint, pixel_size: float
) -> tuple[RealSpaceConstraint, float]:
    """What is known of the particle once its solvent is flat, and the share of the noise that is left.

    Parameters
    ----------
    sums
        Of both halves.
    shape
        The sphere, on as many voxels as the maps shall have.
    pixel_size
        Of these voxels, angstrom.

    Returns
    -------
    The mask, and the noise's power in it beside that in the sphere; the sphere itself and 1 where the halves
    do not tell.
    """
    first, second = ((sums.half_volume(half, shape.box) * shape.mask).numpy() for half in range(HALVES))
    curve = fsc(first, second, pixel_size)
    found = automatic_mask(first, second, pixel_size, curve, threads=torch.get_num_threads())
    if found.kind != AUTOMATIC:
        return shape, 1.0
    mask = shape.mask * torch.from_numpy(found.volume)
    left = float(mask.square().sum(dtype=torch.float64) / shape.mask.square().sum(dtype=torch.float64))
    return replace(shape, mask=mask), left
