"""Projecting and back-projecting slices at once, as a convolution.

For a detector that misses nothing, ``R' L R`` of views with weights L depends on the difference of two pixels
only, with the kernel

    h(x) = 1 / M  sum_v l_v sum_j cos(2 pi j / M  x . (cos theta_v, sin theta_v))

over the points j of a line of M. On twice as many pixels a side it is one product between two transforms,
however many views there are.

A detector that misses something sees less: ``h * - R' L R`` is what falls off it, and so is never negative.
Hence steps that use the convolution as Hessian and `Radon`'s own gradient end where `Radon` says, and never
go too far.

Where only the way to a minimum is wanted, a convolution that goes round on fewer pixels will do: that of
`nearest_cyclic`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import finufft
import numpy as np
import scipy.fft
import torch
from numpy.typing import ArrayLike, NDArray

from manyviews.errors import InputError
from manyviews.operators.linear import LinearOperator, register, require_shape
from manyviews.operators.polar_grid import PolarGrid, even_fast_length
from manyviews.operators.radon import Radon
from manyviews.operators.slice_threads import each_block, in_place
from manyviews.random import Stream, generator

Array = NDArray[Any]
_APART = 16  # complex numbers between two rows of a work space


class RadonNormal(LinearOperator):
    """``crop(F^-1 (multiplier * F (pad x)))`` of every slice of a volume ``(z, y, x)``: self-adjoint.

    Parameters
    ----------
    rows
        Slices of a volume.
    kernel
        ``(P, P)`` in the order of transforms (the origin first), P even, at least the side of a slice. With
        twice that side, less one, or more, no pixel meets another round the edge.
    size
        Side of a slice.
    threads
        0: as many as torch uses.
    """

    def __init__(self, rows: int, size: int, kernel: NDArray[np.float64], *, threads: int = 0) -> None:
        self.domain = self.range = (rows, size, size)
        self.kernel = kernel
        self.threads = threads
        self._multiplier = np.real(scipy.fft.fft2(kernel))
        self._rounded: dict[np.dtype[Any], Array] = {}

    @classmethod
    def of(cls, radon: Radon, weights: ArrayLike | None = None) -> RadonNormal:
        """The normal operator of a projector, as if its detector missed nothing.

        ``weights (views,)`` are not negative; None: 1. `InputError` if there is not one a view.
        """
        return cls(
            radon.domain[0], radon.domain[1], normal_kernel(radon.polar, weights), threads=radon.threads
        )

    def nearest(self, sides: float) -> RadonNormal:
        """On fewer pixels, so many sides of a slice: nearly the same in less time, not negative either."""
        size = self.domain[1]
        cyclic = nearest_cyclic(self.kernel, size, even_fast_length(math.ceil(sides * size)))
        spectrum = np.maximum(np.real(scipy.fft.fft2(cyclic)), 0.0)
        return RadonNormal(self.domain[0], size, np.real(scipy.fft.ifft2(spectrum)), threads=self.threads)

    def forward(
        self, x: torch.Tensor, out: torch.Tensor | None = None, then: Callable[[slice], None] | None = None
    ) -> torch.Tensor:
        """Convolve ``(z, y, x)``; ``out`` is for the result and may be ``x``, None: a new tensor.

        ``then`` is told which slices are written, as long as they are in the cache, by the thread that wrote
        them.
        """
        require_shape(x, self.domain, "the normal operator of the Radon transform")
        result = torch.empty_like(x, memory_format=torch.contiguous_format) if out is None else out
        volume, written = x.detach().numpy(), result.detach().numpy()
        if volume.dtype not in self._rounded:
            self._rounded[volume.dtype] = self._multiplier.astype(volume.dtype)
        multiplier = self._rounded[volume.dtype]
        kind = np.result_type(volume.dtype, np.complex64)

        def convolve(work: Array, pair: slice) -> None:
            _convolve_pair(work, volume[pair], multiplier, written[pair])
            if then is not None:
                then(pair)

        each_block(self.domain[0], 2, self.threads, lambda: _work_space(multiplier.shape, kind), convolve)
        return result

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """The same as `forward`."""
        return self.forward(y)

    def norm(self, steps: int = 20) -> float:
        """The largest eigenvalue, nearly and from below: power iteration on one slice, which all are like."""
        size = self.domain[1]
        one = RadonNormal(1, size, self.kernel, threads=1)
        x = torch.from_numpy(generator(0, Stream.EIGENVALUE).uniform(0.5, 1.0, (1, size, size)))
        length = 0.0
        for _ in range(steps):
            x = one.forward(x)
            length = float(torch.linalg.vector_norm(x))
            if length == 0.0:
                break
            x = x / length
        return length


def normal_kernel(polar: PolarGrid, weights: ArrayLike | None = None) -> NDArray[np.float64]:
    """``h`` of the module's text, ``(P, P)`` with the origin first, P for slices of ``polar.size``; float64.

    `InputError` if there is not one weight a view, or one is negative or not finite.
    """
    views = len(polar.theta_degrees)
    of_view = np.ones(views) if weights is None else np.asarray(weights, np.float64)
    if of_view.shape != (views,) or not (of_view >= 0.0).all() or not np.isfinite(of_view).all():
        raise InputError(
            f"the normal operator wants a weight for each of {views} views, none negative",
            fix="give an array of that length",
        )
    # of a line and its mirror image one half is enough: the kernel is the real part
    number = np.arange(polar.line // 2)
    parts = np.where(number == 0, 1.0, 2.0) / polar.line
    theta = np.deg2rad(polar.theta_degrees)[:, None]
    turns = 2.0 * np.pi / polar.line * number
    side = even_fast_length(2 * polar.size - 1)
    spread = finufft.nufft2d1(
        np.ravel(np.sin(theta) * turns), np.ravel(np.cos(theta) * turns),
        np.ravel(of_view[:, None] * parts).astype(np.complex128),
        (side, side), eps=1e-9, isign=1, modeord=1, nthreads=1,
    )  # fmt: skip
    kernel = np.real(spread)
    # the farthest row and column are their own mirror images
    kernel[side // 2] = 0.0
    kernel[:, side // 2] = 0.0
    return np.ascontiguousarray(kernel)


def nearest_cyclic(kernel: NDArray[np.float64], size: int, side: int) -> NDArray[np.float64]:
    """Of all kernels ``(side, side)`` that go round, the one nearest to a convolution of slices.

    ``kernel (P, P)`` is that of slices of ``size`` pixels, ``side`` is between ``size`` and P. Nearest in the
    mean of squares of all pairs of pixels (``side == size``: T. Chan 1988, SIAM J. Sci. Stat. Comput. 9:766).
    """
    offsets = np.arange(side)
    found, pairs = np.zeros((side, side)), np.zeros((side, side))
    for y in (offsets, offsets - side):
        for x in (offsets, offsets - side):
            share = np.maximum(size - abs(y), 0.0)[:, None] * np.maximum(size - abs(x), 0.0)
            found += share * kernel[np.ix_(y % len(kernel), x % len(kernel))]
            pairs += share
    return np.divide(found, pairs, out=np.zeros_like(found), where=pairs > 0)


def _work_space(shape: tuple[int, ...], kind: np.dtype[Any]) -> Array:
    """Rows lie apart: a column of rows 4096 bytes long would all fall on the same few cache lines."""
    rows, columns = shape
    return np.empty((rows, columns + _APART), kind)[:, :columns]


def _convolve_pair(spectrum: Array, slices: Array, multiplier: Array, out: Array) -> None:
    """One or two slices ``(s, y, x)`` as real and imaginary part; ``spectrum (P, P)`` is a work space."""
    size = slices.shape[1]
    spectrum[:size, size:] = 0.0
    spectrum[size:] = 0.0
    packed = spectrum[:size, :size]
    packed.real = slices[0]
    packed.imag = slices[1] if len(slices) > 1 else 0.0
    in_place(scipy.fft.fft, spectrum[:size], 1)
    in_place(scipy.fft.fft, spectrum, 0)
    spectrum *= multiplier
    in_place(scipy.fft.ifft, spectrum, 0)
    in_place(scipy.fft.ifft, spectrum[:size], 1)
    out[0] = packed.real
    if len(slices) > 1:
        out[1] = packed.imag


@register("radon normal")
def _test_instance(case: int) -> LinearOperator:
    theta = np.arange(7) * (31.0 + case)
    radon = Radon(theta, (3, 4, 1)[case], (9, 12, 7)[case], (4.0, 5.2, 3.0)[case])
    return RadonNormal.of(radon, None if case == 0 else 1.0 + np.cos(theta) ** 2)
