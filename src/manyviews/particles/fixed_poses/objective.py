"""The misfit of images in known poses as a function of the volume's Fourier coefficients.

    f(x) = 1/N sum_i sum_p m_p |C_ip (S_i x)_p - Y_ip|^2 / s_ip + damping/2 |x|^2

S_i reads the slice of image i by trilinear interpolation from the transform on the grid of the box itself
(padding 1) within a radius, as in Toader, Brubaker & Lederman (2025); x is the vector of
`manyviews.operators.fourier_ball`, so that the sum over half the image plane is half that over all of it and
the Hessian is the paper's, with noise of variance s_ip. It is a mean, whatever the number of images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from manyviews.errors import InputError
from manyviews.kernels.select import native, slices
from manyviews.operators.fourier_ball import FourierBall
from manyviews.operators.image_shift import shift_phases
from manyviews.particles.images.fourier_images import FourierImages

Batch = NDArray[np.int64]
_POINTS_AT_ONCE = 2**20


def centred_images(images: FourierImages, shifts: ArrayLike) -> FourierImages:
    """Images shifted by ``shifts (N, 2)`` (x, y) in angstrom, what centres them; a copy."""
    moves = np.asarray(shifts, dtype=np.float64).reshape(-1, 2) / images.pixel_size
    values = np.empty_like(images.values)
    step = max(1, _POINTS_AT_ONCE // len(images.points))
    for first in range(0, len(images), step):
        block = slice(first, first + step)
        values[block] = images.values[block] * shift_phases(moves[block], images.points, images.box).numpy()
    return replace(images, values=values)


class KnownPoses:
    """f, its gradient and its Hessian, over batches of images, in the precision of the vector it is given.

    Sums of values are in double precision; work is on the threads of the kernels and of torch.

    Parameters
    ----------
    images
        Centred: see `centred_images`. Their radius is that of the volume.
    rotations
        ``(N, 3, 3)``: rows are the image's axes in the volume.
    damping
        Tikhonov term, relative to the mean precision ``1 / s`` of a coefficient. The paper's is 1e-8.
    padding
        Grid points of the volume's transform for a cycle per box.

    Raises
    ------
    InputError
        If numbers of poses and images differ, or there is no image.
    """

    def __init__(
        self, images: FourierImages, rotations: ArrayLike, *, damping: float = 1e-8, padding: int = 1
    ) -> None:
        turns = np.asarray(rotations, dtype=np.float64).reshape(-1, 3, 3)
        if not 0 < len(images) == len(turns):
            raise InputError(f"there are {len(images)} images and {len(turns)} poses")
        self.data = images
        self.rotations = turns
        self.ball = FourierBall.of(images.radius, padding)
        self.mean_precision = float(np.mean(1.0 / images.noise_variance[:, 1:], dtype=np.float64))
        self.damping = damping * self.mean_precision
        self._precision = images.group_precision()

    @property
    def images(self) -> int:
        """How many there are."""
        return len(self.data)

    def everything(self) -> Batch:
        """The batch of all images."""
        return np.arange(self.images)

    def paper_threshold(self) -> float:
        """Least entry of a diagonal to divide by: one over the points of the outermost shell.

        The paper's alpha, in the units of this Hessian: one of so many points in one image of so many.
        """
        radius = self.ball.radius
        outermost = int(((self.ball.length > radius - 0.5) & (self.ball.length <= radius + 0.5)).sum())
        return self.mean_precision / (2 * outermost)

    def value(self, x: torch.Tensor, batch: Batch) -> float:
        """The mean over a batch."""
        grid = self.ball.to_grid(x)
        energy = sum(
            self._energy(weight, self._residual(grid, part)) for part, weight in self._parts(batch, x)
        )
        return energy / len(batch) + 0.5 * self.damping * _square(x)

    def value_and_gradient(self, x: torch.Tensor, batch: Batch) -> tuple[float, torch.Tensor]:
        """The mean over a batch and its gradient."""
        grid = self.ball.to_grid(x)
        slopes, energy = torch.zeros_like(grid), 0.0
        for part, weight in self._parts(batch, x):
            residual = self._residual(grid, part)
            energy += self._energy(weight, residual)
            self._add(slopes, part, residual.mul_(weight).mul_(self._ctf(part, x)))
        gradient = self.ball.from_grid(slopes).mul_(2.0 / len(batch)).add_(x, alpha=self.damping)
        return energy / len(batch) + 0.5 * self.damping * _square(x), gradient

    def hessian_product(self, x: torch.Tensor, v: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The Hessian over a batch times v; it is the same at every x."""
        grid = self.ball.to_grid(v)
        slopes = torch.zeros_like(grid)
        for part, weight in self._parts(batch, v):
            seen = self._slices(grid, part)
            self._add(slopes, part, seen.mul_(weight * self._ctf(part, v).square_()))
        return self.ball.from_grid(slopes).mul_(2.0 / len(batch)).add_(v, alpha=self.damping)

    def curvature(self, v: torch.Tensor, batch: Batch) -> float:
        """``<v, H v>`` over a batch, at half the cost of the product."""
        grid = self.ball.to_grid(v)
        energy = sum(
            self._energy(weight, self._slices(grid, part).mul_(self._ctf(part, v)))
            for part, weight in self._parts(batch, v)
        )
        return 2.0 * energy / len(batch) + self.damping * _square(v)

    def splatted(self, batch: Batch, *, squared: bool, like: torch.Tensor) -> torch.Tensor:
        """A diagonal made by splatting what images weigh, by shares w or ``w^2``; dtype of ``like``."""
        total = torch.zeros(self.ball.shape, dtype=like.dtype, device=like.device)
        for part, weight in self._parts(batch, like):
            given = native(2.0 * weight * self._ctf(part, like).square_())
            slices(like.device).splat_weights(
                native(total), *self._places(part, like), given, self.ball.padding, squared=squared
            )
        return self.ball.diagonal(total).div_(len(batch)).add_(self.damping)

    def _parts(self, batch: Batch, like: torch.Tensor) -> Iterator[tuple[Batch, torch.Tensor]]:
        """A few images at a time and the weights ``(m, P)`` of their squared differences."""
        step = max(1, _POINTS_AT_ONCE // len(self.data.points))
        for first in range(0, len(batch), step):
            part = batch[first : first + step]
            weight = self._precision[self.data.group[part]]
            yield part, torch.from_numpy(weight).to(like.device, like.dtype)

    def _ctf(self, part: Batch, like: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.data.ctf[part]).to(like.device, like.dtype)

    def _places(self, part: Batch, like: torch.Tensor) -> tuple[Any, Any]:
        turns = torch.from_numpy(self.rotations[part]).to(like.device, like.dtype)
        return native(turns), native(torch.from_numpy(self.data.points).to(like.device))

    def _slices(self, grid: torch.Tensor, part: Batch) -> torch.Tensor:
        kernels = slices(grid.device)
        places = self._places(part, grid.real)
        return torch.as_tensor(kernels.gather_slices(native(grid), *places, self.ball.padding))

    def _residual(self, grid: torch.Tensor, part: Batch) -> torch.Tensor:
        values = torch.from_numpy(self.data.values[part]).to(grid.device, grid.dtype)
        return self._slices(grid, part).mul_(self._ctf(part, grid.real)).sub_(values)

    def _add(self, grid: torch.Tensor, part: Batch, values: torch.Tensor) -> None:
        places = self._places(part, grid.real)
        slices(grid.device).splat_slices(native(grid), *places, native(values), self.ball.padding)

    @staticmethod
    def _energy(weight: torch.Tensor, residual: torch.Tensor) -> float:
        """``sum w |r|^2``: points of an image in its own precision, images in double."""
        squares = torch.view_as_real(residual).square().sum(-1).mul_(weight)
        return float(squares.sum(dim=1, dtype=torch.float64).sum())


def _square(x: torch.Tensor) -> float:
    return float(torch.dot(x, x)) if x.dtype == torch.float64 else float(x.double().square().sum())
