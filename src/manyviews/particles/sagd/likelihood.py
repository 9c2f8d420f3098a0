"""The log likelihood of images as matrix products, and the volume it is a function of.

For image i, pose r and shift l, with ``w = m / s`` the precision of a coefficient and ``e`` the phase of the
shift,

    log p = -sum_p w |Y - C e S_r|^2
          = 2 Re sum_p conj(w C Y conj(e)) S_r  -  sum_p w C^2 |S_r|^2  -  sum_p w |Y|^2

The first term is a product of real matrices (images x shifts) x (poses), the second is one of (images) x
(poses), the third is a number that no pose changes: a constant of the image, kept in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.kernels.slices_cpu import gather_slices, splat_slices
from manyviews.operators.fourier_slice import grid_adjoint, volume_to_grid
from manyviews.particles.images.fourier_images import FourierImages


@dataclass(frozen=True)
class ImageTerms:
    """What the likelihood takes from images.

    Attributes
    ----------
    matched
        ``(N, P)`` complex: ``2 w C Y``.
    power
        ``(N, P)``: ``w C^2``.
    energy
        ``(N,)`` float64: ``sum_p w |Y|^2``.
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


class SliceModel:
    """A volume ready to be sliced, and the gradient of what is done with its slices.

    Parameters
    ----------
    volume
        ``(d, d, d)`` real; it may have fewer voxels than the images have pixels, for the same field of view.
    points
        ``(P, 2)`` image frequencies.
    radius
        The largest of them.
    padding
        Oversampling of the transform.
    """

    def __init__(self, volume: torch.Tensor, points: NDArray[Any], radius: int, padding: int = 2) -> None:
        self.box = volume.shape[0]
        self.points = points
        self.radius = radius
        self.padding = padding
        self.grid = volume_to_grid(volume, radius, padding)
        self._array = self.grid.numpy()
        self._slope: torch.Tensor | None = None

    def slices(self, rotations: NDArray[np.floating[Any]]) -> torch.Tensor:
        """``(M, P)`` complex slices for poses ``(M, 3, 3)``."""
        return torch.from_numpy(gather_slices(self._array, rotations, self.points, self.padding))

    def add_slope(self, rotations: NDArray[np.floating[Any]], slopes: torch.Tensor) -> None:
        """Take in slopes ``(M, P)`` of a function of slices: of the real part + i of the imaginary."""
        if self._slope is None:
            self._slope = torch.zeros_like(self.grid)
        splat_slices(self._slope.numpy(), rotations, self.points, slopes.numpy(), self.padding)

    def gradient(self) -> torch.Tensor:
        """Gradient ``(d, d, d)`` of that function with respect to the volume."""
        slope = torch.zeros_like(self.grid) if self._slope is None else self._slope
        return grid_adjoint(slope, self.box, self.radius, self.padding)


def as_real_rows(values: torch.Tensor) -> torch.Tensor:
    """Complex ``(M, P)`` as real ``(M, 2P)``: real and imaginary parts in turn."""
    return torch.view_as_real(values).reshape(len(values), -1)
