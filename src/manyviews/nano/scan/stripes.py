"""Stripes along the angles of a sinogram, which become rings in slices: removed by a library.

Sources: Muench et al., Opt. Express 17 (2009) 8567 (fw); Vo et al., Opt. Express 26 (2018) 28396 (sorting,
vo-all).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.nano.scan.center_pairs import Read
from manyviews.nano.scan.options import ScanOptions

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Filter = Callable[[NDArray[np.float32]], NDArray[np.float32]]

_FEWEST_VIEWS = 16
_SMOOTHED_COLUMNS = 9
_LOOKED_AT_ROWS, _LOOKED_AT_VIEWS = 6, 256
_STRONG = 3.0
_AIR_FROM, _AIR_TO = 0.1, 3.0
_WAVELET, _WAVELET_REACH, _LEVELS = "db5", 9, 7


def remove_stripes(projections: Float32, theta_degrees: Float64, method: str, threads: int = 1) -> None:
    """Remove stripes from ``(view, row, column)`` in place, row by row, in the order of directions.

    ``method`` is ``fw``, ``sorting`` or ``vo-all``; the views stay in their order. `InputError` if there
    are too few.
    """
    if method == "none":
        return
    if len(projections) < _FEWEST_VIEWS or projections.shape[2] < _FEWEST_VIEWS:
        raise InputError(
            f"{len(projections)} views of {projections.shape[2]} columns are too few for it",
            where="--stripes",
            fix="give none",
        )
    remove = _filter(method, projections.shape)
    order = np.argsort(np.mod(theta_degrees, 360.0), kind="stable")

    def clean(row: int) -> None:
        projections[order, row] = remove(projections[order, row])

    with ThreadPoolExecutor(max(1, threads)) as pool:
        list(pool.map(clean, range(projections.shape[1])))


def _filter(method: str, shape: tuple[int, ...]) -> Filter:
    import algotom.prep.removal as library

    if method == "fw":
        level = max(1, min(_LEVELS, int(np.log2(min(shape[0], shape[2]) / _WAVELET_REACH))))
        return partial(library.remove_stripe_based_wavelet_fft, level=level, size=1, wavelet_name=_WAVELET)
    if method == "sorting":
        return partial(library.remove_stripe_based_sorting, size=_odd(shape[2], 21))
    return partial(library.remove_all_stripe, snr=3.0, la_size=_odd(shape[2], 51), sm_size=_odd(shape[2], 21))


def _odd(columns: int, wanted: int) -> int:
    """A window of so many columns, of a third of the detector at most."""
    return max(3, min(wanted, columns // 3) // 2 * 2 + 1)


def stripe_strength(projections: Float32) -> float:
    """How strong stripes are: of the mean over views, the part finer than 9 columns, over what noise would
    leave.

    About 1 without stripes; ``projections`` is ``(view, row, column)``.
    """
    from scipy.ndimage import median_filter

    width = min(_SMOOTHED_COLUMNS, projections.shape[2] // 2 * 2 - 1)
    if width < 3 or len(projections) < _FEWEST_VIEWS:
        return 1.0
    fine = projections - median_filter(projections, size=(1, 1, width))
    noise = fine.std(axis=0) / np.sqrt(len(fine))
    strength = np.abs(fine.mean(axis=0)) / np.maximum(noise, 1e-12)
    return float(np.median(strength) / 0.6745)


def line_warnings(read: Read, shape: tuple[int, int, int], options: ScanOptions) -> list[str]:
    """Sentences if stripes stand out of the noise, or nothing is as bright as air, and nothing is done
    about it.

    From a few rows of the projections that ``read`` gives.
    """
    views = np.unique(np.linspace(0, shape[0] - 1, _LOOKED_AT_VIEWS).round().astype(np.int64))
    rows = np.unique(np.linspace(0, shape[1] - 1, _LOOKED_AT_ROWS).round().astype(np.int64))
    lines = np.concatenate([read(views, slice(row, row + 1)) for row in rows.tolist()], axis=1)
    found = []
    strength = stripe_strength(lines)
    if options.stripes == "none" and strength > _STRONG:
        found.append(
            f"columns of the detector differ by {strength:.1f} times what noise explains, which makes rings:"
            " consider --stripes"
        )
    lowest = float(np.percentile(lines, 1.0))
    if options.minus_log and not options.air and _AIR_FROM < lowest < _AIR_TO:
        found.append(
            f"hardly any pixel is as bright as the flats, the lowest projections are at {lowest:.2f}:"
            f" consider"
            " --air if there is air at both sides of the specimen"
        )
    return found
