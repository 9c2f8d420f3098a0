"""A map that the user gives beside particles: refused where it does not go with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.volume_files import read_volume, voxel_fault

Float32 = NDArray[np.float32]

_PIXEL_TOLERANCE = 0.01  # relative; headers hold lengths that others have rounded
_ROUNDING = 1e-3  # of values from 0 to 1


def read_map(path: Path, where: str, box: int, pixel_size: float | None) -> Float32:
    """A map ``(box, box, box)``, MRC or EM, of the particles' size and pixel size in angstrom (None: any).

    Raises
    ------
    InputError
        If it cannot be read or does not go with the particles; ``where`` names the option.
    """
    volume, given = read_volume(path)
    if fault := voxel_fault(volume):
        raise InputError(fault, path=path, where=where, fix="give a map")
    if volume.shape != (box,) * 3:
        raise InputError(
            f"it has {' x '.join(map(str, volume.shape[::-1]))} voxels, the particles have {box} along each "
            "side",
            path=path,
            where=where,
            fix="give one of the particles' size",
        )
    size = given.pixel_size
    if size and pixel_size and abs(size / pixel_size - 1) > _PIXEL_TOLERANCE:
        raise InputError(
            f"it has voxels of {size:g} angstrom, the particles of {pixel_size:g}",
            path=path,
            where=where,
            fix="resample it, or correct the pixel size in its header",
        )
    return np.ascontiguousarray(volume, dtype=np.float32)


def read_mask(path: Path, box: int, pixel_size: float | None) -> Float32:
    """As `read_map`, with values from 0 outside to 1 inside; `InputError` where there are others."""
    mask = read_map(path, "--mask", box, pixel_size)
    low, high = float(mask.min()), float(mask.max())
    if low < -_ROUNDING or high > 1 + _ROUNDING or high <= 0:
        raise InputError(
            f"its values are from {low:.4g} to {high:.4g}, not from 0 outside to 1 inside",
            path=path,
            where="--mask",
            fix="give a mask, not a map",
        )
    return np.clip(mask, 0, 1)
