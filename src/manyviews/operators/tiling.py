"""Tiles of the lateral plane, so that the work space of a convolution does not grow with the volume.

Each tile of the result is computed from the tile and a halo as wide as the kernel reaches (overlap-save).
What wraps around on the small cyclic grid falls into the halo and is thrown away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import scipy.fft

from manyviews.errors import InputError
from manyviews.operators.axis_groups import AxisGroup
from manyviews.operators.row_shares import RowShares
from manyviews.operators.view_kernel import lateral_reach, planes_at_once

Shape3 = tuple[int, int, int]

_FLOAT, _COMPLEX = 4, 8
_SMALLEST_TILE = 16
# Windows of whole rows lie together in a file: worth this much more computing.
_PIECES_OF_ROWS = 1.1


@dataclass(frozen=True)
class Tile:
    """One tile: voxels ``y``, ``x`` of the result come from voxels ``window_y``, ``window_x``.

    ``crop_y`` and ``crop_x`` are the tile's voxels counted from the first of the window.
    """

    y: slice
    x: slice
    window_y: slice
    window_x: slice

    @property
    def crop_y(self) -> slice:
        """Rows of the tile in the window."""
        return slice(self.y.start - self.window_y.start, self.y.stop - self.window_y.start)

    @property
    def crop_x(self) -> slice:
        """Columns of the tile in the window."""
        return slice(self.x.start - self.window_x.start, self.x.stop - self.window_x.start)


@dataclass(frozen=True)
class Tiling:
    """How the lateral plane of a volume ``(z, y, x)`` is covered.

    ``tile (y, x)`` are the voxels of a tile; those at the far sides may be smaller. Its result depends on
    ``halo (y, x)`` voxels on either side of it, 0 along an axis with one tile. ``grid (z, y, x)`` is the
    cyclic grid of one tile: the ``padded`` of `make_kernel`.
    """

    volume_shape: Shape3
    tile: tuple[int, int]
    halo: tuple[int, int]
    grid: Shape3

    @classmethod
    def whole(cls, volume_shape: Shape3, grid: Shape3) -> Tiling:
        """One tile, on a grid on which the kernel does not wrap around into the volume."""
        return cls(volume_shape, volume_shape[1:], (0, 0), grid)

    @classmethod
    def of(cls, volume_shape: Shape3, tile: tuple[int, int], reach: tuple[int, int]) -> Tiling:
        """Tiles of a given size for a kernel that is zero beyond ``reach (y, x)``, on the smallest good grid.

        A tile as long as the volume gets the padding of `padded_shape` along that axis.
        """
        depth, height, width = volume_shape
        tile_y, halo_y, size_y = _along_axis(height, tile[0], reach[0])
        tile_x, halo_x, size_x = _along_axis(width, tile[1], reach[1])
        fast = scipy.fft.next_fast_len
        grid = fast(2 * depth - 1, real=False), fast(size_y, real=False), fast(size_x, real=True)
        return cls(volume_shape, (tile_y, tile_x), (halo_y, halo_x), grid)

    @property
    def counts(self) -> tuple[int, int]:
        """Tiles along y and x."""
        _, height, width = self.volume_shape
        return -(-height // self.tile[0]), -(-width // self.tile[1])

    @property
    def count(self) -> int:
        """All tiles."""
        return self.counts[0] * self.counts[1]

    def tiles(self) -> Iterator[Tile]:
        """All tiles, row by row."""
        _, height, width = self.volume_shape
        for y in range(0, height, self.tile[0]):
            for x in range(0, width, self.tile[1]):
                own_y, window_y = _window(y, self.tile[0], self.halo[0], height)
                own_x, window_x = _window(x, self.tile[1], self.halo[1], width)
                yield Tile(own_y, own_x, window_y, window_x)


def _along_axis(size: int, tile: int, reach: int) -> tuple[int, int, int]:
    """Tile, halo and least grid along one axis."""
    halo = min(size - 1, reach)
    return (size, 0, size + halo) if tile >= size else (tile, halo, tile + 2 * halo)


def _window(first: int, length: int, halo: int, size: int) -> tuple[slice, slice]:
    last = min(first + length, size)
    return slice(first, last), slice(max(0, first - halo), min(last + halo, size))


def kernel_bytes(tiling: Tiling, slabs: int = 1) -> int:
    """Bytes of one kernel's spectrum on the rank that holds the most of it."""
    rows = RowShares.of(tiling.grid, slabs).count(0)
    return _FLOAT * tiling.grid[0] * rows * (tiling.grid[2] // 2 + 1)


def planes_bytes(tiling: Tiling, slabs: int = 1) -> int:
    """Bytes of the transforms of a tile's slices, on the rank that has most of them."""
    _, size_y, size_x = tiling.grid
    return _COMPLEX * -(-tiling.volume_shape[0] // slabs) * size_y * (size_x // 2 + 1)


def work_bytes(tiling: Tiling, slabs: int = 1, kernels: int = 1) -> int:
    """Most bytes a rank needs to make kernels and to convolve with them, holding so many ``kernels`` at once.

    Argument and result are left out, and so is a kernel's circulant, which every rank holds whole. The
    kernels' grid is that of the tiling; ``slabs`` ranks share one volume. With none they convolve only.
    """
    _, size_y, size_x = tiling.grid
    depth, height, _ = tiling.volume_shape
    columns = size_x // 2 + 1
    own = -(-depth // slabs)
    planes = planes_bytes(tiling, slabs)
    rows = RowShares.of(tiling.grid, slabs)
    share = -(-rows.block // slabs)
    # with other ranks the slices of a block as sent, as received, and put together
    block = rows.block * own + 2 * depth * share if slabs > 1 else 0
    window_y = min(height, tiling.tile[0] + 2 * tiling.halo[0])
    lateral = min(own, 2) * window_y * (_FLOAT * size_x + _COMPLEX * columns)
    convolving = max(_COMPLEX * columns * block, lateral)
    if not kernels:
        return planes + convolving
    # rods as drawn and as transformed, and the response of the splines in float64 and float32
    plane = _FLOAT * size_y * size_x
    drawing = 2 * plane * min(own, planes_at_once(plane)) + 3 * _FLOAT * size_y * columns
    held = kernels * kernel_bytes(tiling, slabs)
    # while the rods of the last kernel are drawn, its spectrum is not there yet
    before = held - kernel_bytes(tiling, slabs)
    return planes + max(before + drawing, held + convolving)


def choose_tiling(
    groups: list[AxisGroup],
    volume_shape: Shape3,
    slabs: int,
    memory_bytes: int,
    kernels: int = 1,
    beyond: int = 0,
) -> Tiling:
    """The tiling that computes least among those whose `work_bytes` fit, one tile if it can be.

    The groups, views by tilt axis, say how far the kernel reaches, and ``beyond`` by how many voxels it
    reaches further; ``volume_shape`` is ``(z, y, x)``; each rank has ``memory_bytes``.

    Raises
    ------
    InputError
        If the smallest sensible tiles, half as long as the halo beside them, do not fit.
    """
    far_y, far_x = lateral_reach(groups, volume_shape[0])
    reach = far_y + beyond, far_x + beyond
    whole = Tiling.of(volume_shape, volume_shape[1:], reach)
    if work_bytes(whole, slabs, kernels) <= memory_bytes:
        return whole
    candidates = [
        Tiling.of(volume_shape, (tile_y, tile_x), reach)
        for tile_y in _lengths(volume_shape[1], reach[0])
        for tile_x in _lengths(volume_shape[2], reach[1])
    ]
    needs = [work_bytes(tiling, slabs, kernels) for tiling in candidates]
    fitting = [tiling for tiling, need in zip(candidates, needs, strict=True) if need <= memory_bytes]
    if not fitting:
        raise InputError(
            f"the convolution needs at least {min(needs) / 2**20:.0f} MiB of memory a rank, "
            f"and {memory_bytes / 2**20:.0f} MiB are left for it",
            fix="allow more memory, use more ranks, or give a smaller --thickness or a larger --bin",
        )
    return min(fitting, key=_cost)


def _lengths(size: int, reach: int) -> list[int]:
    """Lengths of tiles worth trying: the axis divided evenly, no shorter than half the halo."""
    least = min(size, max(_SMALLEST_TILE, min(reach, size - 1) // 2))
    return sorted({-(-size // count) for count in range(1, size // least + 1)})


def _cost(tiling: Tiling) -> tuple[float, int]:
    points = tiling.count * tiling.grid[1] * tiling.grid[2]
    return points * (_PIECES_OF_ROWS if tiling.counts[1] > 1 else 1.0), tiling.count
