"""Independent halves of a scan, and how far they agree."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.alignment.slice_registration import RegisteredFsc, cylinder_factors, registered_fsc
from manyviews.io.mrc import MrcWriter
from manyviews.metrics.fsc import FscCurve
from manyviews.nano.results import FSC_FILE, FSC_SLICES_FILE
from manyviews.nano.room import blocks
from manyviews.runs.map_names import MASK_FILE

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

_ANGSTROM_PER_NM = 10.0
COMPARED_VOLUMES = 12
"""That a comparison has in memory at once, as float32."""
_COMPARED_BYTES = 6 << 30


def half_views(views: int) -> tuple[Int64, Int64]:
    """Every other view from the first on, and from the second on, in the order of acquisition.

    Each is to be aligned and reconstructed by itself: flows that were found together carry noise of one half
    into the other.
    """
    return np.arange(0, views, 2), np.arange(1, views, 2)


def compare_halves(
    first: Float32, second: Float32, pixel_size_nm: float | None, *, binning: int = 1
) -> RegisteredFsc:
    """Correlation of halves ``(z, y, x)``; without a size of pixels they are taken to be 1 nm.

    With voxels binned, as `comparison_binning` says, large volumes need less memory; what is finer than two
    such voxels is not seen.
    """
    size = (pixel_size_nm or 1.0) * _ANGSTROM_PER_NM
    if binning == 1:
        return registered_fsc(first, second, size)
    small = [binned_volume(one, binning) for one in (first, second)]
    found = registered_fsc(small[0], small[1], size * binning)
    return replace(found, shift=binning * found.shift, slice_shifts=binning * found.slice_shifts)


def comparison_binning(shape: tuple[int, ...]) -> int:
    """How volumes of this shape have to be binned to be compared in a few GiB."""
    binning = 1
    while COMPARED_VOLUMES * 4 * math.prod(shape) / binning**3 > _COMPARED_BYTES:
        binning += 1
    return binning


def binned_volume(volume: Float32, factor: int) -> Float32:
    """Means of cubes of voxels; those left over at the far ends are dropped."""
    depth, rows, columns = (length // factor for length in volume.shape)
    found = np.empty((depth, rows, columns), np.float32)
    for part in blocks(depth, factor * volume[0].size):
        cut = volume[part.start * factor : part.stop * factor, : rows * factor, : columns * factor]
        cubes = cut.reshape(part.stop - part.start, factor, rows, factor, columns, factor)
        found[part] = cubes.mean(axis=(1, 3, 5), dtype=np.float32)
    return found


def write_halves(folder: Path, found: RegisteredFsc, pixel_size_nm: float | None) -> dict[str, object]:
    """Write ``fsc.csv`` and ``fsc_slices.csv``; what the summary says of them, in nm or in pixels."""
    found.rigid.write_csv(folder / FSC_FILE, samples=True, overwrite=True)
    found.slicewise.write_csv(folder / FSC_SLICES_FILE, samples=True, overwrite=True)
    unit = "pixels" if pixel_size_nm is None else "nm"
    return {
        f"resolution_half_bit_{unit}": _shown(found.rigid),
        f"resolution_half_bit_slice_by_slice_{unit}": _shown(found.slicewise),
        "halves_apart_pixels": [round(float(part), 3) for part in found.shift],
        "slices_of_halves_apart_rms_pixels": round(float(np.sqrt(np.mean(found.slice_shifts**2))), 3),
    }


def write_mask(folder: Path, shape: tuple[int, int, int], pixel_size_nm: float | None) -> None:
    """Write ``mask.mrc``, within which halves are compared, section by section."""
    along, disc = cylinder_factors(shape)
    size = (pixel_size_nm or 1.0) * _ANGSTROM_PER_NM
    label = "manyviews nano reconstruct"
    with MrcWriter(folder / MASK_FILE, shape, size, overwrite=True, labels=(label,)) as writer:
        for weight in along:
            writer.write((weight * disc)[None].astype(np.float32))


def _shown(curve: FscCurve) -> float | str:
    resolution = curve.resolution(curve.half_bit()) / _ANGSTROM_PER_NM
    return round(resolution, 3) if math.isfinite(resolution) else "none"
