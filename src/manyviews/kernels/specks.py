"""Specks: pixels that stand out of an image alone or in clusters of a few, as hot pixels and X-rays do.

What is seen through a lens has a slope: around the brightest pixel of a bead others are nearly as bright. So
a speck is a connected set of a few pixels that stands out of the median around it by many standard deviations
of the noise, while all that surrounds it stays below a fifth of that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

STANDS_OUT = 10.0
"""Robust standard deviations of the noise by which a speck differs from the median around it."""
_REACH = 3  # the median is over the pixels up to so far along both axes
_MOST_PIXELS = (
    6,
    4,
    1,
)  # inside the image, at its border, in its corner, where half a bead would be as small
_FOOT, _FOOT_NOISE = 0.2, 2.5  # of the speck, and of the noise: what stays below is not part of it
_MOST_SHARE = 0.01  # of an image: more is no speck, but noise of another kind than is looked for
_SAMPLES = 1024  # of an image, to measure the noise
_STRIP_PIXELS = 2**16  # stays in the cache
_AT_ONCE = 20_000
# of the values' standard deviation: a pixel less the mean of its four neighbours; quantiles of a normal one
_DIFFERENCE = 1.25**0.5
_QUANTILES = ((0.5, 0.6745), (0.9, 1.6449))
_LEAST_NOISE = 1e-3  # of the mean difference, where most pixels are equal


@dataclass(frozen=True)
class Specks:
    """Pixels of specks, ``(k,)`` each.

    ``image``, ``row`` and ``column`` say where; ``level`` is the median around the speck, ``excess`` what the
    pixel is above it, ``noise`` the image's standard deviation.
    """

    image: Int64
    row: Int64
    column: Int64
    level: Float32
    excess: Float32
    noise: Float32

    def __len__(self) -> int:
        return len(self.image)

    def mend(self, images: Float32, remaining: float = 0.0) -> None:
        """Put the median around a speck in its place, or as many standard deviations off as may remain."""
        rest = np.float32(remaining) * self.noise * np.sign(self.excess)
        images[self.image, self.row, self.column] = self.level + rest


def noise_deviation(images: Float32) -> Float32:
    """``(n,)`` standard deviation of the noise in images ``(n, y, x)``, whatever a few pixels hold.

    From the median and the ninth decile of differences between pixels and the mean of their four neighbours,
    the larger of the two; 0 for images of fewer than three rows or columns.
    """
    count, rows, columns = images.shape
    if min(rows, columns) < 3:
        return np.zeros(count, np.float32)
    step = max(1, rows * columns // _SAMPLES)
    middle = images[:, 1:-1:step]
    beside = images[:, 1:-1:step, :-2] + images[:, 1:-1:step, 2:]
    beside += images[:, 0:-2:step, 1:-1]
    beside += images[:, 2::step, 1:-1]
    away = np.abs(middle[:, :, 1:-1] - 0.25 * beside).reshape(count, -1)
    places = [min(away.shape[1] - 1, int(share * away.shape[1])) for share, _ in _QUANTILES]
    ordered = np.partition(away, places, axis=1)
    found = np.max([ordered[:, at] / of for at, (_, of) in zip(places, _QUANTILES, strict=True)], axis=0)
    return np.asarray(np.maximum(found, _LEAST_NOISE * away.mean(axis=1)) / _DIFFERENCE, dtype=np.float32)


def find_specks(images: Float32, noise: Float32 | None = None) -> Specks:
    """The specks of images ``(n, y, x)`` without NaN; their ``noise`` is measured if it is not given.

    Images of which more than a hundredth would be specks have none.
    """
    deviation = noise_deviation(images) if noise is None else noise
    count, rows, columns = images.shape
    found = [np.zeros((0, 4))]
    if min(rows, columns) >= 3:
        for seeds in _seeds(images, deviation):
            found += [_grow(images, deviation, part) for part in _parts(seeds)]
    flat, first = np.unique(
        np.concatenate([part[:, 0] for part in found]).astype(np.int64), return_index=True
    )
    levels, excess = np.concatenate([part[:, 1:3] for part in found])[first].T.astype(np.float32)
    image, place = np.divmod(flat, rows * columns)
    few = np.bincount(image, minlength=count) <= _MOST_SHARE * rows * columns
    kept = few[image]
    image, place = image[kept], place[kept]
    row, column = np.divmod(place, columns)
    return Specks(image, row, column, levels[kept], excess[kept], deviation[image])


def _parts(seeds: Int64) -> Iterator[Int64]:
    return (seeds[:, first : first + _AT_ONCE] for first in range(0, seeds.shape[1], _AT_ONCE))


def _seeds(images: Float32, noise: Float32) -> Iterator[Int64]:
    """``(3, k)`` image, row and column of pixels that differ from their neighbours, a strip at a time.

    Half of what makes a speck is enough: two of four neighbours may belong to it.
    """
    count, rows, columns = images.shape
    together = max(1, _STRIP_PIXELS // (rows * columns))
    height = rows if together > 1 else max(1, _STRIP_PIXELS // columns)
    for first in range(0, count, together):
        some = images[first : first + together]
        limit = 0.5 * STANDS_OUT * noise[first : first + together, None, None]
        for top in range(0, rows, height):
            found = np.array(np.nonzero(_differences(some, top, min(rows, top + height)) > limit))
            found[0] += first
            found[1] += top
            yield found


def _differences(images: Float32, top: int, end: int) -> Float32:
    """Of rows ``top`` to before ``end``: pixels less the mean of their neighbours, mirrored at borders."""
    count, rows, columns = images.shape
    padded = np.empty((count, end - top + 2, columns + 2), np.float32)
    padded[:, 1:-1, 1:-1] = images[:, top:end]
    padded[:, 0, 1:-1] = images[:, abs(top - 1)]
    padded[:, -1, 1:-1] = images[:, end if end < rows else rows - 2]
    padded[:, :, 0], padded[:, :, -1] = padded[:, :, 2], padded[:, :, -3]
    away = padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    away += padded[:, :-2, 1:-1]
    away += padded[:, 2:, 1:-1]
    away *= np.float32(0.25)
    away -= padded[:, 1:-1, 1:-1]
    np.abs(away, out=away)
    return away


def _grow(images: Float32, noise: Float32, seeds: Int64) -> NDArray[np.float64]:
    """``(k, 3)`` place among all pixels of all images, median around and excess of the specks' pixels."""
    image, row, column = seeds
    _, rows, columns = images.shape
    reach = np.arange(-_REACH, _REACH + 1)
    at_row, at_column = row[:, None, None] + reach[:, None], column[:, None, None] + reach
    inside = (at_row >= 0) & (at_row < rows) & (at_column >= 0) & (at_column < columns)
    at_row, at_column = np.clip(at_row, 0, rows - 1), np.clip(at_column, 0, columns - 1)
    window = np.where(inside, images[image[:, None, None], at_row, at_column], np.float32(np.nan))
    excess = window[:, _REACH, _REACH] - _median(window)
    deviation = noise[image]
    high = np.abs(excess) > STANDS_OUT * deviation
    high &= _bend(window) > 0.5 * STANDS_OUT * deviation
    image, window, inside, excess = image[high], window[high], inside[high], excess[high]
    above = np.sign(excess)[:, None, None] * (window - (window[:, _REACH, _REACH] - excess)[:, None, None])
    foot = np.maximum(_FOOT_NOISE * deviation[high], _FOOT * np.abs(excess))
    speck = _connected(inside & (above > foot[:, None, None]))
    ends = speck.copy()
    ends[:, 1:-1, 1:-1] = False  # may go on outside the window: a line, not a speck
    y, x = at_row[high], at_column[high]
    at_ends = (speck & ((y == 0) | (y == rows - 1))).any(axis=(1, 2)).astype(np.int64)
    at_ends += (speck & ((x == 0) | (x == columns - 1))).any(axis=(1, 2))
    small = (speck.sum(axis=(1, 2)) <= np.array(_MOST_PIXELS)[at_ends]) & ~ends.any(axis=(1, 2))
    speck, window = speck[small], window[small]
    level = _median(np.where(speck, np.float32(np.nan), window))
    own, y, x = np.nonzero(speck)
    place = image[small][own] * rows + row[high][small][own] + y - _REACH
    place = place * columns + column[high][small][own] + x - _REACH
    return np.stack([place, level[own], window[own, y, x] - level[own]], axis=1)


