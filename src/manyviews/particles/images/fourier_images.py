"""Particle images as the Fourier coefficients that all algorithms of this room work on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from manyviews.operators.fourier_points import half_plane, shells


@dataclass(frozen=True)
class FourierImages:
    """Half-plane Fourier coefficients of particle images, with their transfer functions and noise.

    The log likelihood of image ``i`` seen as ``S`` is ``-sum_p m_p |Y_ip - C_ip S_p|^2 / s_p`` with ``s_p``
    the variance of its noise in the point's shell and ``m_p`` 1, or 1/2 at zero frequency, which is real.

    Attributes
    ----------
    points
        ``(P, 2)`` int32 ``(kx, ky)``, sorted by length: a smaller radius is a prefix.
    values
        ``(N, P)`` complex64, unnormalised transforms of the images with their origin at pixel ``n // 2``.
    ctf
        ``(N, P)`` float32.
    noise_variance
        ``(G, radius + 1)`` float32, ``E |noise|^2`` of a coefficient in each shell, for each noise group.
    group
        ``(N,)`` noise group of each image.
    box
        Pixels along a side of the images.
    pixel_size
        Angstrom.
    radius
        Largest frequency in Fourier pixels.
    """

    points: NDArray[np.int32]
    values: NDArray[np.complex64]
    ctf: NDArray[np.float32]
    noise_variance: NDArray[np.float32]
    group: NDArray[np.int32]
    box: int
    pixel_size: float
    radius: int

    def __len__(self) -> int:
        return len(self.values)

    def shells(self) -> NDArray[np.int64]:
        """``(P,)`` shell of each point: its length, rounded."""
        return shells(self.points)

    def crop(self, radius: int) -> FourierImages:
        """The frequencies up to ``radius``; arrays are views of these."""
        if radius >= self.radius:
            return self
        count = len(half_plane(radius, self.box))
        return replace(
            self,
            points=self.points[:count],
            values=self.values[:, :count],
            ctf=self.ctf[:, :count],
            noise_variance=self.noise_variance[:, : radius + 1],
            radius=radius,
        )

    def select(self, chosen: NDArray[np.integer] | slice) -> FourierImages:
        """Some of the images; copies, unless ``chosen`` is a slice."""
        return replace(self, values=self.values[chosen], ctf=self.ctf[chosen], group=self.group[chosen])

    def group_precision(self) -> NDArray[np.float32]:
        """``(G, P)`` ``m_p / s_p``: the weight of a squared difference in the log likelihood."""
        weight = 1.0 / self.noise_variance[:, self.shells()]
        weight[:, 0] *= 0.5
        return np.asarray(weight, dtype=np.float32)

    def precision(self) -> NDArray[np.float32]:
        """``(N, P)``: that of each image's group."""
        return self.group_precision()[self.group]
