"""Nearly the inverse of ``rho1 R' L R - rho2 div grad``, by transforms of slices.

In the plane of a slice both terms are nearly products with a function of frequency: projecting and
back-projecting with about ``views / (pi |k|)``, the Laplacian with ``4 - 2 cos - 2 cos``. What couples slices
is a chain of neighbours, solved exactly at each frequency. Of the circulant matrices the one nearest to the
convolution is taken (T. Chan 1988, SIAM J. Sci. Stat. Comput. 9:766): it knows missing angles and weights.

It makes conjugate gradients quick and does not change where they end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray

from manyviews.kernels.columns_cpu import solve_columns
from manyviews.operators.linear import LinearOperator, Shape, register, require_shape
from manyviews.operators.radon import Radon
from manyviews.operators.radon_normal import RadonNormal, nearest_cyclic
from manyviews.operators.row_shares import RowShares, gather_rows, scatter_rows
from manyviews.operators.slice_threads import each_block
from manyviews.parallel.world import World

Array = NDArray[Any]
# Beyond the Nyquist frequency, and where no view looks, the convolution is nearly zero; what it would be if
# views lay on all sides, times this, is taken there for its size.
FLOOR = 0.5
_ROWS_TOGETHER = 8
_PIXELS_TOGETHER = 1 << 16  # of small slices several at a time: threads wait for each other's Python


def circulant_spectrum(normal: RadonNormal) -> NDArray[np.float64]:
    """``(size, size // 2 + 1)``: the product in frequency that is nearest to a convolution; positive."""
    size = normal.domain[1]
    kernel = normal.kernel
    cyclic = nearest_cyclic(kernel, size, size)
    found = np.real(scipy.fft.rfft2(cyclic))
    frequency = np.hypot(scipy.fft.fftfreq(size)[:, None], scipy.fft.rfftfreq(size))
    everywhere = kernel[0, 0] / (math.pi * np.maximum(frequency, 0.5 / size))
    positive: NDArray[np.float64] = np.maximum(found, FLOOR * everywhere)
    return positive


class FourierPreconditioner(LinearOperator):
    """Self-adjoint and positive on volumes ``(z, y, x)``.

    Parameters
    ----------
    shape
        ``(z, y, x)`` of own slices, y and x the same.
    spectrum
        ``(size, size // 2 + 1)`` of `circulant_spectrum`.
    data_weight, smoothness
        rho1 and rho2, not both zero.
    support
        ``(y, x)``, 1 where voxels are free and 0 where they are held at zero; None: all are free.
    threads
        0: as many as torch uses.
    slabs, exchange
        Slices of every rank, and the ranks; None: this one has all.
    """

    def __init__(
        self,
        shape: Shape,
        spectrum: NDArray[np.float64],
        data_weight: float,
        smoothness: float,
        *,
        support: torch.Tensor | None = None,
        threads: int = 0,
        slabs: Sequence[slice] | None = None,
        exchange: World | None = None,
    ) -> None:
        self.domain = self.range = shape
        self.support = support
        self.threads = threads
        self.smoothness = smoothness
        self.exchange = exchange if exchange is not None and exchange.size > 1 else None
        self.slabs = (slice(0, shape[0]),) if slabs is None or self.exchange is None else tuple(slabs)
        ranks = 1 if self.exchange is None else self.exchange.size
        self.rows = RowShares.of((self.slabs[-1].stop, shape[1], shape[2]), ranks)
        along = [
            2.0 - 2.0 * np.cos(2.0 * np.pi * f(shape[1])) for f in (scipy.fft.fftfreq, scipy.fft.rfftfreq)
        ]
        self.diagonal = data_weight * spectrum + smoothness * (along[0][:, None] + along[1])

    def forward(self, x: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Apply to ``(z, y, x)``; ``out`` is for the result and may be ``x``, None: a new tensor."""
        require_shape(x, self.domain, "the preconditioner")
        result = torch.empty_like(x, memory_format=torch.contiguous_format) if out is None else out
        self.apply(x, result)
        return result

    def apply(self, x: torch.Tensor, out: torch.Tensor) -> NDArray[np.float64]:
        """As `forward`, into ``out``; returns the products ``(z,)`` of every slice before and after."""
        require_shape(x, self.domain, "the preconditioner")
        volume, written = x.detach().numpy(), out.detach().numpy()
        products = np.empty(len(volume))
        mask = None if self.support is None else self.support.to(x.dtype).numpy()
        depth, height, width = volume.shape
        kind = np.result_type(volume.dtype, np.complex64)
        planes = np.empty((depth, height, width // 2 + 1), kind)

        def to_frequencies(_: None, z: slice) -> None:
            planes[z] = scipy.fft.rfft2(volume[z] if mask is None else volume[z] * mask)

        def from_frequencies(_: None, z: slice) -> None:
            found = scipy.fft.irfft2(planes[z], s=(height, width), overwrite_x=True)
            if mask is not None:
                found *= mask
            for number, before, after in zip(range(z.start, z.stop), volume[z], found, strict=True):
                products[number] = np.vdot(before, after)
            written[z] = found

        together = max(1, _PIXELS_TOGETHER // (height * width))
        each_block(depth, together, self.threads, lambda: None, to_frequencies)
        for block in self.rows.blocks:
            self._solve(planes, block)
        each_block(depth, together, self.threads, lambda: None, from_frequencies)
        return products

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """The same as `forward`."""
        return self.forward(y)

    def _solve(self, planes: Array, block: slice) -> None:
        """Along z, in this rank's rows of a block."""
        held = torch.from_numpy(planes)
        values = gather_rows(held, block, self.slabs, self.rows, self.exchange).numpy()
        own = block if self.exchange is None else self.rows.shares(block)[self.exchange.rank]
        real = values.real.dtype
        diagonal = self.diagonal[own].astype(real)
        coupling = real.type(self.smoothness)

        def solve(pivots: Array, rows: slice) -> None:
            pairs = values[:, rows].view(real).reshape(len(values), -1, values.shape[2], 2)
            solve_columns(pairs, diagonal[rows], coupling, pivots)

        each_block(
            values.shape[1], _ROWS_TOGETHER, self.threads,
            lambda: np.empty((len(values), values.shape[2]), real), solve,
        )  # fmt: skip
        if self.exchange is not None:
            scatter_rows(torch.from_numpy(values), held, block, self.slabs, self.rows, self.exchange)


@register("fourier preconditioner")
def _test_instance(case: int) -> LinearOperator:
    size, rows = ((9, 3), (12, 4), (7, 1))[case]
    radon = Radon(np.arange(9) * 21.0, rows, size, 0.5 * (size - 1))
    support = None if case == 0 else torch.ones((size, size)).triu(-3)
    spectrum = circulant_spectrum(RadonNormal.of(radon))
    return FourierPreconditioner(radon.domain, spectrum, 0.7, 3.0 * case, support=support)
