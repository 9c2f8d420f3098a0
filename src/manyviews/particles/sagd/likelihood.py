"""The log likelihood of images as matrix products.

For image i, pose r and shift l, with ``w = m / s`` the precision of a coefficient and ``e`` the phase of the
shift,

    log p = -sum_p w |Y - C e S_r|^2
          = 2 Re sum_p conj(w C Y conj(e)) S_r  -  sum_p w C^2 |S_r|^2  -  sum_p w |Y|^2

The first term is a product of real matrices (images x shifts) x (poses), the second is one of (images) x
(poses), the third is a number that no pose changes: a constant of the image, kept in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.particles.images.fourier_images import FourierImages


@dataclass(frozen=True)
class ImageTerms:
    """What the likelihood takes from images.

    ``matched (N, P)``, complex, is ``2 w C Y``; ``power (N, P)`` is ``w C^2``; ``energy (N,)``, float64, is
    ``sum_p w |Y|^2``.
    """

    matched: torch.Tensor
    power: torch.Tensor
    energy: NDArray[np.float64]

    @classmethod
    def of(cls, images: FourierImages) -> ImageTerms:
        """Those of a batch, in the precision of its values."""
        weight = images.precision()
        weighted = weight * images.ctf
        energy = np.asarray(np.sum(weight * np.abs(images.values) ** 2, axis=1, dtype=np.float64))
        return cls(
            torch.from_numpy(2.0 * weighted * images.values),
            torch.from_numpy((weighted * images.ctf).astype(images.values.real.dtype, copy=False)),
            energy,
        )


def as_real_rows(values: torch.Tensor) -> torch.Tensor:
    """Complex ``(M, P)`` as real ``(M, 2P)``: real and imaginary parts in turn."""
    return torch.view_as_real(values).reshape(len(values), -1)
