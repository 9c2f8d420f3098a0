"""Nearly the inverse of ``W' L W + rho grad' grad + shift``, as one convolution more.

The kernel of the views, tapered along z (`ViewKernel.circulant`), and the Laplacian are products with a
function of frequency on the padded grid. Dividing by their sum there, between padding and cropping, is
self-adjoint and positive. It makes conjugate gradients quick and does not change where they end.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
import torch

from manyviews.operators.convolution import Convolution
from manyviews.operators.view_kernel import ViewKernel
from manyviews.parallel.world import World


def normal_preconditioner(
    kernel: ViewKernel,
    volume_shape: tuple[int, int, int],
    smoothness: float,
    shift: float,
    *,
    exchange: World | None = None,
) -> Convolution:
    """The operator for a kernel that was made with ``circulant`` and with the same ``exchange``.

    Parameters
    ----------
    kernel
        Of the views, on a grid of one tile.
    volume_shape
        ``(z, y, x)`` of the whole volume.
    smoothness, shift
        rho of the Laplacian, and what is added at all frequencies: positive, since no view may look there.

    Raises
    ------
    ValueError
        If the kernel has no circulant, or ``shift`` is not positive.
    """
    if kernel.circulant is None or not shift > 0.0:
        raise ValueError("a preconditioner needs a circulant kernel and a positive shift")
    rank = 0 if exchange is None or exchange.size == 1 else exchange.rank
    rows = kernel.rows.own(rank)
    size_z, size_y, size_x = kernel.padded
    found = kernel.circulant[:, torch.from_numpy(rows)].clamp_(min=0.0)
    for axis, bend in enumerate(
        (
            _bend(scipy.fft.fftfreq(size_z)),
            _bend(scipy.fft.fftfreq(size_y))[rows],
            _bend(scipy.fft.rfftfreq(size_x)),
        )
    ):
        along = torch.from_numpy(smoothness * bend).to(found)
        found.add_(along.view([-1 if axis == one else 1 for one in range(3)]))
    found.add_(shift).reciprocal_()
    return Convolution(volume_shape, kernel.padded, found, rows=kernel.rows, exchange=exchange)


def _bend(frequency: np.ndarray) -> np.ndarray:
    """Eigenvalues of minus the second difference on a ring."""
    return np.asarray(2.0 - 2.0 * np.cos(2.0 * np.pi * frequency))
