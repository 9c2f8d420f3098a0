"""What looks wrong in subtomograms: told by `manyviews.subtomo.check`, and again by every alignment.

The wedge, which both measure, has its own: `manyviews.subtomo.wedge_told`.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from manyviews.alignment.map_alignment import soft_sphere
from manyviews.errors import InputError
from manyviews.operators.fourier_points import extract_solid
from manyviews.parallel.world import SingleWorld, World
from manyviews.subtomo.plan import Plan
from manyviews.subtomo.volumes import FourierSubtomograms

_MIDDLE = 0.35  # radius of the middle, of the particle's diameter
_DETAIL = 4  # cycles across the particle: finer detail does not tell bright from dark
_EDGE = 3.0  # voxels
_SURE = 5.0  # standard errors
_FULL = 0.95  # of the box


def data_warnings(data: FourierSubtomograms, plan: Plan, world: World | None = None) -> tuple[str, ...]:
    """Sentences for the user on subtomograms that can be used: a sample, or all of them.

    Those of all processes are taken together; each makes this call.
    """
    found = []
    middle, error = brightness(data, plan.diameter / plan.pixel_size, world or SingleWorld())
    if middle < -_SURE * error:
        found.append(
            "the middle of the subtomograms is darker than what is around it, but particles are taken to be "
            "bright: if protein is dark here, multiply them by -1 (subtomo extract --invert)"
        )
    if plan.diameter > _FULL * plan.box * plan.pixel_size:
        found.append("the particle fills the box, so the noise is taken from the corners only")
    return tuple(found)


def brightness(data: FourierSubtomograms, diameter: float, world: World) -> tuple[float, float]:
    """How much brighter than the rest a ball in the middle is, any unit, and its standard error.

    The mean over the subtomograms of all processes, each of them times its transfer, so that a CTF with both
    signs is put right. ``diameter`` of the particle in voxels.
    """
    low = data.crop(min(data.radius, max(3.0, _DETAIL * data.box / diameter)))
    ball = extract_solid(soft_sphere(data.box, _MIDDLE * diameter, _EDGE), low.points).real
    seen = low.values * low.transfers[low.transfer_index]
    each = (seen.real @ ball).astype(np.float64)
    mine = torch.tensor([len(each), each.sum(), np.square(each).sum()], dtype=torch.float64)
    count, total, squares = world.sum(mine).tolist()
    if count < 2:
        return 0.0, math.inf
    mean = total / count
    return mean, math.sqrt(max(0.0, squares / count - mean**2) / (count - 1))


def check_ranks(ranks: int, count: int) -> None:
    """Refuse more processes than there are subtomograms, before anything is read, with an `InputError`."""
    if ranks > count:
        raise InputError(
            f"{ranks} processes are more than there are subtomograms, {count}",
            fix=f"start {count} at most, each with more --threads",
        )
