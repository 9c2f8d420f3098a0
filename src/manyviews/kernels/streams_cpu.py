"""Single-axis projection as streams along the tilt axis, on the CPU.

In the frame of its tilt axis a volume is ``(z, s, w)``: s across the axis, w along it. A view turns z and s
into one detector coordinate

    t = cosine * (s - S // 2) + sine * (z - Z // 2) + offset        (pixels)

and leaves w alone, so that a projection is a sum of whole rows, each scaled by one number: no gather.

The footprint of a voxel on the detector is a triangle two bins wide (linear interpolation) smoothed over the
width c = max(|cosine|, |sine|) that the voxel lattice itself has on the detector. The triangle alone beats
against the lattice, which near 45 degrees makes ripples of 9 %; the smoothing has its zeros exactly there.
Its blur is removed to second order by the filter ``[-m/2, 1 + m, -m/2]`` along t (``sharpening`` m, the mean
variance of the weights of a view).

Both directions are sums held in registers (`manyviews.kernels.lanes`) in a fixed order, so results do not
depend on the number of threads: projection adds up the voxels nearest to a bin for that bin and the two
beside it, back-projection adds up for a voxel what several views hold under it. Neither loop has a branch
that depends on the angles. Rows are cut into pieces of `PIECE` elements and packed, at addresses that whole
registers are loaded from in one go; one piece of the volume, or of some views, stays in the cache.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray

from manyviews.kernels.inner import inner
from manyviews.kernels.lanes import add_scaled, aligned_empty, aligned_zeros, load, store, sum_of, zeros
from manyviews.kernels.stream_shares_cpu import PARKED, BinShares, PlaceShares, float64

PIECE = 64
PAD = 3
PACKED_PIECES = 4  # of detectors that are packed at a time, so that the packed copy stays small
TABLE_VIEWS = 128  # whose tables are made together, alike
_SWEEP_VIEWS = 16  # that take turns: as many as lie side by side in a line of the cache
_SWEEP_BYTES = 2**23  # of their detectors in a thread, at most
_COLUMN_BLOCK = 64
_SLICE_BLOCK = 4
_LINE = 16  # neighbours that are copied together where rows lie across: a line of the cache


@inner(nogil=True)
def _read(rows, start, steps, shape, out, first):  # type: ignore[no-untyped-def]
    """``out[i, first + j, q]`` for a block ``(i, j, q)`` of a shape, from element ``start`` of ``rows`` on.

    Neighbours in memory go first.
    """
    step_i, step_j, step_q = steps
    if step_i < min(step_j, step_q):
        for j in range(shape[1]):
            for q in range(shape[2]):
                for i in range(shape[0]):
                    out[i, first + j, q] = rows[start + i * step_i + j * step_j + q * step_q]
    elif step_j < step_q:
        for i in range(shape[0]):
            for q in range(shape[2]):
                for j in range(shape[1]):
                    out[i, first + j, q] = rows[start + i * step_i + j * step_j + q * step_q]
    else:
        for i in range(shape[0]):
            for j in range(shape[1]):
                for q in range(shape[2]):
                    out[i, first + j, q] = rows[start + i * step_i + j * step_j + q * step_q]


@inner(nogil=True)
def _write(values, shape, rows, start, steps):  # type: ignore[no-untyped-def]
    """The way back of `_read`, for ``first`` of 0."""
    step_i, step_j, step_q = steps
    if step_i < min(step_j, step_q):
        for j in range(shape[1]):
            for q in range(shape[2]):
                for i in range(shape[0]):
                    rows[start + i * step_i + j * step_j + q * step_q] = values[i, j, q]
    elif step_j < step_q:
        for i in range(shape[0]):
            for q in range(shape[2]):
                for j in range(shape[1]):
                    rows[start + i * step_i + j * step_j + q * step_q] = values[i, j, q]
    else:
        for i in range(shape[0]):
            for j in range(shape[1]):
                for q in range(shape[2]):
                    rows[start + i * step_i + j * step_j + q * step_q] = values[i, j, q]


@inner(nogil=True)
def _sharpen(rows, first, strength, out, place, count):  # type: ignore[no-untyped-def]
    """``rows (t, PIECE)`` from ``first`` on, filtered along t, to ``count`` rows from ``place`` on."""
    middle = out.dtype.type(1.0 + strength)
    side = out.dtype.type(-0.5 * strength)
    for t in range(count):
        for q in range(PIECE):
            out[place + t, q] = middle * rows[first + t, q] + side * (
                rows[first + t - 1, q] + rows[first + t + 1, q]
            )


@njit(inline="always")
def _views_together(bins, like):  # type: ignore[no-untyped-def]
    """How many views of so many bins take turns."""
    return max(1, min(_SWEEP_VIEWS, _SWEEP_BYTES // (bins * PIECE * like.itemsize)))


@njit(parallel=True, nogil=True, cache=True)
def _pack_volume(rows, steps, width, packed):  # type: ignore[no-untyped-def]
    """Copy ``(z, s, w)``, of `_in_a_row`, into ``packed (piece, z, s, PIECE)``, zeros behind the last w."""
    pieces, depth, columns = packed.shape[:3]
    blocks = (columns + _LINE - 1) // _LINE
    for task in prange(pieces * blocks):
        piece = task // blocks
        low = (task % blocks) * _LINE
        high = min(columns, low + _LINE)
        count = min(PIECE, width - piece * PIECE)
        start = low * steps[1] + piece * PIECE * steps[2]
        _read(rows, start, steps, (depth, high - low, count), packed[piece], low)
        if count < PIECE:
            packed[piece, :, low:high, count:] = 0


@njit(parallel=True, nogil=True, cache=True)
def _pack_detector(rows, steps, width, sharpening, packed):  # type: ignore[no-untyped-def]
    """Copy ``(view, t, w)``, of `_in_a_row`, sharpened along t, to ``packed (piece, view, t + 6, PIECE)``."""
    pieces, views = packed.shape[:2]
    bins = packed.shape[2] - 2 * PAD
    most = _views_together(bins, packed)
    blocks = (views + most - 1) // most
    for task in prange(blocks * pieces):
        piece = task % pieces
        first = task // pieces * most
        together = min(most, views - first)
        plain = np.zeros((together, bins + 2, PIECE), packed.dtype)
        start = first * steps[0] + piece * PIECE * steps[2]
        count = min(PIECE, width - piece * PIECE)
        for low in range(0, bins, _LINE):
            shape = together, min(_LINE, bins - low), count
            _read(rows, start + low * steps[1], steps, shape, plain, low + 1)
        for v in range(together):
            detector = packed[piece, first + v]
            detector[:PAD] = 0
            detector[bins + PAD :] = 0
            _sharpen(plain[v], 1, sharpening[first + v], detector, PAD, bins)


@njit(inline="always")
def _no_piece(array):  # type: ignore[no-untyped-def]
    """A row piece of zeros in registers."""
    return zeros(array), zeros(array), zeros(array), zeros(array)


@njit(inline="always")
def _add_piece(piece, weight, array, row):  # type: ignore[no-untyped-def]
    """``piece + weight * array[row]``."""
    return (
        add_scaled(piece[0], weight, array, row),
        add_scaled(piece[1], weight, array, row + 16),
        add_scaled(piece[2], weight, array, row + 32),
        add_scaled(piece[3], weight, array, row + 48),
    )


@njit(inline="always")
def _sum_pieces(one, other):  # type: ignore[no-untyped-def]
    return (
        sum_of(one[0], other[0]),
        sum_of(one[1], other[1]),
        sum_of(one[2], other[2]),
        sum_of(one[3], other[3]),
    )


@njit(inline="always")
def _add_to_row(array, row, piece):  # type: ignore[no-untyped-def]
    """Add a piece to the row of an array."""
    store(array, row, sum_of(load(array, row), piece[0]))
    store(array, row + 16, sum_of(load(array, row + 16), piece[1]))
    store(array, row + 32, sum_of(load(array, row + 32), piece[2]))
    store(array, row + 48, sum_of(load(array, row + 48), piece[3]))


@inner(nogil=True)
def _sum_voxels(packed, start, voxels, lower, upper, first, last, plain, place):  # type: ignore[no-untyped-def]
    """Add some voxels of a list to the three detector rows they share, of which one is nearest to all.

    The rows ``below``, ``centre`` and ``above`` it stay in registers meanwhile.
    """
    one = packed.dtype.type(1.0)
    below, centre, above = _no_piece(packed), _no_piece(packed), _no_piece(packed)
    for entry in range(first, last):
        low, high = lower[entry], upper[entry]
        row = start + np.int64(voxels[entry]) * PIECE
        below = _add_piece(below, low, packed, row)
        centre = _add_piece(centre, one - low - high, packed, row)
        above = _add_piece(above, high, packed, row)
    _add_to_row(plain, place - PIECE, below)
    _add_to_row(plain, place, centre)
    _add_to_row(plain, place + PIECE, above)


@inner(nogil=True)
def _unpack_images(plain, sharpening, views, bins, count, images, start, steps):  # type: ignore[no-untyped-def]
    """Sharpen ``plain (view, t + PAD, PIECE)`` along t and copy it to images ``(view, t, w)``."""
    # what missed the detector is in the padding: it must not leak back in
    plain[:, :PAD] = 0
    plain[:, bins + PAD :] = 0
    lines = np.empty((views, _LINE, PIECE), plain.dtype)
    for low in range(0, bins, _LINE):
        high = min(bins, low + _LINE)
        for v in range(views):
            _sharpen(plain[v], low + PAD, sharpening[v], lines[v], 0, high - low)
        _write(lines, (views, high - low, count), images, start + low * steps[1], steps)


@njit(parallel=True, nogil=True, cache=True)
def _project(  # type: ignore[no-untyped-def]
    packed, ends, reach, voxels, lower, upper, sharpening, first, last, bins, width, images, steps
):
    pieces, depth, columns = packed.shape[:3]
    views = len(sharpening)
    most = _views_together(bins, packed)
    blocks = (views + most - 1) // most
    rows = bins + 2 * PAD
    for task in prange(pieces * blocks):
        piece = task // blocks
        view_low = (task % blocks) * most
        view_high = min(views, view_low + most)
        plain = aligned_zeros(most * rows * PIECE, packed).reshape((most, rows, PIECE))
        start = piece * depth * columns * PIECE
        # views side by side: their rays through the same bin meet nearly the same voxels
        for bin_ in range(PARKED - 1, bins + PARKED + 1):
            for view in range(view_low, view_high):
                if reach[view, bin_, 0] < last[piece] and reach[view, bin_, 1] > first[piece]:
                    _sum_voxels(
                        packed, start, voxels[view], lower[view], upper[view], ends[view, bin_],
                        ends[view, bin_ + 1], plain, ((view - view_low) * rows + bin_ - PARKED + PAD) * PIECE,
                    )  # fmt: skip
        at = view_low * steps[0] + piece * PIECE * steps[2]
        _unpack_images(
            plain, sharpening[view_low:view_high], view_high - view_low, bins,
            min(PIECE, width - piece * PIECE), images, at, steps,
        )  # fmt: skip


@inner(nogil=True)
def _sum_views(packed, start, step, nearest, lower, upper, first, last, tile, place):  # type: ignore[no-untyped-def]
    """Add to a voxel row what some views hold under it; `_sum_voxels` transposed."""
    one = packed.dtype.type(1.0)
    below, centre, above = _no_piece(packed), _no_piece(packed), _no_piece(packed)
    for entry in range(first, last):
        low, high = lower[entry], upper[entry]
        row = start + (entry - first) * step + (np.int64(nearest[entry]) + PAD) * PIECE
        below = _add_piece(below, low, packed, row - PIECE)
        centre = _add_piece(centre, one - low - high, packed, row)
        above = _add_piece(above, high, packed, row + PIECE)
    _add_to_row(tile, place, _sum_pieces(_sum_pieces(below, above), centre))


@inner(nogil=True)
def _add_tile(tile, columns, count, rows, start, steps):  # type: ignore[no-untyped-def]
    """Add ``tile (z, s, PIECE)`` to ``(z, s, w)`` from element ``start`` of ``rows`` on."""
    step_z, step_s, step_w = steps
    for z in range(len(tile)):
        if step_s < step_w:
            for q in range(count):
                for s in range(columns):
                    rows[start + z * step_z + s * step_s + q * step_w] += tile[z, s, q]
        else:
            for s in range(columns):
                for q in range(count):
                    rows[start + z * step_z + s * step_s + q * step_w] += tile[z, s, q]


@njit(parallel=True, nogil=True, cache=True)
def _back_project(packed, frame, nearest, lower, upper, together, first, last, width, rows, steps):  # type: ignore[no-untyped-def]
    pieces, views = packed.shape[:2]
    depth, columns = frame
    step = packed.shape[2] * PIECE
    blocks = (columns + _COLUMN_BLOCK - 1) // _COLUMN_BLOCK
    for task in prange(pieces * blocks):
        piece = task // blocks
        block = task % blocks
        low = max(block * _COLUMN_BLOCK, first[piece])
        high = min((block + 1) * _COLUMN_BLOCK, last[piece])
        if low >= high:
            continue
        tile = aligned_zeros(depth * _COLUMN_BLOCK * PIECE, packed).reshape((depth, _COLUMN_BLOCK, PIECE))
        for view in range(0, views, together):
            count = min(together, views - view)
            start = (piece * views + view) * step
            for z_low in range(0, depth, _SLICE_BLOCK):
                for s in range(low, high):
                    for z in range(z_low, min(depth, z_low + _SLICE_BLOCK)):
                        entry = ((view // together * depth + z) * columns + s) * together
                        _sum_views(
                            packed, start, step, nearest, lower, upper, entry, entry + count, tile,
                            (z * _COLUMN_BLOCK + s - low) * PIECE,
                        )  # fmt: skip
        at = low * steps[1] + piece * PIECE * steps[2]
        _add_tile(tile, high - low, min(PIECE, width - piece * PIECE), rows, at, steps)


def _in_a_row(tensor: torch.Tensor) -> tuple[NDArray[Any], tuple[int, int, int]]:
    """All memory that a tensor of three axes reaches over, and the steps along its axes in elements.

    The same memory: a kernel may write to it. Numba would compile a kernel for each order of the axes, and
    another one where there are gaps.
    """
    a, b, c = tensor.stride()
    size = 1 + sum((n - 1) * step for n, step in zip(tensor.shape, (a, b, c), strict=True))
    return tensor.detach().as_strided((size if tensor.numel() else 0,), (1,)).numpy(), (a, b, c)


def _column_ranges(
    support: NDArray[np.int64] | None, columns: int, width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each row piece, the first and one-past-last column that holds anything."""
    pieces = -(-width // PIECE)
    if support is None:
        return np.zeros(pieces, np.int64), np.full(pieces, columns, np.int64)
    edges = np.arange(0, width, PIECE)
    first = np.minimum.reduceat(support[:, 0], edges).astype(np.int64)
    last = np.maximum.reduceat(support[:, 1], edges).astype(np.int64)
    return first, last


@dataclass(frozen=True)
class PackedFrame:
    """A volume in the frame of a tilt axis, ready to be projected many times; see `pack_frame`."""

    rows: NDArray[Any]
    width: int


def pack_frame(volume: torch.Tensor) -> PackedFrame:
    """Pack a volume ``(z, s, w)`` of any strides for `project_streams`."""
    depth, columns, width = volume.shape
    rows, steps = _in_a_row(volume)
    packed = aligned_empty((-(-width // PIECE), depth, columns, PIECE), rows.dtype)
    _pack_volume(rows, steps, width, packed)
    return PackedFrame(packed, width)


def project_streams(
    frame: PackedFrame,
    cosines: torch.Tensor,
    sines: torch.Tensor,
    offsets: torch.Tensor,
    sharpening: torch.Tensor,
    out: torch.Tensor,
    support: NDArray[np.int64] | None = None,
) -> torch.Tensor:
    """Project a volume in the frame of its tilt axis.

    Parameters
    ----------
    frame
        The volume, from `pack_frame`.
    cosines, sines, offsets, sharpening
        ``(view,)``, see the module docstring; offsets in pixels, they include the detector centre.
    out
        ``(view, t, w)``, any strides; overwritten and returned.
    support
        ``(w, 2)`` column range outside of which the volume is zero, for every w, or None.
    """
    rows = frame.rows
    depth, columns = rows.shape[1:3]
    first, last = _column_ranges(support, columns, frame.width)
    bins = out.shape[1]
    for views in _view_groups(len(out)):
        arguments = cosines[views], sines[views], offsets[views]
        lists = BinShares.of(arguments, bins, (depth, columns), rows.dtype)
        tables = lists.ends, lists.reach, lists.voxels, lists.lower, lists.upper
        strength, images = float64(sharpening[views]), _in_a_row(out[views])
        _project(rows, *tables, strength, first, last, bins, frame.width, *images)
    return out


def back_project_streams(
    detector: torch.Tensor,
    cosines: torch.Tensor,
    sines: torch.Tensor,
    offsets: torch.Tensor,
    sharpening: torch.Tensor,
    out: torch.Tensor,
    support: NDArray[np.int64] | None = None,
) -> torch.Tensor:
    """Exact adjoint of `project_streams`: ``detector (view, t, w)`` is added to ``out (z, s, w)``.

    Both may have any strides; outside ``support`` nothing is added. Returns ``out``.
    """
    count, bins, width = detector.shape
    first, last = _column_ranges(support, out.shape[1], width)
    pieces, together = len(first), min(len(first), PACKED_PIECES)
    most = together * min(count, TABLE_VIEWS) * (bins + 2 * PAD) * PIECE
    packed = aligned_empty((most,), _in_a_row(detector)[0].dtype)
    frame = out.shape[0], out.shape[1]
    for views in _view_groups(count):
        shares = PlaceShares.of((cosines[views], sines[views], offsets[views]), bins, frame, packed.dtype)
        tables = shares.nearest.ravel(), shares.lower.ravel(), shares.upper.ravel(), shares.nearest.shape[3]
        strength = float64(sharpening[views])
        for piece in range(0, pieces, together):
            own = slice(piece, min(piece + together, pieces))
            some = slice(own.start * PIECE, min(own.stop * PIECE, width))
            length, shape = (
                some.stop - some.start,
                (own.stop - own.start, len(strength), bins + 2 * PAD, PIECE),
            )
            room = packed[: math.prod(shape)].reshape(shape)
            _pack_detector(*_in_a_row(detector[views, :, some]), length, strength, room)
            _back_project(room, frame, *tables, first[own], last[own], length, *_in_a_row(out[:, :, some]))
    return out


def _view_groups(count: int) -> list[slice]:
    """Views whose tables are made together."""
    return [slice(low, min(low + TABLE_VIEWS, count)) for low in range(0, count, TABLE_VIEWS)]
