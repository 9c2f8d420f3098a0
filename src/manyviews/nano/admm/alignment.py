"""The alignment sub-problem: projections that are like the data when deformed, and like the volume's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manyviews.kernels.warp_fit_cpu import fit_images

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


def align_step(
    data: Float32, flow: Float32, wanted: Float32, start: Float32, rho: float, *,
    weights: Float64 | None = None, steps: int = 4, order: int = 3, mass: bool = False,
) -> Float32:  # fmt: skip
    """``min_p w |D_f p - data|^2 + rho |p - wanted|^2`` for each view, by conjugate gradients.

    With both terms without a factor of a half (or both with it), as in the published program; its paper
    writes the second with rho / 2 (Nikitin et al., IEEE Trans. Comput. Imaging 7 (2021) 272, section
    2.C). ``wanted`` is ``R u + lambda / rho``.

    Parameters
    ----------
    data, wanted, start
        ``(n, z, x)`` what was measured, what the volume says, where to begin.
    flow
        ``(n, 2, z, x)``.
    rho
        Weight of the second term, above 0.
    weights
        ``(n,)`` of the views' data; None: 1.
    steps
        Each takes ``D_f`` and its transpose once. The matrix has eigenvalues from rho to little more than
        w + rho, so four steps do.
    order
        Of the interpolation.
    mass
        ``D_f`` moves mass (the transpose of a pull-back) instead of reading values.
    """
    return fit_images(data, flow, wanted, start, rho, weights=weights, steps=steps, order=order, mass=mass)
