"""The normal operator of a set of views as one convolution kernel, in Fourier space.

For parallel views ``W' L W`` depends, up to detector edges and the sub-pixel place of a voxel, on the
difference between two voxels only: a sum of one rod a view (`manyviews.kernels.rods_cpu`). Averaged over
sub-pixel places its profile across the tilt axis is the autocorrelation of the projector's footprint and
filter; a group whose slices are rotated also carries the response of the spline interpolation.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray

from manyviews.kernels.rods_cpu import draw_rods
from manyviews.operators.axis_groups import AxisGroup
from manyviews.operators.row_shares import BLOCK_BYTES, MakeArray, RowShares, gather_rows
from manyviews.operators.slice_threads import CACHE_BYTES, each_block
from manyviews.parallel.world import World, shares
from manyviews.random import Stream, generator

_DRAWN_BYTES, _DRAWN_PLANES = 2**24, 16
STEPS = 64
_RADIUS_U = 5.5
_RADIUS_W = 6.0
_SUB_PIXEL_PLACES = 24


class RodPlanes(ABC):
    """What draws the rods of views otherwise than as plain ones: `manyviews.operators.transfer_kernel`."""

    @property
    @abstractmethod
    def reach(self) -> int:
        """How far beyond its rod a view reaches at most, in voxels."""

    @abstractmethod
    def draw(
        self,
        planes: NDArray[np.float32],
        first_dz: int,
        group: AxisGroup,
        weights: NDArray[np.float64],
        reach: tuple[int, int, int],
    ) -> None:
        """Add the rods of a group, ``weights (its views,)``, to planes ``(dz, y, x)`` of differences.

        ``reach`` is the largest difference in z, y and x of the volume; those in y and x wrap around.
        """


@dataclass(frozen=True)
class PeriodicKernel:
    """A kernel made cyclic with the depth of the volume as its period, tapered by ``1 - |dz| / Z``.

    ``spectrum`` is its transform on the ``grid (volume z, y, x)``, of which this rank holds the ``rows`` that
    fall to it: ``(volume z, own rows, x // 2 + 1)``.
    """

    grid: tuple[int, int, int]
    spectrum: torch.Tensor
    rows: RowShares


@dataclass(frozen=True)
class ViewKernel:
    """Spectra of a kernel on a cyclic grid ``(z, y, x // 2 + 1)``, real because the kernel is even.

    Attributes
    ----------
    padded
        Size of the grid on which cyclic and linear convolution agree inside the volume, or inside a tile.
    spectrum
        Transform of the kernel, of which this rank holds its own rows only: ``(z, own rows, x // 2 + 1)``.
    circulant
        Transform of the kernel tapered by ``1 - |dz| / Z``: the best cyclic stand-in (T. Chan 1988), from
        which weights and preconditioners are made. Negative by 3e-5 of its largest value at most (profiles
        are tabulated): clamp it. Whole on every rank. None if not asked for.
    periodic
        The same tapered kernel without room along z; None if not asked for.
    largest
        Greatest value of the whole spectrum.
    rows
        Which rank holds which rows.
    """

    padded: tuple[int, int, int]
    spectrum: torch.Tensor
    circulant: torch.Tensor | None
    largest: float
    rows: RowShares
    periodic: PeriodicKernel | None = None


def make_kernel(
    groups: list[AxisGroup],
    weights: NDArray[np.float64],
    volume_shape: tuple[int, int, int],
    *,
    circulant: bool = False,
    periodic: bool = False,
    padded: tuple[int, int, int] | None = None,
    exchange: World | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    rods: RodPlanes | None = None,
    make: MakeArray = np.empty,
) -> ViewKernel:
    """Kernel of ``W' L W`` for the views of ``groups``, with ``weights (view,)`` l_v for all of them.

    Parameters
    ----------
    volume_shape
        ``(z, y, x)`` of the whole volume.
    circulant, periodic
        Whether the tapered spectra are wanted too.
    padded
        Grid to use: at least `padded_shape`, or that of a `manyviews.operators.tiling.Tiling`; None: the
        smallest good one.
    exchange
        The ranks that share the work and the spectrum; None: this one is alone.
    rods
        What draws the rods; None: plain ones are drawn.
    make
        Gives the room for the periodic spectrum, which may lie in a file.
    """
    size = padded or padded_shape(groups, volume_shape, 0 if rods is None else rods.reach)
    along = _AlongZ.of(volume_shape[0], size, exchange)
    planes = _planes(groups, weights, volume_shape, along, rods)
    spectrum = along.own_rows(planes, np.float64 if dtype == torch.float64 else np.float32)
    largest = float(spectrum.max(initial=-math.inf))
    return ViewKernel(
        padded=size,
        spectrum=torch.from_numpy(spectrum).to(device),
        circulant=torch.from_numpy(along.tapered(planes, spectrum.dtype)).to(device) if circulant else None,
        largest=max(along.exchange.gather(largest)) if along.exchange else largest,
        rows=along.rows,
        periodic=along.periodic_kernel(planes, spectrum.dtype, device, make) if periodic else None,
    )


def make_periodic(
    groups: list[AxisGroup],
    weights: NDArray[np.float64],
    volume_shape: tuple[int, int, int],
    *,
    exchange: World | None = None,
    rods: RodPlanes | None = None,
    make: MakeArray = np.zeros,
) -> PeriodicKernel:
    """`ViewKernel.periodic` alone, of the whole lateral plane, where the kernel itself is one of tiles.

    ``make`` gives arrays of zeros, which may lie in files; the others are as of `make_kernel`.
    """
    size = padded_shape(groups, volume_shape, 0 if rods is None else rods.reach)
    along = _AlongZ.of(volume_shape[0], size, exchange)
    planes = _planes(groups, weights, volume_shape, along, rods, make)
    return along.periodic_kernel(planes, np.float32, "cpu", make)


def lateral_reach(groups: list[AxisGroup], depth: int) -> tuple[int, int]:
    """Greatest differences in y and x at which the kernel of ``depth`` slices is not zero."""
    reach = np.zeros(2)
    for group in groups:
        slope = np.abs(group.sines) / np.maximum(np.abs(group.cosines), 1e-6)
        length = float(np.max((depth - 1) * slope + _RADIUS_U / np.maximum(np.abs(group.cosines), 1e-6)))
        beside = _RADIUS_W + (depth - 1) * abs(group.shear)
        ends = np.abs(group.direction_across) * length + np.abs(group.direction_along) * beside
        reach = np.maximum(reach, ends)
    return math.ceil(reach[1]), math.ceil(reach[0])


def padded_shape(
    groups: list[AxisGroup], volume_shape: tuple[int, int, int], beyond: int = 0
) -> tuple[int, int, int]:
    """Grid on which the kernel does not wrap around into the volume: thin volumes need little padding.

    ``beyond`` voxels are how far a view reaches beyond its rod.
    """
    depth, height, width = volume_shape
    reach_y, reach_x = (reach + beyond for reach in lateral_reach(groups, depth))
    need_y, need_x = height + min(height - 1, reach_y), width + min(width - 1, reach_x)
    fast = scipy.fft.next_fast_len
    return fast(2 * depth - 1, real=False), fast(need_y, real=False), fast(need_x, real=True)


def _planes(
    groups: list[AxisGroup],
    weights: NDArray[np.float64],
    volume_shape: tuple[int, int, int],
    along: _AlongZ,
    rods: RodPlanes | None,
    make: MakeArray = np.zeros,
) -> NDArray[np.complex64]:
    """In-plane transforms of the kernel at this rank's differences in z."""
    size, own = along.size, shares(along.depth, along.rows.ranks)[along.rank]
    planes = make((own.stop - own.start, size[1], size[2] // 2 + 1), np.complex64)
    for rotated in (False, True):
        some = [group for group in groups if group.rotated == rotated]
        if some:
            _add_planes(planes, own.start, some, weights, volume_shape, size, rotated, rods)
    return planes


def _add_planes(
    total: NDArray[np.complex64],
    first_dz: int,
    groups: list[AxisGroup],
    weights: NDArray[np.float64],
    volume_shape: tuple[int, int, int],
    size: tuple[int, int, int],
    rotated: bool,
    rods: RodPlanes | None,
) -> None:
    """Add the in-plane transforms of the rods, plane by plane in dz from ``first_dz``."""
    depth, height, width = volume_shape
    profiles = [profile_across(group) if rods is None else np.zeros((0, 0)) for group in groups]
    profile_w = _cardinal_autocorrelation() if rotated else np.array([1.0, 0.0])
    smoothing = (
        np.outer(_spline_response(size[1]), _spline_response(size[2])[: size[2] // 2 + 1]).astype(np.float32)
        if rotated
        else None
    )
    block = planes_at_once(4 * size[1] * size[2])
    for first in range(0, len(total), block):
        count = min(block, len(total) - first)
        planes = np.zeros((count, size[1], size[2]), np.float32)
        for group, profile in zip(groups, profiles, strict=True):
            # gains count twice, and as many fewer pixels share a ray
            counts = weights[group.views] * (1.0 if group.gains is None else group.gains)
            if rods is not None:
                rods.draw(planes, first_dz + first, group, counts, (depth - 1, height - 1, width - 1))
                continue
            draw_rods(
                planes, first_dz + first, group.cosines, group.sines, counts,
                group.direction_across, group.direction_along, group.shear, profile, profile_w, STEPS,
                (height - 1, width - 1),
            )  # fmt: skip
        spectra = scipy.fft.rfft2(planes, workers=torch.get_num_threads())
        if smoothing is not None:
            spectra *= smoothing
        total[first : first + count] += spectra


def planes_at_once(plane_bytes: int) -> int:
    """Planes that are drawn together: sixteen where they are large, so that many threads have some."""
    return max(1, _DRAWN_BYTES // plane_bytes, min(_DRAWN_PLANES, BLOCK_BYTES // plane_bytes))


@dataclass(frozen=True)
class _AlongZ:
    """The transform along dz of planes for dz >= 0; those below are their conjugates, so the result is real.

    All ranks together have ``depth`` planes; ``size (z, y, x)`` is the grid. ``exchange`` is None for a rank
    alone.
    """

    depth: int
    size: tuple[int, int, int]
    rows: RowShares
    exchange: World | None

    @classmethod
    def of(cls, depth: int, size: tuple[int, int, int], exchange: World | None) -> _AlongZ:
        others = exchange if exchange is not None and exchange.size > 1 else None
        return cls(depth, size, RowShares.of(size, others.size if others else 1), others)

    @property
    def rank(self) -> int:
        return self.exchange.rank if self.exchange else 0

    def own_rows(self, planes: NDArray[np.complex64], dtype: Any) -> NDArray[Any]:
        """The rows of this rank, ``(z, own rows, columns)``."""
        out = np.empty((self.size[0], self.rows.count(self.rank), planes.shape[2]), dtype)
        for block, stored in zip(self.rows.blocks, self.rows.stored(self.rank), strict=True):
            self._transform(self._gather(planes, block), out[:, stored], lambda rows: rows)
        return out

    def tapered(self, planes: NDArray[np.complex64], dtype: Any) -> NDArray[Any]:
        """All rows of the tapered kernel, ``(z, rows, columns)``, on every rank."""
        out = np.empty((self.size[0], self.rows.rows, planes.shape[2]), dtype)
        for block in self.rows.blocks:
            part = self._gather(planes, block)
            if self.exchange is None:
                self._transform(part, out[:, block], self._taper)
                continue
            own = np.empty((self.size[0], *part.shape[1:]), dtype)
            self._transform(part, own, self._taper)
            counts = [share.stop - share.start for share in self.rows.shares(block)]
            rows_first = torch.from_numpy(np.ascontiguousarray(own.swapaxes(0, 1)))
            out[:, block] = self.exchange.all_gather(rows_first, counts).numpy().swapaxes(0, 1)
        return out

    def periodic_kernel(
        self,
        planes: NDArray[np.complex64],
        dtype: Any,
        device: torch.device | str,
        make: MakeArray = np.empty,
    ) -> PeriodicKernel:
        """The tapered kernel with ``depth`` as its period, on a grid that is else ``size``."""
        out = make((self.depth, self.rows.count(self.rank), planes.shape[2]), dtype)

        def folded(rows: NDArray[np.complex64]) -> NDArray[np.complex64]:
            found = self._taper(rows)
            found[1:] += np.conj(found[:0:-1])  # what lies behind comes round to the front
            return found[: self.depth // 2 + 1]

        for block, stored in zip(self.rows.blocks, self.rows.stored(self.rank), strict=True):
            self._transform(self._gather(planes, block), out[:, stored], folded)
        return PeriodicKernel((self.depth, *self.size[1:]), torch.from_numpy(out).to(device), self.rows)

    def _taper(self, rows: NDArray[np.complex64]) -> NDArray[np.complex64]:
        weights = (1.0 - np.arange(self.depth) / self.depth).astype(np.float32)
        return rows * weights[:, None, None]

    def _gather(self, planes: NDArray[np.complex64], block: slice) -> NDArray[np.complex64]:
        slabs = shares(self.depth, self.rows.ranks)
        found = gather_rows(torch.from_numpy(planes), block, slabs, self.rows, self.exchange)
        return np.asarray(found.numpy(), dtype=planes.dtype)

    def _transform(
        self,
        part: NDArray[np.complex64],
        out: NDArray[Any],
        prepare: Callable[[NDArray[np.complex64]], NDArray[np.complex64]],
    ) -> None:
        """Of ``part (depth, rows, columns)`` into ``out (z, rows, columns)``, some prepared rows a thread."""

        def task(_: None, some: slice) -> None:
            out[:, some] = scipy.fft.hfft(prepare(part[:, some]), n=len(out), axis=0)

        together = max(1, CACHE_BYTES // (4 * max(1, len(out) * out.shape[2])))
        each_block(part.shape[1], together, torch.get_num_threads(), lambda: None, task)


def profile_across(group: AxisGroup) -> NDArray[np.float64]:
    """Profile g of every view's rod across the axis, averaged over sub-pixel places: ``(view, steps)``."""
    distance = np.arange(int(_RADIUS_U * STEPS) + 1) / STEPS
    out = np.zeros((len(group.views), len(distance)))
    rng = generator(0, Stream.KERNEL_PLACES)
    z = np.arange(4096) % 64 - 32
    s = rng.integers(-group.columns // 2, group.columns // 2, size=z.size)
    for k in range(len(group.views)):
        half = 0.5 * max(abs(group.cosines[k]), abs(group.sines[k]))
        t = group.cosines[k] * s + group.sines[k] * z + group.offsets[k]
        places = np.sort(t - np.floor(t))[:: max(1, t.size // _SUB_PIXEL_PLACES)]
        m = group.sharpening[k]
        taps = np.convolve([-m / 2, 1 + m, -m / 2], [-m / 2, 1 + m, -m / 2])
        here = {bin_: footprint(bin_ - places, half) for bin_ in (-1, 0, 1, 2)}
        overlaps = {}
        for other in range(-3, 5):  # one footprint of every distance in memory
            there = footprint(other - places[:, None] - distance[None], half)
            for bin_ in here:
                overlaps[bin_, other - bin_] = (here[bin_][:, None] * there).mean(axis=0)
        for bin_ in here:
            for tap, lag in zip(taps, range(-2, 3), strict=True):
                out[k] += tap * overlaps[bin_, lag]
    return out


def footprint(distance: NDArray[np.float64], half: float) -> NDArray[np.float64]:
    """Footprint of a voxel on the detector: a triangle smoothed by a box ``2 half`` wide."""

    def square(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.square(np.maximum(x, 0.0))

    a = np.abs(distance)
    return (square(1 + half - a) - square(1 - half - a) - 2 * square(half - a)) / (4 * half)


def cardinal_response(frequency: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Transform of the cubic cardinal spline at frequencies in cycles a sample (Unser 1999, table 1)."""
    response = 3.0 * np.sinc(frequency) ** 4 / (2.0 + np.cos(2.0 * np.pi * frequency))
    return np.asarray(response, dtype=np.float64)


def _spline_response(size: int) -> NDArray[np.float64]:
    return cardinal_response(np.fft.fftfreq(size)) ** 2


@functools.cache
def _cardinal_autocorrelation() -> NDArray[np.float64]:
    """Autocorrelation of the cubic cardinal spline at distances from 0, `STEPS` a sample."""
    frequency = np.linspace(-2.0, 2.0, 4097)
    distance = np.arange(int(_RADIUS_W * STEPS) + 1) / STEPS
    response = cardinal_response(frequency) ** 2
    return np.array(
        [np.trapezoid(np.cos(2.0 * np.pi * d * frequency) * response, frequency) for d in distance]
    )
