"""Powers of minus the Laplacian as factors at the frequencies of a cyclic grid.

A quadratic penalty ``sum_j c_j <x, (-Laplacian)^j x>`` is a convolution whose kernel reaches as many voxels
as its highest power, so that it adds to the kernel of the views (`manyviews.operators.view_kernel`) at no
cost.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray

Shape3 = tuple[int, int, int]


def bend(frequency: NDArray[np.float64]) -> NDArray[np.float64]:
    """Eigenvalues of minus the second difference at frequencies in cycles a sample."""
    return np.asarray(2.0 - 2.0 * np.cos(2.0 * np.pi * frequency))


def bends(grid: Shape3, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Those along z, some rows of y, and x, float64, that broadcast to ``(z, rows, x // 2 + 1)``."""
    along_z, along_y = bend(scipy.fft.fftfreq(grid[0])), bend(scipy.fft.fftfreq(grid[1]))[rows]
    along_x = bend(scipy.fft.rfftfreq(grid[2]))
    return (
        torch.from_numpy(along_z).view(-1, 1, 1),
        torch.from_numpy(along_y).view(1, -1, 1),
        torch.from_numpy(along_x).view(1, 1, -1),
    )


def add_roughness(
    spectrum: torch.Tensor, coefficients: Sequence[float], grid: Shape3, rows: NDArray[np.int64]
) -> torch.Tensor:
    """Add ``sum_j c_j (-Laplacian)^j``, j from 1, to a spectrum on a grid, in place.

    Parameters
    ----------
    spectrum
        ``(z, rows, x // 2 + 1)``, real.
    coefficients
        c_1, c_2, ...
    grid, rows
        ``(z, y, x)`` of the cyclic grid, and which rows of y-frequency the spectrum has.
    """
    if not any(coefficients):
        return spectrum
    along_z, along_y, along_x = (part.to(spectrum) for part in bends(grid, rows))
    plane = along_y + along_x
    for values, own in zip(spectrum, along_z, strict=True):  # a plane at a time: no room for another spectrum
        eigenvalues = own + plane[0]
        total = torch.zeros_like(eigenvalues)
        for factor in reversed(coefficients):
            total.add_(factor).mul_(eigenvalues)
        values.add_(total)
    return spectrum
