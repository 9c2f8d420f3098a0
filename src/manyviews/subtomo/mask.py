"""A mask that the user gives: read, and refused where it does not go with the particles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.volume_files import read_volume, voxel_fault

_PIXEL_TOLERANCE = 0.01  # relative; headers hold lengths that others have rounded
_ROUNDING = 1e-3  # of values from 0 to 1


def read_mask(path: Path, box: int, pixel_size: float) -> NDArray[np.float32]:
    """A mask ``(box, box, box)`` from 0 to 1 of the particles' pixel size in angstrom, MRC or EM.

    Raises
    ------
    InputError
        If it cannot be read, has another size or pixel size, values outside of 0 to 1, or nothing inside.
    """
    mask, given = read_volume(path)
    if fault := voxel_fault(mask):
        raise InputError(fault, path=path, fix="give a mask from 0 outside to 1 inside")
    if mask.shape != (box,) * 3:
        raise InputError(
            f"the mask has {' x '.join(map(str, mask.shape[::-1]))} voxels, the particles have {box} along "
            "each side",
            path=path,
            fix="give a mask of the particles' size",
        )
    size = given.pixel_size
    if size and abs(size / pixel_size - 1) > _PIXEL_TOLERANCE:
        raise InputError(
            f"the mask has voxels of {size:g} angstrom, the particles of {pixel_size:g}",
            path=path,
            fix="make it anew from a map of the particles, or correct the pixel size in its header",
        )
    low, high = float(mask.min()), float(mask.max())
    if low < -_ROUNDING or high > 1 + _ROUNDING or high <= 0:
        raise InputError(
            f"its values are from {low:.4g} to {high:.4g}, not from 0 outside to 1 inside",
            path=path,
            fix="give a mask, not a map",
        )
    return np.asarray(np.clip(mask, 0, 1), dtype=np.float32)
