"""Log likelihoods of poses near given ones, and the posterior's sums over a stack of scores, on the CPU.

Scores are log probabilities without the terms that do not depend on the pose. Every image, and every pose
around which is searched, is worked on by one thread, so results do not depend on the number of threads.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from manyviews.kernels.inner import inner
from manyviews.kernels.rows import in_a_row
from manyviews.kernels.slices_cpu import BLOCK, SCRATCH, float_view, read_slice, split_points

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
_FAST = {"contract", "reassoc", "nsz", "arcp", "afn"}
_NEGLIGIBLE = -25.0  # e^-25 is below what float32 adds to 1
_STRIDE = 128  # rotations whose highest score is looked at before any exponential is taken


@inner(fastmath=_FAST, cache=True)
def fill_phases(cosine, sine, kx, ky, count, turn_x, turn_y, table):  # type: ignore[no-untyped-def]
    """Cosine and sine of ``turn_x kx + turn_y ky`` at ``count`` points, by products of two small tables.

    ``table`` is work space ``(4, 2 r + 1)`` for frequencies of -r to r.
    """
    reach = table.shape[1] // 2
    for k in range(2 * reach + 1):
        table[0, k] = math.cos(turn_x * (k - reach))
        table[1, k] = math.sin(turn_x * (k - reach))
        table[2, k] = math.cos(turn_y * (k - reach))
        table[3, k] = math.sin(turn_y * (k - reach))
    for p in range(count):
        i = int(kx[p]) + reach
        j = int(ky[p]) + reach
        cosine[p] = table[0, i] * table[2, j] - table[1, i] * table[3, j]
        sine[p] = table[0, i] * table[3, j] + table[1, i] * table[2, j]


def reach_of(kx: Float32, ky: Float32) -> int:
    """The highest frequency along x or y, for the table of `fill_phases`.

    Not within the kernels: Numba makes parallel loops of it, which take seconds to compile.
    """
    return int(max(np.abs(kx).max(), np.abs(ky).max()))


@njit(parallel=True, nogil=True, fastmath=_FAST, cache=True)
def _score_around(  # type: ignore[no-untyped-def]
    floats, padding, kx, ky, count, values, value_row, ctf, ctf_row, precision, group, image, rotations,
    shifts, turns, steps, waves, radian, prior, reach, out,
):  # fmt: skip
    for q in prange(len(image)):
        i = image[q]
        scratch = np.empty(SCRATCH, np.float32)
        cells = np.empty(BLOCK, np.int64)
        table = np.empty((4, 2 * reach + 1), np.float32)
        data = np.empty((2, count), np.float32)
        power = np.empty(count, np.float32)
        product = np.empty((2, count), np.float32)
        seen = np.empty(2 * count, np.float32)
        turn_x = -radian * shifts[q, 0]
        turn_y = -radian * shifts[q, 1]
        fill_phases(product[0], product[1], kx, ky, count, turn_x, turn_y, table)
        own_values = values[i * value_row : i * value_row + 2 * count]
        own_ctf = ctf[i * ctf_row : i * ctf_row + count]
        for p in range(count):
            weight = own_ctf[p] * precision[group[i], p]
            real = own_values[2 * p]
            imaginary = own_values[2 * p + 1]
            data[0, p] = weight * (real * product[0, p] - imaginary * product[1, p])
            data[1, p] = weight * (real * product[1, p] + imaginary * product[0, p])
            power[p] = weight * own_ctf[p]
        turned = np.empty((3, 3), np.float32)
        for j in range(len(turns)):
            for a in range(3):
                for b in range(3):
                    turned[a, b] = 0.0
                    for c in range(3):
                        turned[a, b] += turns[j, a, c] * rotations[q, c, b]
            read_slice(floats, turned, kx, ky, count, padding, scratch, cells, seen)
            norm = np.float32(0.0)
            for p in range(count):
                real = seen[2 * p]
                imaginary = seen[2 * p + 1]
                norm += power[p] * (real * real + imaginary * imaginary)
                product[0, p] = data[0, p] * real + data[1, p] * imaginary
                product[1, p] = data[1, p] * real - data[0, p] * imaginary
            for k in range(len(steps)):
                cross = np.float32(0.0)
                for p in range(count):
                    cross += product[0, p] * waves[k, 0, p] - product[1, p] * waves[k, 1, p]
                x = shifts[q, 0] + steps[k, 0]
                y = shifts[q, 1] + steps[k, 1]
                out[q, j, k] = 2 * cross - norm - prior * (x * x + y * y)


def score_around(
    grid: NDArray[np.complex64],
    padding: int,
    points: NDArray[np.int32],
    box: int,
    values: NDArray[np.complex64],
    ctf: Float32,
    precision: Float32,
    group: NDArray[np.int32],
    image: Int64,
    rotations: Float32,
    shifts: Float32,
    turns: Float32,
    steps: Float32,
    shift_sigma: float,
) -> Float32:
    """Scores of all turned and shifted neighbours of given poses.

    Parameters
    ----------
    grid, padding
        Half grid of the volume's transform and its oversampling, see `manyviews.kernels.slices_cpu`.
    points
        ``(P, 2)`` frequencies.
    box
        Pixels along an image's side.
    values, ctf
        ``(N, P)`` the images' coefficients and transfer functions; columns beyond P are not looked at.
    precision
        ``(G, P)`` weight of a squared difference in the log likelihood, for each noise group.
    group
        ``(N,)`` noise group of each image.
    image, rotations, shifts
        ``(Q,)``, ``(Q, 3, 3)``, ``(Q, 2)``: whose pose and which; shifts are in pixels and centre the image.
    turns
        ``(J, 3, 3)`` rotations of the image's frame, applied after the pose's own.
    steps
        ``(K, 2)`` pixels, added to the shift.
    shift_sigma
        Standard deviation of the prior of shifts, in pixels.

    Returns
    -------
    ``(Q, J, K)`` float32.
    """
    kx, ky = split_points(points, np.float32)
    radian = 2 * np.pi / box
    angle = -radian * (steps.astype(np.float64) @ points.T.astype(np.float64))
    waves = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    out = np.empty((len(image), len(turns), len(steps)), np.float32)
    _score_around(
        float_view(grid), padding, kx, ky, len(points), *in_a_row(np.asarray(values.view(np.float32))),
        *in_a_row(ctf), np.ascontiguousarray(precision), group, image, np.ascontiguousarray(rotations),
        np.ascontiguousarray(shifts), turns, steps, waves, np.float32(radian),
        np.float32(0.5 / shift_sigma**2), reach_of(kx, ky), out,
    )  # fmt: skip
    return out


@inner(fastmath=_FAST, forceinline=True)
def _block_tops(cross, power, prior, tops):  # type: ignore[no-untyped-def]
    """Highest score of every block of rotations at every shift; returns the highest of all."""
    shifts, rotations = cross.shape
    best = np.float32(-np.inf)
    for t in range(shifts):
        for block in range(tops.shape[1]):
            first = block * _STRIDE
            top = np.float32(-np.inf)
            for m in range(first, min(first + _STRIDE, rotations)):
                top = max(top, np.float32(2.0) * cross[t, m] - power[m])
            tops[t, block] = top + prior[t]
            best = max(best, tops[t, block])
    return best


@inner(fastmath=_FAST, forceinline=True)
def _exponentials(cross, power, offset, first):  # type: ignore[no-untyped-def]
    """Sum over one block."""
    # Nothing is stored in the loop: else the compiler makes two of it, with sums in different orders, and
    # chooses between them by where the arrays happen to lie.
    total = 0.0
    for m in range(first, min(first + _STRIDE, len(cross))):
        total += math.exp(np.float32(2.0) * cross[m] - power[m] + offset)
    return total


@inner(fastmath=_FAST, forceinline=True)
def _sample_one(cross, power, prior, offset, chosen):  # type: ignore[no-untyped-def]
    """Draw poses of one image; returns the logarithm of the sum."""
    shifts, rotations = cross.shape
    draws = len(chosen)
    tops = np.empty((shifts, (rotations + _STRIDE - 1) // _STRIDE), np.float32)
    best = _block_tops(cross, power, prior, tops)
    total = 0.0
    sums = np.zeros(tops.shape, np.float64)
    for t in range(shifts):
        for block in range(tops.shape[1]):
            if tops[t, block] - best < _NEGLIGIBLE:
                continue
            sums[t, block] = _exponentials(cross[t], power, prior[t] - best, block * _STRIDE)
            total += sums[t, block]
    step = total / draws
    following = offset * step
    passed = 0.0
    drawn = 0
    last = 0
    for t in range(shifts):
        for block in range(tops.shape[1]):
            if passed + sums[t, block] <= following:
                passed += sums[t, block]
                continue
            first = block * _STRIDE
            for m in range(first, min(first + _STRIDE, rotations)):
                passed += math.exp(np.float32(2.0) * cross[t, m] - power[m] + (prior[t] - best))
                if passed > following:
                    last = t * rotations + m
                while drawn < draws and passed > following:
                    chosen[drawn] = last
                    drawn += 1
                    following = (drawn + offset) * step
    while drawn < draws:
        chosen[drawn] = last
        drawn += 1
    return best + math.log(total)


@njit(parallel=True, nogil=True, fastmath=_FAST, cache=True)
def _sample(cross, power, prior, offsets, chosen, log_sums):  # type: ignore[no-untyped-def]
    for b in prange(len(cross)):
        log_sums[b] = _sample_one(cross[b], power[b], prior, offsets[b], chosen[b])


def sample_posterior(
    cross: Float32, power: Float32, prior: Float32, offsets: NDArray[np.float64], draws: int
) -> tuple[Int64, NDArray[np.float64]]:
    """Systematic samples of the posterior over all poses of a grid.

    A pose of probability p is drawn ``floor(draws p)`` or ``ceil(draws p)`` times, ``draws p`` on average:
    unbiased, and exact for the poses that matter once few of them do.

    Parameters
    ----------
    cross, power, prior
        ``(B, T, M)``, ``(B, M)`` and ``(T,)`` for B images, T shifts, M rotations: the score of a pose is
        ``2 cross - power + prior``.
    offsets
        ``(B,)`` uniform random numbers in [0, 1).
    draws
        Samples an image.

    Returns
    -------
    tuple
        ``(B, draws)`` flat index ``t * M + m`` of each sample, increasing, and ``(B,)`` float64 logarithm of
        the sum of ``exp(score)``.
    """
    chosen = np.empty((len(cross), draws), np.int64)
    log_sums = np.empty(len(cross), np.float64)
    _sample(cross, power, prior, offsets, chosen, log_sums)
    return chosen, log_sums


@inner(fastmath=_FAST, forceinline=True)
def _best_of_one(cross, power, prior, margin, index):  # type: ignore[no-untyped-def]
    """The best rotations of one image; returns how many."""
    shifts, rotations = cross.shape
    most = len(index)
    height = np.empty(rotations, np.float32)
    for m in range(rotations):
        height[m] = -np.inf
    for t in range(shifts):
        for m in range(rotations):
            height[m] = max(height[m], np.float32(2.0) * cross[t, m] + prior[t])
    floor = np.float32(-np.inf)
    for m in range(rotations):
        height[m] -= power[m]
        floor = max(floor, height[m])
    floor -= margin
    found = 0
    for m in range(rotations):
        if height[m] < floor:
            continue
        # insertion into a short sorted list
        slot = found if found < most else most - 1
        if found == most and height[index[slot]] >= height[m]:
            continue
        while slot > 0 and height[index[slot - 1]] < height[m]:
            index[slot] = index[slot - 1]
            slot -= 1
        index[slot] = m
        found = min(found + 1, most)
    for slot in range(found):
        m = index[slot]
        place = 0
        for t in range(1, shifts):
            if 2 * cross[t, m] + prior[t] > 2 * cross[place, m] + prior[place]:
                place = t
        index[slot] = place * rotations + m
    return found


@njit(parallel=True, nogil=True, fastmath=_FAST, cache=True)
def _best(cross, power, prior, margin, index, count):  # type: ignore[no-untyped-def]
    for b in prange(len(cross)):
        count[b] = _best_of_one(cross[b], power[b], prior, margin, index[b])


def best_rotations(
    cross: Float32, power: Float32, prior: Float32, most: int, margin: float
) -> tuple[Int64, Int64]:
    """The best rotations of each image, each with its best shift.

    Parameters
    ----------
    cross, power, prior
        As in `sample_posterior`.
    most
        At most so many rotations an image.
    margin
        Leave out rotations that are worse than the best by more.

    Returns
    -------
    tuple
        ``(B, most)`` flat index ``t * M + m``, best first, and ``(B,)`` how many of them are valid.
    """
    index = np.zeros((len(cross), most), np.int64)
    count = np.zeros(len(cross), np.int64)
    _best(cross, power, prior, np.float32(margin), index, count)
    return index, count
