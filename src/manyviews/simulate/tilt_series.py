"""What a microscope does to the images of a tilt series: drifting grey levels, noise, misalignment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from manyviews.geometry.views import TiltGeometry
from manyviews.operators.view_transfer import ViewTransfer
from manyviews.random import Stream, generator
from manyviews.simulate.phantoms import Phantom
from manyviews.simulate.transferred import transferred_views

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]
# The beam was blocked, so that there is noise only; or the stage was elsewhere: an image upside down.
Spoiled = Literal["blocked", "elsewhere"]


@dataclass(frozen=True)
class GreyLevels:
    """Grey level of every view: ``gain * image + offset``, both ``(view,)``."""

    gain: Float64
    offset: Float64


def drifting_grey_levels(views: int, amount: float, level: float, seed: int, series: int) -> GreyLevels:
    """Gain and offset that differ between series and drift linearly along each of them.

    ``amount`` is the largest deviation of the gain from 1, and of the offset from 0 in units of ``level``,
    e.g. the standard deviation of the signal. Each series has its own constants and slopes.
    """
    rng = generator(seed, Stream.GREY_LEVELS, series)
    constant, slope = rng.uniform(-0.5, 0.5, (2, 2))
    course = np.outer(constant, np.ones(views)) + np.outer(slope, np.linspace(-1, 1, views))
    return GreyLevels(gain=1 + amount * course[0], offset=amount * level * course[1])


def misalignment(views: int, shift_pixels: float, turn_degrees: float, seed: int, series: int) -> Float64:
    """Transforms in the columns of an IMOD .xf, ``(view, 6)``, that bring misaligned images back.

    ``shift_pixels`` is the standard deviation of the random shift of every view, in x and in y,
    ``turn_degrees`` that of the angle by which all images of a series are turned.

    Returns
    -------
    ``a11 a12 a21 a22 dx dy`` raw to aligned, rounded to the decimals of the file so that it is the truth.
    """
    rng = generator(seed, Stream.MISALIGNMENT, series)
    turn = np.deg2rad(turn_degrees * rng.standard_normal())
    rows = np.empty((views, 6))
    rows[:, :4] = np.round([np.cos(turn), -np.sin(turn), np.sin(turn), np.cos(turn)], 7)
    rows[:, 4:] = np.round(shift_pixels * rng.standard_normal((views, 2)), 3)
    return rows


def draw_defocus(
    views: int, defocus: float, spread: float, astigmatism: float, seed: int, series: int
) -> tuple[Float64, float]:
    """Defocus ``(view, 2)`` of the views of a series in angstrom, and the angle of astigmatism in degrees.

    ``spread`` is the standard deviation from view to view, ``astigmatism`` the difference between the two
    axes, the same in all views. Rounded to the decimals of the file that is written, and never below a tenth
    of ``defocus``.
    """
    rng = generator(seed, Stream.TILT_DEFOCUS, series)
    angle = float(np.round(180.0 * rng.random(), 4))
    middle = np.maximum(defocus + spread * rng.standard_normal(views), 0.1 * defocus)
    pairs = middle[:, None] + 0.5 * astigmatism * np.array([1.0, -1.0])
    return np.asarray(np.round(np.maximum(pairs, 0.1 * defocus), 3), dtype=np.float64), angle


def recording_order(tilt_degrees: Float64) -> NDArray[np.int64]:
    """Place of every view in the order of recording, from 0: by distance from zero tilt, as is common."""
    order = np.lexsort((tilt_degrees, np.round(np.abs(tilt_degrees), 4)))
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return places


def spoiled_views(views: int, fraction: float, seed: int, series: int) -> dict[int, Spoiled]:
    """Which views are spoiled and how, about ``fraction`` of them: the two ways in turns."""
    count = round(fraction * views)
    chosen = generator(seed, Stream.SPOILED_VIEWS, series).permutation(views)[:count]
    kinds: tuple[Spoiled, ...] = ("blocked", "elsewhere")
    return {int(view): kinds[number % 2] for number, view in enumerate(chosen)}


def tilt_series_images(
    phantom: Phantom,
    geometry: TiltGeometry,
    image_shape: tuple[int, int],
    pixel_size: float,
    *,
    grey_levels: GreyLevels,
    noise_std: float,
    seed: int,
    series: int,
    transfer: ViewTransfer | None = None,
    spoiled: Mapping[int, Spoiled] | None = None,
) -> Iterator[Float32]:
    """The images of one series one after the other, each ``(y, x)``, with the contrast of ``transfer``.

    White Gaussian noise of standard deviation ``noise_std`` is added to the exact projections before gain and
    offset. The noise of a view depends on the seed, the series and its place in the series only. ``spoiled``
    are views that show something else, see `spoiled_views`.
    """
    if transfer is None:
        projections = phantom.project_views(geometry, image_shape, pixel_size)
    else:
        projections = transferred_views(phantom, geometry, image_shape, pixel_size, transfer)
    for view, image in enumerate(projections):
        seen = _spoil(image, (spoiled or {}).get(view))
        if noise_std > 0:
            rng = generator(seed, Stream.TILT_NOISE, series, view)
            seen = seen + np.float32(noise_std) * rng.standard_normal(image_shape, dtype=np.float32)
        yield np.float32(grey_levels.gain[view]) * seen + np.float32(grey_levels.offset[view])


def _spoil(image: Float32, how: Spoiled | None) -> Float32:
    if how == "blocked":
        return np.zeros_like(image)
    return np.ascontiguousarray(image[::-1]) if how == "elsewhere" else image
