"""Whether random starts came to one structure: those that end in the same place by chance are rare."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from manyviews.alignment.map_alignment import aligned_fsc

_SHARE = 0.8  # of the frequencies of a start


def agreeing_starts(
    maps: Sequence[torch.Tensor], scores: Sequence[float], side: float, diameter: float, radius: int
) -> list[bool]:
    """Which of the other starts agree with the best, whatever way they lie and of whichever hand.

    Parameters
    ----------
    maps, scores
        What each start came to, cubes, and how well it explains the images.
    side, diameter
        Of the box and of the particle, angstrom.
    radius
        Highest frequency of a start, Fourier pixels: four fifths of it are asked for, where FSC is 0.5.

    Returns
    -------
    One value for each start but the best, in their order.
    """
    best = int(np.argmax(scores))
    limit = side / radius / _SHARE
    found = []
    for number, volume in enumerate(maps):
        if number != best:
            curve, _ = aligned_fsc(
                volume.numpy(), maps[best].numpy(), side / len(volume), radius=diameter / 2
            )
            found.append(curve.resolution(0.5) <= limit)
    return found
