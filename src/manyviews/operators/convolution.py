"""Convolution of volumes with an even kernel, by transforms pruned to the part that is not zero.

Slabs of slices may lie on several ranks (`row_shares`); the lateral plane may be cut into tiles (`tiling`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray

from manyviews.operators.linear import LinearOperator, register, require_shape
from manyviews.operators.row_shares import BLOCK_BYTES, MakeArray, RowShares, gather_rows, scatter_rows
from manyviews.operators.slice_threads import CACHE_BYTES, each_block, in_place
from manyviews.operators.tiling import Tile, Tiling
from manyviews.operators.view_kernel import ViewKernel
from manyviews.parallel.world import World, shares
from manyviews.random import Stream, generator

Array = NDArray[Any]

_LEAST_LINES = 16


class Convolution(LinearOperator):
    """``crop(F^-1 (multiplier * F (pad x)))``, self-adjoint for a real multiplier of an even kernel.

    Volumes larger than memory may be tensors that lie in files: windows of them are read, tiles are written,
    and what is allocated is a work space (`manyviews.operators.tiling.work_bytes`).

    Parameters
    ----------
    volume_shape
        ``(z, y, x)`` of the whole volume.
    padded
        Size of the cyclic grid.
    multiplier
        ``(padded z, own rows of padded y, padded x // 2 + 1)``, real: all rows for a process alone.
    tiling
        Tiles on that grid; None: one. The kernel must be zero beyond their halo.
    rows
        Which rank holds which rows of the multiplier; None: as `make_kernel` deals them out.
    exchange
        The ranks, of which rank r holds the slices ``shares(z, ranks)[r]`` of every volume; None: this one
        is alone. All of them make every call.
    make
        Gives the room for the transforms of a tile's slices, which may lie in a file; None: memory.

    Raises
    ------
    ValueError
        If tiles, rows, ranks or multiplier do not belong together.
    """

    def __init__(
        self,
        volume_shape: tuple[int, int, int],
        padded: tuple[int, int, int],
        multiplier: torch.Tensor,
        *,
        tiling: Tiling | None = None,
        rows: RowShares | None = None,
        exchange: World | None = None,
        make: MakeArray | None = None,
    ) -> None:
        self.make = make or np.empty
        self.exchange = exchange if exchange is not None and exchange.size > 1 else None
        ranks, self.rank = (self.exchange.size, self.exchange.rank) if self.exchange else (1, 0)
        self.depth = volume_shape[0]
        self.slabs = shares(self.depth, ranks)
        own = self.slabs[self.rank]
        self.domain = self.range = (own.stop - own.start, *volume_shape[1:])
        self.padded = padded
        self.multiplier = multiplier
        self.tiling = tiling or Tiling.whole(volume_shape, padded)
        self.rows = rows or RowShares.of(padded, ranks)
        wanted = padded[0], self.rows.count(self.rank) if self.rows.ranks == ranks else -1, padded[2] // 2 + 1
        if self.rows.rows != padded[1] or tuple(multiplier.shape) != wanted:
            raise ValueError(
                f"a spectrum of shape {tuple(multiplier.shape)} is not rank {self.rank}'s of {ranks} "
                f"on the grid {padded}"
            )
        if (self.tiling.volume_shape, self.tiling.grid) != (volume_shape, padded):
            raise ValueError("the tiling is for another volume or another grid than the kernel")

    @classmethod
    def from_kernel(
        cls,
        kernel: ViewKernel,
        volume_shape: tuple[int, int, int],
        *,
        tiling: Tiling | None = None,
        exchange: World | None = None,
    ) -> Convolution:
        """The normal operator of the views of a kernel made with the same ``exchange`` on the tiles' grid."""
        return cls(
            volume_shape, kernel.padded, kernel.spectrum, tiling=tiling, rows=kernel.rows, exchange=exchange
        )

    def forward(self, x: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Convolve a volume ``(own slices, y, x)``.

        ``out`` is for the result, of the shape and dtype of ``x`` and not ``x`` itself; None: a new tensor.
        `ValueError` for a CUDA tensor, where there are several tiles.
        """
        require_shape(x, self.domain, "the convolution")
        if x.is_cuda:
            found = self._forward_cuda(x)
            return found if out is None else out.copy_(found)
        result = torch.empty_like(x, memory_format=torch.contiguous_format) if out is None else out
        for tile in self.tiling.tiles():
            self._write_tile(x.detach().numpy(), result.detach().numpy(), tile)
        return result

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """The same as `forward`."""
        return self.forward(y)

    def quadratic(self, x: torch.Tensor) -> float:
        """``<x, H x>`` over the slabs of all ranks, summed in float64; errors are as of `forward`.

        With one tile it takes no transform back: by Parseval's theorem the sum may be taken over frequencies.
        """
        if x.is_cuda:
            own = self._quadratic_cuda(x)
        elif self.tiling.count == 1:
            own = self._quadratic_by_frequency(x.detach().numpy())
        else:
            own = self._quadratic_by_tile(x.detach().numpy())
        if self.exchange is None:
            return own
        return float(self.exchange.sum(torch.tensor([own], dtype=torch.float64))[0])

    def _write_tile(self, x: Array, out: Array, tile: Tile) -> None:
        def write(part: slice, voxels: Array) -> None:
            out[part, tile.y, tile.x] = voxels

        self._convolve(x, tile, write)

    def _convolve(self, x: Array, tile: Tile, take: Callable[[slice, Array], None]) -> None:
        """One tile of the result, given to ``take`` a few slices at a time, in threads and in any order."""
        planes = self._lateral(x, tile)
        for block, stored in zip(self.rows.blocks, self.rows.stored(self.rank), strict=True):
            lines = self._gather(torch.from_numpy(planes), block)
            self._filter(_flat(lines), self._factors(stored))
            if not self._shares_planes:
                back = lines, torch.from_numpy(planes)
                scatter_rows(*back, block, self.slabs, self.rows, self.exchange)
            del lines

        def lateral_back(part: slice, workers: int) -> None:
            in_place(scipy.fft.ifft, planes[part], 1, workers)
            lines = scipy.fft.irfft(planes[part, tile.crop_y], n=self.padded[2], axis=2, workers=workers)
            take(part, lines[:, :, tile.crop_x])

        self._each_piece(lateral_back)

    def _lateral(self, x: Array, tile: Tile) -> Array:
        """Transforms in y and x of a tile's window in own slices, ``(own slices, rows, columns)``."""
        _, size_y, size_x = self.padded
        window = tile.window_y.stop - tile.window_y.start
        shape = (self.domain[0], size_y, size_x // 2 + 1)
        planes = self.make(shape, np.complex128 if x.dtype == np.float64 else np.complex64)

        def transform(part: slice, workers: int) -> None:
            lines = x[part, tile.window_y, tile.window_x]
            planes[part, :window] = scipy.fft.rfft(lines, n=size_x, axis=2, workers=workers)
            planes[part, window:] = 0.0
            in_place(scipy.fft.fft, planes[part], 1, workers)

        self._each_piece(transform)
        return planes

    def _each_piece(self, task: Callable[[slice, int], None]) -> None:
        """``task(own slices, threads inside)``: a few slices a thread, or large ones one after the other."""
        own, threads = self.domain[0], _threads()
        slice_bytes = 8 * self.padded[1] * (self.padded[2] // 2 + 1)
        if slice_bytes * threads > BLOCK_BYTES:
            for number in range(own):
                task(slice(number, number + 1), threads)
            return
        together = max(1, CACHE_BYTES // slice_bytes)
        each_block(own, together, threads, lambda: None, lambda _, part: task(part, 1))

    def _gather(self, planes: torch.Tensor, block: slice) -> torch.Tensor:
        """All slices of own rows of a block, to be changed in place; of transforms in files a copy."""
        lines = gather_rows(planes, block, self.slabs, self.rows, self.exchange)
        return lines.clone() if self.exchange is None and not self._shares_planes else lines

    @property
    def _shares_planes(self) -> bool:
        """Whether `_gather` gives a part of the transforms themselves, so that nothing has to be put back."""
        return self.exchange is None and self.make is np.empty

    def _factors(self, stored: slice) -> Array:
        """The multiplier of the rows of a block, ``(padded z, lines)``."""
        factors: Array = self.multiplier[:, stored].flatten(1).numpy()
        return factors

    def _filter(self, lines: Array, factors: Array) -> None:
        """Multiply the transform along z of ``lines (z, n)`` by ``factors (padded z, n)``, in place."""

        def task(room: Array, some: slice) -> None:
            spectra = self._to_spectra(lines[:, some], room)
            spectra *= factors[:, some]
            in_place(scipy.fft.ifft, spectra, 0)
            lines[:, some] = spectra[: len(lines)]

        self._each_line(lines, task)

    def _energy(self, lines: Array, factors: Array) -> NDArray[np.float64]:
        """``sum factors |spectra|^2`` along z of every line ``(n,)``, in float64."""
        energies = np.empty(lines.shape[1])

        def task(room: Array, some: slice) -> None:
            spectra = self._to_spectra(lines[:, some], room)
            power = spectra.real**2
            power += spectra.imag**2
            power *= factors[:, some]
            energies[some] = power.sum(axis=0, dtype=np.float64)

        self._each_line(lines, task)
        return energies

    def _each_line(self, lines: Array, task: Callable[[Array, slice], None]) -> None:
        """``task(room, some of the lines)``: as many neighbours as the room holds, in threads."""
        together = max(_LEAST_LINES, CACHE_BYTES // (8 * self.padded[0]))
        room = self.padded[0], min(together, lines.shape[1])
        each_block(lines.shape[1], together, _threads(), lambda: np.empty(room, lines.dtype), task)

    def _to_spectra(self, lines: Array, room: Array) -> Array:
        """The transforms of ``lines (z, n)``, zeros behind them: ``(padded z, n)``, in a part of the room."""
        spectra = room[:, : lines.shape[1]]
        spectra[: len(lines)] = lines
        spectra[len(lines) :] = 0.0
        in_place(scipy.fft.fft, spectra, 0)
        return spectra

    def _quadratic_by_frequency(self, x: Array) -> float:
        (tile,) = self.tiling.tiles()
        planes = torch.from_numpy(self._lateral(x, tile))
        columns = np.zeros(planes.shape[2])
        for block, stored in zip(self.rows.blocks, self.rows.stored(self.rank), strict=True):
            lines = gather_rows(planes, block, self.slabs, self.rows, self.exchange)
            energies = self._energy(_flat(lines), self._factors(stored))
            columns += energies.reshape(lines.shape[1:]).sum(axis=0)
        return self._from_half(columns)

    def _quadratic_by_tile(self, x: Array) -> float:
        return math.fsum(self._inner_of_tile(x, tile) for tile in self.tiling.tiles())

    def _inner_of_tile(self, x: Array, tile: Tile) -> float:
        products = np.empty(self.domain[0])

        def multiply(part: slice, voxels: Array) -> None:
            for z, one in zip(range(part.start, part.stop), voxels, strict=True):
                products[z] = np.einsum("yx,yx", x[z, tile.y, tile.x], one, dtype=np.float64)

        self._convolve(x, tile, multiply)
        return math.fsum(products)

    def _from_half(self, columns: Array) -> float:
        """Sum over the whole spectrum from sums over the columns of its half, divided by its size."""
        twice = 2.0 * columns.sum() - columns[0]
        if self.padded[2] % 2 == 0:
            twice -= columns[-1]
        return float(twice) / math.prod(self.padded)

    # --- on a GPU: the same, without threads, pieces and work in place ---

    def _forward_cuda(self, x: torch.Tensor) -> torch.Tensor:
        planes = self._lateral_cuda(x)
        for block, stored in zip(self.rows.blocks, self.rows.stored(self.rank), strict=True):
            spectra = self._along_z_cuda(planes, block)
            spectra *= self.multiplier[:, stored]
            found = torch.fft.ifft(spectra, dim=0) if spectra.numel() else spectra
            scatter_rows(found, planes, block, self.slabs, self.rows, self.exchange)
        _, height, width = self.domain
        lines = torch.fft.ifft(planes, dim=1)[:, :height]
        voxels: torch.Tensor = torch.fft.irfft(lines, n=self.padded[2], dim=2)
        return voxels[:, :, :width].contiguous()

    def _quadratic_cuda(self, x: torch.Tensor) -> float:
        planes = self._lateral_cuda(x)
        columns = planes.new_zeros(planes.shape[2], dtype=torch.float64)
        for block, stored in zip(self.rows.blocks, self.rows.stored(self.rank), strict=True):
            power = torch.view_as_real(self._along_z_cuda(planes, block)).square_().sum(dim=-1)
            columns += power.mul_(self.multiplier[:, stored]).sum(dim=(0, 1), dtype=torch.float64)
        return self._from_half(columns.cpu().numpy())

    def _lateral_cuda(self, x: torch.Tensor) -> torch.Tensor:
        if self.tiling.count > 1:
            raise ValueError("on a CUDA device a convolution takes the whole lateral plane at once")
        lines = torch.fft.rfft(x, n=self.padded[2], dim=2)
        planes: torch.Tensor = torch.fft.fft(lines, n=self.padded[1], dim=1)
        return planes

    def _along_z_cuda(self, planes: torch.Tensor, block: slice) -> torch.Tensor:
        lines = gather_rows(planes, block, self.slabs, self.rows, self.exchange)
        if not lines.numel():  # more ranks than rows in the block
            return lines.new_empty((self.padded[0], *lines.shape[1:]))
        found: torch.Tensor = torch.fft.fft(lines, n=self.padded[0], dim=0)
        return found


def _flat(lines: torch.Tensor) -> Array:
    """The same memory of ``(z, rows, columns)`` as ``(z, lines)``."""
    flat: Array = lines.view(len(lines), -1).numpy()
    return flat


def _threads() -> int:
    return torch.get_num_threads()


@register("convolution")
def _test_instance(case: int) -> LinearOperator:
    shape, padded = (
        ((3, 8, 9), (6, 15, 18)),
        ((5, 7, 12), (9, 14, 24)),
        ((4, 16, 6), (8, 32, 11)),
    )[case]
    kernel = generator(0, Stream.TEST, case).normal(size=padded)
    return Convolution(shape, padded, _even_spectrum(kernel))


@register("tiled convolution")
def _tiled_test_instance(case: int) -> LinearOperator:
    shape, tile, reach = (
        ((3, 8, 9), (3, 4), (2, 1)),
        ((5, 7, 12), (7, 5), (3, 2)),
        ((4, 16, 6), (5, 6), (4, 5)),
    )[case]
    tiling = Tiling.of(shape, tile, reach)
    kernel = np.zeros(tiling.grid)
    block = kernel[:, : 2 * reach[0] + 1, : 2 * reach[1] + 1]
    block[:] = generator(0, Stream.TEST, case).normal(size=block.shape)
    spectrum = _even_spectrum(np.roll(kernel, (-reach[0], -reach[1]), axis=(1, 2)))
    return Convolution(shape, tiling.grid, spectrum, tiling=tiling)


def _even_spectrum(kernel: Array) -> torch.Tensor:
    """Spectrum of a kernel and its mirror image."""
    flipped = np.roll(kernel[::-1, ::-1, ::-1], (1, 1, 1), axis=(0, 1, 2))
    return torch.from_numpy(np.fft.rfftn(kernel + flipped).real)
