"""Drawing ellipse-shaped profiles into images, only where they are not zero (Numba).

One kernel serves both the projections of a Gaussian and the planes of its density, since both are 2-D
Gaussians. All lengths here are pixels and all points ``(column, row)`` array positions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

GAUSSIAN_REACH_SIGMAS = 6.0  # exp(-18) = 1.5e-8: below float32 rounding of the peak

Float64 = NDArray[np.float64]


@njit(cache=True, nogil=True)
def _row_span(dy: float, xx: float, xy: float, yy: float, reach_squared: float) -> tuple[float, float]:
    """Where the row at height ``dy`` meets ``Q(dx, dy) <= reach_squared``: middle and half-width in x."""
    middle = -xy * dy / xx
    rest = reach_squared - (yy - xy * xy / xx) * dy * dy
    return middle, math.sqrt(rest / xx) if rest > 0.0 else -1.0


@njit(cache=True, nogil=True)
def add_gaussians(
    image: Float64, first_row: int, amplitude: Float64, centre: Float64, precision: Float64
) -> None:
    """Add point samples of 2-D Gaussians to a band of rows.

    Along a row ``exp(-Q/2)`` is a geometric series of geometric series, so a sample costs two products. Its
    rounding grows by about one float64 unit a step, which is nothing over the few hundred steps of a row.

    Parameters
    ----------
    image
        ``(row, column)`` band, changed in place.
    first_row
        Row of the full image at which the band starts.
    amplitude
        ``(n,)`` peak values.
    centre
        ``(n, 2)`` column and row.
    precision
        ``(n, 3)`` inverse covariance: xx, xy, yy.
    """
    rows, columns = image.shape
    reach_squared = GAUSSIAN_REACH_SIGMAS * GAUSSIAN_REACH_SIGMAS
    for n in range(len(amplitude)):
        xx, xy, yy = precision[n, 0], precision[n, 1], precision[n, 2]
        x0, y0 = centre[n, 0], centre[n, 1] - first_row
        half_height = math.sqrt(reach_squared * xx / (xx * yy - xy * xy))
        ratio_of_ratios = math.exp(-xx)
        for row in range(max(0, math.ceil(y0 - half_height)), min(rows, math.floor(y0 + half_height) + 1)):
            dy = row - y0
            middle, half_width = _row_span(dy, xx, xy, yy, reach_squared)
            if half_width < 0.0:
                continue
            start = max(0, math.ceil(x0 + middle - half_width))
            stop = min(columns, math.floor(x0 + middle + half_width) + 1)
            dx = start - x0
            value = amplitude[n] * math.exp(-0.5 * (xx * dx * dx + 2.0 * xy * dx * dy + yy * dy * dy))
            ratio = math.exp(-0.5 * (xx * (2.0 * dx + 1.0) + 2.0 * xy * dy))
            for column in range(start, stop):
                image[row, column] += value
                value *= ratio
                ratio *= ratio_of_ratios


@njit(cache=True, nogil=True)
def add_chords(
    image: Float64, first_row: int, amplitude: Float64, centre: Float64, precision: Float64
) -> None:
    """Add ``amplitude * sqrt(1 - Q)`` inside the ellipses ``Q <= 1`` to a band of rows.

    Parameters as in `add_gaussians`; this is the chord length through an ellipsoid.
    """
    rows, columns = image.shape
    for n in range(len(amplitude)):
        xx, xy, yy = precision[n, 0], precision[n, 1], precision[n, 2]
        x0, y0 = centre[n, 0], centre[n, 1] - first_row
        half_height = math.sqrt(xx / (xx * yy - xy * xy))
        for row in range(max(0, math.ceil(y0 - half_height)), min(rows, math.floor(y0 + half_height) + 1)):
            dy = row - y0
            middle, half_width = _row_span(dy, xx, xy, yy, 1.0)
            if half_width < 0.0:
                continue
            start = max(0, math.ceil(x0 + middle - half_width))
            stop = min(columns, math.floor(x0 + middle + half_width) + 1)
            for column in range(start, stop):
                dx = column - x0
                inside = 1.0 - (xx * dx * dx + 2.0 * xy * dx * dy + yy * dy * dy)
                if inside > 0.0:
                    image[row, column] += amplitude[n] * math.sqrt(inside)


@njit(cache=True, nogil=True)
def add_covered_lengths(
    image: Float64, first_row: int, amplitude: Float64, centre: Float64, precision: Float64, samples: int
) -> None:
    """Add ``amplitude`` times the covered part of every pixel of the ellipses ``Q <= 1`` to a band of rows.

    Exact along x; ``samples`` lines to a pixel along y. Other parameters as in `add_gaussians`.
    """
    rows, columns = image.shape
    for n in range(len(amplitude)):
        xx, xy, yy = precision[n, 0], precision[n, 1], precision[n, 2]
        x0, y0 = centre[n, 0], centre[n, 1] - first_row
        half_height = math.sqrt(xx / (xx * yy - xy * xy))
        first = max(0, math.floor(y0 - half_height))
        for row in range(first, min(rows, math.ceil(y0 + half_height) + 1)):
            for sample in range(samples):
                dy = row + (sample + 0.5) / samples - 0.5 - y0
                middle, half_width = _row_span(dy, xx, xy, yy, 1.0)
                if half_width < 0.0:
                    continue
                left, right = x0 + middle - half_width + 0.5, x0 + middle + half_width + 0.5
                for column in range(max(0, math.floor(left)), min(columns, math.ceil(right))):
                    covered = min(right, column + 1.0) - max(left, float(column))
                    image[row, column] += amplitude[n] * covered / samples


def draw(
    kernel: Any, shape: tuple[int, int], profiles: tuple[Float64, Float64, Float64], *extra: int, threads: int
) -> NDArray[np.float32]:
    """Run a kernel over bands of rows on several threads: ``(row, column)`` float32.

    The bands do not share pixels and every pixel sums the profiles in the same order, so the result is the
    same for any number of threads.

    Parameters
    ----------
    kernel
        One of the kernels above.
    shape
        Rows and columns of the image.
    profiles
        Amplitude, centre and precision as in `add_gaussians`.
    extra
        Further arguments of the kernel.
    threads
        Bands and threads.
    """
    from concurrent.futures import ThreadPoolExecutor

    image = np.zeros(shape)
    edges = np.linspace(0, shape[0], threads + 1).astype(int)
    amplitude, centre, precision = (np.ascontiguousarray(part, dtype=np.float64) for part in profiles)

    def fill(band: int) -> None:
        kernel(image[edges[band] : edges[band + 1]], edges[band], amplitude, centre, precision, *extra)

    if threads == 1:
        fill(0)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(fill, range(threads)))
    return image.astype(np.float32)
