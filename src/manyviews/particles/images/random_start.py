"""A first map that knows nothing: a random sum of spheres, as bright as the images ask for.

As in Punjani, Brubaker & Fleet 2017 (IEEE TPAMI 39:706), Fig. 6.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from manyviews.geometry.poses import random_rotations
from manyviews.operators.fourier_slice import FourierVolume
from manyviews.particles.images.fourier_images import FourierImages
from manyviews.particles.images.fourier_resample import regrid_volume
from manyviews.random import Stream, generator

VIEWS = 50
RASTER = 64  # voxels along a side in which the spheres are drawn, at least


def random_spheres(
    box: int, seed: int, start: int = 0, *, count: int = 30, extent: float = 0.35
) -> torch.Tensor:
    """A sum of spheres ``(box, box, box)`` float32, each 1 inside, within a larger sphere.

    The same seed and start (which of the random starts of a seed) give the same spheres in every box, as well
    as it resolves them; none is negative. The larger sphere, which holds their centres, has a radius of
    ``extent`` times the box.
    """
    rng = generator(seed, Stream.START_MAP, start)
    drawn = max(box, RASTER)
    axis = (np.arange(drawn) - drawn // 2) / drawn
    # uniform in the ball that centres may lie in
    ways = rng.standard_normal((count, 3))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    centres = ways * extent * rng.random((count, 1)) ** (1 / 3)
    radii = extent * rng.uniform(0.15, 0.4, count)
    total = np.zeros((drawn,) * 3, np.float32)
    for centre, radius in zip(centres, radii, strict=True):
        z, y, x = ((axis - c) ** 2 for c in centre)
        total += (z[:, None, None] + y[:, None] + x) <= radius**2
    return regrid_volume(torch.from_numpy(total), box).clamp_(min=0.0)


def power_scale(volume: torch.Tensor, images: FourierImages, seed: int = 0, start: int = 0) -> float:
    """Factor that gives random views of a map the power that the images have above their noise.

    Frequency zero does not count: it is the background's. Where there is no power above the noise, its
    standard error is taken.
    """
    rng = generator(seed, Stream.START_POWER, start)
    # the map may have fewer voxels than the images have pixels
    seen = FourierVolume.of(regrid_volume(volume, images.box), images.radius)
    views = torch.view_as_real(seen.slices(random_rotations(VIEWS, rng), images.points)).numpy()
    power = np.mean(np.sum(views**2, axis=-1), axis=0)[1:]
    weight = images.precision()[:, 1:]
    signal = float(np.sum(weight * np.abs(images.values[:, 1:]) ** 2, dtype=np.float64)) - weight.size
    expected = float(np.sum(weight * images.ctf[:, 1:] ** 2 * power, dtype=np.float64))
    return math.sqrt(max(signal, math.sqrt(weight.size)) / expected)
