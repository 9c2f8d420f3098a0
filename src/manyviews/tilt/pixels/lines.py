"""Bad rows and columns of the detector: lines that lie off those beside them all along, or have no texture.

A bad line is off by about as much in every pixel; a detail of the specimen that happens to lie along a line
is there in a part of it. So what is judged is the median over a line of the differences between its pixels
and the mean of their neighbours on both sides, in units of the scatter of these differences.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

SAMPLED = 1024
"""Pixels of a line that are looked at, at least, if it has as many: medians of more are no better."""

_SIGMA_OF_MAD = 1.4826
_LEAST_SCATTER = 0.02  # of the spread of the image: images without noise have none
_OFF, _ALWAYS_OFF = 0.7, 0.15  # least offset in units of the scatter, in one image and in the mean of all
_THRESHOLD = 8.0  # standard errors, and times the usual offset of lines
# Of its offset, that lines beside a bad one are off in its direction, at most: on one side, in an image and
# in a mean for which bad lines were left out of their neighbours' comparison, and on either.
_BESIDE, _BESIDE_IN_MEAN, _AS_MUCH = -0.25, 0.25, 1.5
_NEIGHBOURS = 7
_NOISY, _DEAD = 3.0, 0.2  # scatter along a line over that of those beside it
_FEWEST = 32  # lines, and pixels of a line: statistics of fewer say nothing


@dataclass(frozen=True)
class LineLevels:
    """How far every line of one direction lies off those beside it, in one image.

    ``off (line,)`` is in units of the scatter, ``bad`` are the lines that are wrong by themselves, from 0.
    """

    off: Float64
    bad: Int64


def line_levels(image: Float32, axis: int, noise: float) -> LineLevels:
    """Of the rows (``axis`` 0) or columns (1) of an image ``(y, x)`` whose pixels have so much noise."""
    whole = image if axis == 0 else image.T
    count, length = whole.shape
    if min(count, length) < _FEWEST:
        return LineLevels(np.zeros(count), np.zeros(0, np.int64))
    step = _step(length)
    lines = np.ascontiguousarray(whole[:, ::step])
    length = lines.shape[1]
    least = _LEAST_SCATTER * float(lines.std(dtype=np.float64))
    off = _offsets(lines, least)
    threshold = _threshold(off, max(_OFF, _THRESHOLD / np.sqrt(length)))
    bad: set[int] = set()
    # the worst first: lines beside a bad one are off only as long as they are compared with it
    alone = _ends_at_once(off, _BESIDE)
    for line in np.argsort(-np.abs(off))[: int((np.abs(off) > threshold).sum())].tolist():
        if alone[line] and abs(_offset(lines, line, bad, least)) > threshold:
            bad.add(line)
    for line in sorted(bad):
        for near in (line - 1, line + 1):
            if 0 <= near < count:
                off[near] = _offset(lines, near, bad, least)
    bad |= set(_odd_texture(whole, step, noise).tolist())
    return LineLevels(off, np.array(sorted(bad), np.int64))


def always_bad(mean_off: Float64, views: int, length: int) -> Int64:
    """Numbers of the lines that are wrong a little in all ``views`` images of a stack.

    ``mean_off (line,)`` is the mean over its images of `LineLevels.off`, ``length`` the pixels of a line.
    """
    if views < 2 or len(mean_off) < _FEWEST:
        return np.zeros(0, np.int64)
    pixels = views * -(-length // _step(length))
    threshold = _threshold(mean_off, max(_ALWAYS_OFF, _THRESHOLD / np.sqrt(pixels)))
    found = np.abs(mean_off) > threshold
    # of neighbours only the worst: it is what puts the others off
    worst = np.abs(mean_off) == scipy.ndimage.maximum_filter1d(np.abs(mean_off), 3)
    return np.flatnonzero(found & worst & _ends_at_once(mean_off, _BESIDE_IN_MEAN))


def _ends_at_once(off: Float64, most: float) -> NDArray[np.bool_]:
    """Lines that are off without the lines on both sides being so: not where the specimen curves.

    On one side at least, no more than ``most`` of it.

    A line across the tilt axis shows the same slice in all images, whose mean is off there too.
    """
    padded, size = np.pad(off, 1), np.abs(off)
    beside = np.sign(off) * np.stack([padded[:-2], padded[2:]])
    return np.asarray((beside.min(axis=0) < most * size) & (beside.max(axis=0) <= _AS_MUCH * size))


def _step(length: int) -> int:
    """How far apart the pixels of a line are that are looked at."""
    return max(1, length // SAMPLED)


def _threshold(off: Float64, least: float) -> float:
    return max(least, _THRESHOLD * _SIGMA_OF_MAD * float(np.median(np.abs(off))))


def _offsets(lines: Float32, least: float) -> Float64:
    """`_offset` of all lines, none of which is known to be bad: what nearly every image ends with."""
    found = np.zeros(len(lines))
    differences = lines[1:-1] - np.float32(0.5) * (lines[:-2] + lines[2:])
    middle = _row_medians(differences)
    np.abs(differences - middle[:, None], out=differences)
    scale = np.maximum(_SIGMA_OF_MAD * _row_medians(differences).astype(np.float64), least)
    np.divide(middle, scale, out=found[1:-1], where=scale > 0.0)
    return found


def _row_medians(values: Float32) -> Float32:
    """Median of every row, to the bit: NumPy sorts rows in a fifth of the time that its median takes."""
    ordered, length = np.sort(values, axis=1), values.shape[1]
    medians: Float32 = ordered[:, (length - 1) // 2 : length // 2 + 1].mean(axis=1)
    return medians


def _offset(lines: Float32, line: int, bad: set[int], least: float) -> float:
    """Median difference of a line from the good ones on both sides, over the scatter of the differences."""
    before = next((near for near in range(line - 1, -1, -1) if near not in bad), None)
    after = next((near for near in range(line + 1, len(lines)) if near not in bad), None)
    beside = [lines[near] for near in (before, after) if near is not None]
    if len(beside) < 2:  # a slope would count at an edge
        return 0.0
    difference = lines[line] - 0.5 * (beside[0] + beside[1])
    middle = float(np.median(difference))
    scatter = _SIGMA_OF_MAD * float(np.median(np.abs(difference - middle)))
    scale = max(scatter, least)
    return middle / scale if scale > 0.0 else 0.0


def _odd_texture(lines: Float32, step: int, noise: float) -> Int64:
    """Lines with much more scatter than those beside them, or with none, by every ``step``-th pixel."""
    differences = lines[:, 1::step] - lines[:, :-1:step]
    scatter = _row_medians(np.abs(differences)).astype(np.float64)
    usual = scipy.ndimage.median_filter(scatter, _NEIGHBOURS, mode="nearest")
    textured = usual > 0.5 * noise
    return np.flatnonzero(textured & ((scatter > _NOISY * usual) | (scatter < _DEAD * usual)))
