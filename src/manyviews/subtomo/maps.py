"""Maps that the user gives: to begin with, as a mask, as the truth; refused where they do not go with the
particles.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from manyviews.io.given_maps import read_map, read_mask
from manyviews.subtomo.align_options import AlignOptions


@dataclass(frozen=True)
class Maps:
    """``(box, box, box)`` the map to begin with, and the mask of the particle; None where none was given."""

    start: torch.Tensor | None = None
    mask: torch.Tensor | None = None


def read_maps(options: AlignOptions, box: int, pixel_size: float) -> Maps:
    """What the options name; `InputError` where a map does not go with the particles.

    The true map is looked at only, so that a wrong one is refused before the work.
    """
    if options.compare is not None:
        read_map(options.compare, "--compare", box, pixel_size)
    start, mask = options.reference, options.mask
    return Maps(
        None if start is None else torch.from_numpy(read_map(start, "--reference", box, pixel_size)),
        None if mask is None else torch.from_numpy(read_mask(mask, box, pixel_size)),
    )
