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
depend on the number of threads. Rows are cut into pieces of `PIECE` elements and packed so that one piece of
the whole volume stays in the second-level cache while all views pass over it.
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
from manyviews.kernels.lanes import add_scaled, load, scale_add, store

PIECE = 64
PAD = 3
PACKED_PIECES = 4  # of detectors that are packed at a time, so that the packed copy stays small
_SWEEP_VIEWS = 8
_COLUMN_BLOCK = 64
_VIEW_BLOCK = 16


@njit(inline="always")
def _side_weight(distance, half):  # type: ignore[no-untyped-def]
    """Footprint at ``distance >= half`` bins from its centre, ``half`` of the smoothing width."""
    inside = max(0.0, 1.0 + half - distance)
    curved = min(inside, 2.0 * half)
    return curved * curved * (0.25 / half) + inside - curved


@njit(parallel=True, nogil=True, cache=True)
def _share(cosines, sines, offsets, bins, nearest, lower, upper):  # type: ignore[no-untyped-def]
    """How every (view, z, s) is shared: its nearest bin and the weights of the bins below and above.

    The rest belongs to the nearest bin. What falls outside the detector is parked two bins beyond its ends.
    """
    views, depth, columns = nearest.shape
    for task in prange(views * depth):
        view = task // depth
        z = task % depth
        half = 0.5 * max(abs(cosines[view]), abs(sines[view]))
        base = offsets[view] + sines[view] * (z - depth // 2) - cosines[view] * (columns // 2)
        for s in range(columns):
            t = base + cosines[view] * s
            place = min(max(math.floor(t + 0.5), -2.0), bins + 1.0)
            difference = min(max(t - place, -0.5), 0.5)
            nearest[view, z, s] = int(place)
            lower[view, z, s] = _side_weight(1.0 + difference, half)
            upper[view, z, s] = _side_weight(1.0 - difference, half)


@njit(parallel=True, nogil=True, cache=True)
def _pack_volume(rows, steps, width, packed):  # type: ignore[no-untyped-def]
    """Copy ``(z, s, w)``, of `_in_a_row`, into ``packed (piece, z, s, PIECE)``."""
    pieces, depth, columns = packed.shape[:3]
    step_z, step_s, step_w = steps
    depth_first = step_z < step_w
    for task in prange(columns * pieces):
        s = task // pieces
        piece = task % pieces
        first = piece * PIECE
        count = min(PIECE, width - first)
        start = s * step_s + first * step_w
        if depth_first:
            for q in range(count):
                for z in range(depth):
                    packed[piece, z, s, q] = rows[start + z * step_z + q * step_w]
        else:
            for z in range(depth):
                for q in range(count):
                    packed[piece, z, s, q] = rows[start + z * step_z + q * step_w]


@njit(parallel=True, nogil=True, cache=True)
def _pack_detector(rows, steps, width, sharpening, packed):  # type: ignore[no-untyped-def]
    """Copy ``(view, t, w)``, of `_in_a_row`, sharpened along t, to ``packed (piece, view, t + 6, PIECE)``."""
    pieces, views = packed.shape[:2]
    bins = packed.shape[2] - 2 * PAD
    step_view, step_t, step_w = steps
    for task in prange(views * pieces):
        view = task // pieces
        piece = task % pieces
        first = piece * PIECE
        count = min(PIECE, width - first)
        plain = np.zeros((bins + 2, PIECE), packed.dtype)
        start = view * step_view + first * step_w
        if step_t < step_w:
            for q in range(count):
                for t in range(bins):
                    plain[t + 1, q] = rows[start + t * step_t + q * step_w]
        else:
            for t in range(bins):
                for q in range(count):
                    plain[t + 1, q] = rows[start + t * step_t + q * step_w]
        middle = packed.dtype.type(1.0 + sharpening[view])
        side = packed.dtype.type(-0.5 * sharpening[view])
        for t in range(bins):
            for q in range(PIECE):
                packed[piece, view, t + PAD, q] = middle * plain[t + 1, q] + side * (
                    plain[t, q] + plain[t + 2, q]
                )


@njit(inline="always")
def _load_piece(array, row):  # type: ignore[no-untyped-def]
    """A row piece in registers."""
    return load(array, row), load(array, row + 16), load(array, row + 32), load(array, row + 48)


@njit(inline="always")
def _store_piece(array, row, piece):  # type: ignore[no-untyped-def]
    store(array, row, piece[0])
    store(array, row + 16, piece[1])
    store(array, row + 32, piece[2])
    store(array, row + 48, piece[3])


@njit(inline="always")
def _add_piece(piece, weight, array, row):  # type: ignore[no-untyped-def]
    """``piece + weight * array[row]``."""
    return (
        add_scaled(piece[0], weight, array, row),
        add_scaled(piece[1], weight, array, row + 16),
        add_scaled(piece[2], weight, array, row + 32),
        add_scaled(piece[3], weight, array, row + 48),
    )


@inner(nogil=True)
def _sweep(packed, start, nearest, lower, upper, first, last, plain, place):  # type: ignore[no-untyped-def]
    """Add one row of voxels, swept along s, to the detector rows of a view.

    The three detector rows under the footprint, ``below``, ``centre`` and ``above`` it, stay in registers and
    move on with it.
    """
    one = packed.dtype.type(1.0)
    bin_ = nearest[first]
    row = place + (bin_ + PAD) * PIECE
    below = _load_piece(plain, row - PIECE)
    centre = _load_piece(plain, row)
    above = _load_piece(plain, row + PIECE)
    for s in range(first, last):
        if nearest[s] != bin_:
            row = place + (bin_ + PAD) * PIECE
            _store_piece(plain, row - PIECE, below)
            if nearest[s] == bin_ + 1:
                below = centre
                centre = above
                row += PIECE
            else:
                _store_piece(plain, row, centre)
                _store_piece(plain, row + PIECE, above)
                row = place + (nearest[s] + PAD) * PIECE
                below = _load_piece(plain, row - PIECE)
                centre = _load_piece(plain, row)
            above = _load_piece(plain, row + PIECE)
            bin_ = nearest[s]
        row = start + s * PIECE
        below = _add_piece(below, lower[s], packed, row)
        centre = _add_piece(centre, one - lower[s] - upper[s], packed, row)
        above = _add_piece(above, upper[s], packed, row)
    row = place + (bin_ + PAD) * PIECE
    _store_piece(plain, row - PIECE, below)
    _store_piece(plain, row, centre)
    _store_piece(plain, row + PIECE, above)


@inner(nogil=True)
def _unpack_image(rows, count, images, start, step_t, step_w):  # type: ignore[no-untyped-def]
    """Copy one piece ``rows (t, PIECE)`` to an image ``(t, w)``, from its element ``start`` on."""
    if step_t < step_w:
        for q in range(count):
            for t in range(len(rows)):
                images[start + t * step_t + q * step_w] = rows[t, q]
    else:
        for t in range(len(rows)):
            for q in range(count):
                images[start + t * step_t + q * step_w] = rows[t, q]


@njit(parallel=True, nogil=True, cache=True)
def _project(  # type: ignore[no-untyped-def]
    packed, nearest, lower, upper, sharpening, first, last, bins, width, images, steps
):
    pieces, depth, columns = packed.shape[:3]
    views = len(sharpening)
    step_view, step_t, step_w = steps
    blocks = (views + _SWEEP_VIEWS - 1) // _SWEEP_VIEWS
    rows = bins + 2 * PAD
    for task in prange(pieces * blocks):
        piece = task // blocks
        view_low = (task % blocks) * _SWEEP_VIEWS
        view_high = min(views, view_low + _SWEEP_VIEWS)
        plain = np.zeros((_SWEEP_VIEWS, rows, PIECE), packed.dtype)
        for column in range(first[piece], last[piece], _COLUMN_BLOCK):
            end = min(last[piece], column + _COLUMN_BLOCK)
            for view in range(view_low, view_high):
                for z in range(depth):
                    _sweep(
                        packed, (piece * depth + z) * columns * PIECE, nearest[view, z], lower[view, z],
                        upper[view, z], column, end, plain, (view - view_low) * rows * PIECE,
                    )  # fmt: skip
        count = min(PIECE, width - piece * PIECE)
        for view in range(view_low, view_high):
            middle = packed.dtype.type(1.0 + sharpening[view])
            side = packed.dtype.type(-0.5 * sharpening[view])
            image = plain[view - view_low]
            # what missed the detector is parked in the padding: it must not leak back in
            image[:PAD] = 0
            image[bins + PAD :] = 0
            row = np.empty((bins, PIECE), packed.dtype)
            for t in range(bins):
                for q in range(PIECE):
                    row[t, q] = middle * image[t + PAD, q] + side * (
                        image[t + PAD - 1, q] + image[t + PAD + 1, q]
                    )
            _unpack_image(row, count, images, view * step_view + piece * PIECE * step_w, step_t, step_w)


@njit(inline="always")
def _mix(weight_below, below, weight_centre, centre, weight_above, above, total):  # type: ignore[no-untyped-def]
    return scale_add(
        weight_below, below, scale_add(weight_centre, centre, scale_add(weight_above, above, total))
    )


@inner(nogil=True)
def _sweep_back(packed, start, nearest, lower, upper, first, last, tile, place):  # type: ignore[no-untyped-def]
    """Add to one row of voxels, swept along s, what a view holds under them; `_sweep` transposed."""
    one = packed.dtype.type(1.0)
    bin_ = nearest[first]
    row = start + (bin_ + PAD) * PIECE
    below = _load_piece(packed, row - PIECE)
    centre = _load_piece(packed, row)
    above = _load_piece(packed, row + PIECE)
    for s in range(first, last):
        if nearest[s] != bin_:
            row = start + (nearest[s] + PAD) * PIECE
            if nearest[s] == bin_ + 1:
                below = centre
                centre = above
            else:
                below = _load_piece(packed, row - PIECE)
                centre = _load_piece(packed, row)
            above = _load_piece(packed, row + PIECE)
            bin_ = nearest[s]
        low, high = lower[s], upper[s]
        middle = one - low - high
        row = place + (s - first) * PIECE
        store(tile, row, _mix(low, below[0], middle, centre[0], high, above[0], load(tile, row)))
        row += 16
        store(tile, row, _mix(low, below[1], middle, centre[1], high, above[1], load(tile, row)))
        row += 16
        store(tile, row, _mix(low, below[2], middle, centre[2], high, above[2], load(tile, row)))
        row += 16
        store(tile, row, _mix(low, below[3], middle, centre[3], high, above[3], load(tile, row)))


@njit(parallel=True, nogil=True, cache=True)
def _back_project(packed, nearest, lower, upper, first, last, width, rows, steps):  # type: ignore[no-untyped-def]
    pieces, views = packed.shape[:2]
    bins = packed.shape[2] - 2 * PAD
    depth, columns = nearest.shape[1:]
    step_z, step_s, step_w = steps
    blocks = (columns + _COLUMN_BLOCK - 1) // _COLUMN_BLOCK
    for task in prange(pieces * blocks):
        piece = task // blocks
        block = task % blocks
        low = max(block * _COLUMN_BLOCK, first[piece])
        high = min((block + 1) * _COLUMN_BLOCK, last[piece])
        if low >= high:
            continue
        start = piece * views * (bins + 2 * PAD) * PIECE
        tile = np.zeros((depth, _COLUMN_BLOCK, PIECE), packed.dtype)
        for view_block in range(0, views, _VIEW_BLOCK):
            for z in range(depth):
                for view in range(view_block, min(views, view_block + _VIEW_BLOCK)):
                    _sweep_back(
                        packed, start + view * (bins + 2 * PAD) * PIECE, nearest[view, z], lower[view, z],
                        upper[view, z], low, high, tile, z * _COLUMN_BLOCK * PIECE,
                    )  # fmt: skip
        count = min(PIECE, width - piece * PIECE)
        for z in range(depth):
            for s in range(low, high):
                at = z * step_z + s * step_s + piece * PIECE * step_w
                for q in range(count):
                    rows[at + q * step_w] += tile[z, s - low, q]


def _in_a_row(tensor: torch.Tensor) -> tuple[NDArray[Any], tuple[int, int, int]]:
    """All memory that a tensor of three axes reaches over, and the steps along its axes in elements.

    The same memory: a kernel may write to it. Numba would compile a kernel for each order of the axes, and
    another one where there are gaps.
    """
    a, b, c = tensor.stride()
    size = 1 + sum((n - 1) * step for n, step in zip(tensor.shape, (a, b, c), strict=True))
    return tensor.detach().as_strided((size if tensor.numel() else 0,), (1,)).numpy(), (a, b, c)


def _float64(values: torch.Tensor) -> NDArray[np.float64]:
    return np.ascontiguousarray(values.detach().cpu().numpy().astype(np.float64))


def _shares(
    arguments: tuple[torch.Tensor, ...], bins: int, frame: tuple[int, int], dtype: np.dtype[np.floating]
) -> tuple[NDArray[np.int32], NDArray[np.floating], NDArray[np.floating]]:
    """Tables of `_share`, ``(view, z, s)``."""
    cosines, sines, offsets = (_float64(values) for values in arguments)
    shape = (len(cosines), *frame)
    nearest, lower, upper = np.empty(shape, np.int32), np.empty(shape, dtype), np.empty(shape, dtype)
    _share(cosines, sines, offsets, bins, nearest, lower, upper)
    return nearest, lower, upper


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
    packed = np.zeros((-(-width // PIECE), depth, columns, PIECE), rows.dtype)
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
        ``(w, 2)`` column range that can be non-zero for every w (elsewhere the volume is not read), or None.
    """
    rows = frame.rows
    depth, columns = rows.shape[1:3]
    first, last = _column_ranges(support, columns, frame.width)
    bins = out.shape[1]
    tables = _shares((cosines, sines, offsets), bins, (depth, columns), rows.dtype)
    _project(rows, *tables, _float64(sharpening), first, last, bins, frame.width, *_in_a_row(out))
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
    views, bins, width = detector.shape
    first, last = _column_ranges(support, out.shape[1], width)
    pieces, together = len(first), min(len(first), PACKED_PIECES)
    packed = np.zeros((together, views, bins + 2 * PAD, PIECE), _in_a_row(detector)[0].dtype)
    tables = _shares((cosines, sines, offsets), bins, (out.shape[0], out.shape[1]), packed.dtype)
    for piece in range(0, pieces, together):
        own = slice(piece, min(piece + together, pieces))
        some = slice(own.start * PIECE, min(own.stop * PIECE, width))
        length, room = some.stop - some.start, packed[: own.stop - own.start]
        _pack_detector(*_in_a_row(detector[:, :, some]), length, _float64(sharpening), room)
        _back_project(room, *tables, first[own], last[own], length, *_in_a_row(out[:, :, some]))
    return out


def footprint_variance(
    cosines: NDArray[np.float64],
    sines: NDArray[np.float64],
    offsets: NDArray[np.float64],
    depth: int,
    columns: int,
) -> NDArray[np.float64]:
    """Mean variance of the weights of every view over the voxels of a frame, in squared bins: ``(view,)``."""
    out = np.empty(len(cosines))
    _variances(cosines, sines, offsets, depth, columns, out)
    return out


@njit(parallel=True, nogil=True, cache=True)
def _variances(cosines, sines, offsets, depth, columns, out):  # type: ignore[no-untyped-def]
    for view in prange(len(cosines)):
        half = 0.5 * max(abs(cosines[view]), abs(sines[view]))
        total = 0.0
        for z in range(depth):
            for s in range(columns):
                t = cosines[view] * (s - columns // 2) + sines[view] * (z - depth // 2) + offsets[view]
                d = t - math.floor(t + 0.5)
                lower = _side_weight(1.0 + d, half)
                upper = _side_weight(1.0 - d, half)
                total += (1.0 - lower - upper) * d * d + lower * (1.0 + d) ** 2 + upper * (1.0 - d) ** 2
        out[view] = total / (depth * columns)
