"""Nearly the inverse of ``W' L W + rho grad' grad + shift``, as one convolution more.

The kernel of the views, tapered along z (`ViewKernel.circulant`), and the Laplacian are products with a
function of frequency on the padded grid. Dividing by their sum there, between padding and cropping, is
self-adjoint and positive. It makes conjugate gradients quick and does not change where they end.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from manyviews.operators.convolution import Convolution
from manyviews.operators.roughness import add_roughness, bends
from manyviews.operators.row_shares import MakeArray
from manyviews.operators.view_kernel import PeriodicKernel, ViewKernel
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
    found = kernel.circulant[:, torch.from_numpy(rows)].clamp_(min=0.0)
    for along in bends(kernel.padded, rows):
        found.add_(smoothness * along.to(found))
    found.add_(shift).reciprocal_()
    return Convolution(volume_shape, kernel.padded, found, rows=kernel.rows, exchange=exchange)


def periodic_preconditioner(
    kernel: PeriodicKernel,
    volume_shape: tuple[int, int, int],
    roughness: Sequence[float],
    shift: float,
    *,
    exchange: World | None = None,
    make: MakeArray | None = None,
) -> Convolution:
    """Nearly the inverse of ``W' L W + sum_j c_j (-Laplacian)^j + shift``, cyclic along z.

    A volume that is the same in all slices is, without padding along z, a frequency by itself; padded, it
    leaks to neighbours that no view sees, and these are raised most. It has half the size of
    `normal_preconditioner`, and needs a third of its iterations where a specimen is damped by frequency.

    Parameters
    ----------
    kernel
        Of the views, made with the same ``exchange``, of the whole lateral plane.
    roughness
        c_1, c_2, ...
    shift
        Positive, since no view may look at a frequency.
    make
        Gives the room for its spectrum and its transforms, which may lie in files; None: memory.

    Raises
    ------
    ValueError
        If ``shift`` is not positive.
    """
    if not shift > 0.0:
        raise ValueError("a preconditioner needs a positive shift")
    rank = 0 if exchange is None or exchange.size == 1 else exchange.rank
    views = kernel.spectrum
    room = torch.empty_like(views) if make is None else torch.from_numpy(make(tuple(views.shape), np.float32))
    found = torch.clamp(views, min=0.0, out=room)
    add_roughness(found, roughness, kernel.grid, kernel.rows.own(rank))
    found.add_(shift).reciprocal_()
    return Convolution(volume_shape, kernel.grid, found, rows=kernel.rows, exchange=exchange, make=make)