def _bend(window: Float32) -> Float32:
    """How far a pixel at the border of an image is off the slope inward of it; infinity inside the image.

    The end of a slope is above all pixels around it, but so much only as the next one is above those beyond.
    """
    least = np.full(len(window), np.inf, np.float32)
    lines = (window[:, :, _REACH], window[:, _REACH])
    for line in (*lines, *(line[:, ::-1] for line in lines)):
        ends = np.isnan(line[:, _REACH - 1])
        bend = np.abs(line[ends, _REACH] - 2 * line[ends, _REACH + 1] + line[ends, _REACH + 2])
        least[ends] = np.minimum(least[ends], bend)
    return least


def _median(window: Float32) -> Float32:
    """Median of each window ``(k, y, x)``, NaN left out."""
    values = np.sort(window.reshape(len(window), (2 * _REACH + 1) ** 2), axis=1)  # NaN last
    known = np.maximum(1, np.isfinite(values).sum(axis=1))
    each = np.arange(len(values))
    return np.asarray(0.5 * (values[each, (known - 1) // 2] + values[each, known // 2]), dtype=np.float32)


def _connected(above: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What hangs together with the middle of each window, over corners too, in as many steps as matter."""
    found = np.zeros_like(above)
    found[:, _REACH, _REACH] = above[:, _REACH, _REACH]
    for _ in range(_MOST_PIXELS[0]):
        padded = np.pad(found, ((0, 0), (1, 1), (1, 1)))
        rows = padded[:, :-2] | padded[:, 1:-1] | padded[:, 2:]
        found = (rows[:, :, :-2] | rows[:, :, 1:-1] | rows[:, :, 2:]) & above
    return found
