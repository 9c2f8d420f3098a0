"""Independent halves of a scan, and how far they agree."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.alignment.slice_registration import RegisteredFsc, registered_fsc
from manyviews.metrics.fsc import FscCurve
from manyviews.nano.results import FSC_FILE, FSC_SLICES_FILE

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

_ANGSTROM_PER_NM = 10.0


def half_views(views: int) -> tuple[Int64, Int64]:
    """Every other view from the first on, and from the second on, in the order of acquisition.

    Each is to be aligned and reconstructed by itself: flows that were found together carry noise of one half
    into the other.
    """
    return np.arange(0, views, 2), np.arange(1, views, 2)


def compare_halves(first: Float32, second: Float32, pixel_size_nm: float | None) -> RegisteredFsc:
    """Correlation of halves ``(z, y, x)``; without a size of pixels they are taken to be 1 nm."""
    return registered_fsc(first, second, (pixel_size_nm or 1.0) * _ANGSTROM_PER_NM)


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


def _shown(curve: FscCurve) -> float | str:
    resolution = curve.resolution(curve.half_bit()) / _ANGSTROM_PER_NM
    return round(resolution, 3) if math.isfinite(resolution) else "none"
