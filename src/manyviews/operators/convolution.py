"""Convolution of volumes with an even kernel, by transforms pruned to the part that is not zero."""

from __future__ import annotations

import numpy as np
import scipy.fft
import torch

from manyviews.operators.linear import LinearOperator, register
from manyviews.operators.view_kernel import ViewKernel

_BLOCK_BYTES = 64 * 2**20


class Convolution(LinearOperator):
    """``crop(F^-1 (multiplier * F (pad x)))``, self-adjoint for a real multiplier of an even kernel.

    Parameters
    ----------
    volume_shape
        ``(z, y, x)``.
    padded
        Size of the cyclic grid.
    multiplier
        ``(padded z, padded y, padded x // 2 + 1)``, real.
    """

    def __init__(
        self,
        volume_shape: tuple[int, int, int],
        padded: tuple[int, int, int],
        multiplier: torch.Tensor,
    ) -> None:
        self.domain = volume_shape
        self.range = volume_shape
        self.padded = padded
        self.multiplier = multiplier

    @classmethod
    def from_kernel(cls, kernel: ViewKernel, volume_shape: tuple[int, int, int]) -> Convolution:
        """The normal operator of the views of a kernel."""
        return cls(volume_shape, kernel.padded, kernel.spectrum)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve a volume ``(z, y, x)``."""
        if x.is_cuda:
            return self._forward_cuda(x)
        return torch.from_numpy(self._forward_cpu(x.detach().numpy()))

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """The same as `forward`."""
        return self.forward(y)

    def _forward_cpu(self, x: np.ndarray) -> np.ndarray:
        workers = torch.get_num_threads()
        depth, height, width = self.domain
        size_z, size_y, size_x = self.padded
        lines = scipy.fft.rfft(x, n=size_x, axis=2, workers=workers)
        planes = scipy.fft.fft(lines, n=size_y, axis=1, workers=workers)
        del lines
        multiplier = self.multiplier.numpy()
        rows = max(1, _BLOCK_BYTES // (planes.itemsize * size_z * planes.shape[2]))
        for first in range(0, size_y, rows):
            part = slice(first, first + rows)
            block = scipy.fft.fft(planes[:, part], n=size_z, axis=0, workers=workers)
            block *= multiplier[:, part]
            block = scipy.fft.ifft(block, axis=0, overwrite_x=True, workers=workers)
            planes[:, part] = block[:depth]
        lines = scipy.fft.ifft(planes, axis=1, overwrite_x=True, workers=workers)[:, :height]
        out = scipy.fft.irfft(lines, n=size_x, axis=2, workers=workers)[:, :, :width]
        return np.ascontiguousarray(out, dtype=x.dtype)

    def _forward_cuda(self, x: torch.Tensor) -> torch.Tensor:
        depth, height, width = self.domain
        spectrum = torch.fft.rfftn(x, s=self.padded)
        spectrum *= self.multiplier
        whole: torch.Tensor = torch.fft.irfftn(spectrum, s=self.padded)
        return whole[:depth, :height, :width].contiguous()


@register("convolution")
def _test_instance(case: int) -> LinearOperator:
    shape, padded = (
        ((3, 8, 9), (6, 15, 18)),
        ((5, 7, 12), (9, 14, 24)),
        ((4, 16, 6), (8, 32, 11)),
    )[case]
    generator = np.random.default_rng(case)
    kernel = generator.normal(size=padded)
    flipped = np.roll(kernel[::-1, ::-1, ::-1], (1, 1, 1), axis=(0, 1, 2))
    spectrum = np.fft.rfftn(kernel + flipped).real
    return Convolution(shape, padded, torch.from_numpy(spectrum))
