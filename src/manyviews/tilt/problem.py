"""From images on disk to least-squares problems: the whole series, and one for each view subset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.operators.convolution import Convolution
from manyviews.operators.tilt_projector import ReadViews, TiltProjector, pick, weighted_energy
from manyviews.operators.view_kernel import ViewKernel, make_kernel, padded_shape
from manyviews.solvers.least_squares import LeastSquares, Map
from manyviews.tilt.subsets import Subset

Shape3 = tuple[int, int, int]

# One application of the convolution costs as much as projecting the volume along this many views there and
# back, for each voxel of the padded grid over each voxel of the volume (measured: 7 ns against 0.5 ns).
VIEWS_PER_CONVOLUTION = 14


@dataclass(frozen=True)
class TiltProblem:
    """A series of views, ready for the solvers.

    Attributes
    ----------
    projector
        All views.
    read
        Images ``(k, y, x)`` of given views, on the device of the work.
    weights
        ``(view,)``.
    damping
        Tikhonov term in units of one fully overlapping view.
    convolve
        Apply ``W' L W`` as a convolution; else by the projectors.
    """

    projector: TiltProjector
    read: ReadViews
    weights: NDArray[np.float64]
    damping: float = 0.0
    convolve: bool = True
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def volume_shape(self) -> Shape3:
        """``(z, y, x)``."""
        return self.projector.volume_shape

    @property
    def one_view(self) -> float:
        """Sum of one view's rod: the unit of `damping` and of weighting floors."""
        return float(self.volume_shape[0])

    def kernel(
        self,
        *,
        circulant: bool = False,
        padded: Shape3 | None = None,
        weights: NDArray[np.float64] | None = None,
    ) -> ViewKernel:
        """Convolution kernel of all views."""
        return make_kernel(
            self.projector.groups,
            self.weights if weights is None else weights,
            self.volume_shape,
            circulant=circulant,
            padded=padded,
            device=self.device,
        )

    def least_squares(self, kernel: ViewKernel | None = None) -> LeastSquares:
        """The problem of all views; ``kernel`` if it is there already."""
        kernel = kernel or self.kernel()
        target, energy = back_projection(self.projector, self.read, self.weights)
        return LeastSquares(
            normal=self.normal_map(kernel),
            target=target,
            data_energy=energy,
            lipschitz=largest(kernel),
            damping=self.damping * self.one_view,
            exact_gradient=self._exact_gradient,
        )

    def normal_map(self, kernel: ViewKernel) -> Map:
        """``x -> W' L W x``, quick or exact."""
        if self.convolve:
            return Convolution.from_kernel(kernel, self.volume_shape).forward
        return weighted_normal(self.projector, self.weights)

    def normalised(self) -> tuple[Callable[[torch.Tensor], tuple[torch.Tensor, float]], torch.Tensor, float]:
        """What normalised SIRT needs: ``x -> (W' R (p - W x), |p - W x|^2)``, C, and ``|p|^2``."""
        projector = self.projector
        ones = torch.ones(self.volume_shape, device=self.device)
        rows = torch.empty(projector.range, device=self.device)
        for views, images in projector.project_blocks(ones):
            rows[pick(views, self.device)] = _inverse(images)
        blank = torch.ones((), device=self.device)
        columns = projector.back_project(lambda views: blank.expand(len(views), *projector.image_shape))
        energy = sum(
            float(torch.sum(self.read(np.array([view])).double() ** 2)) for view in range(len(self.weights))
        )

        def gradient(x: torch.Tensor) -> tuple[torch.Tensor, float]:
            found, residual_energy, _ = projector.residual_gradient(
                x, self.read, self.weights, row_scale=lambda views: rows[pick(views, x.device)]
            )
            return found, residual_energy

        return gradient, _inverse(columns), energy

    def _exact_gradient(self, x: torch.Tensor) -> tuple[torch.Tensor, float]:
        gradient, energy, _ = self.projector.residual_gradient(x, self.read, self.weights)
        return gradient, energy

    def part(self, subset: Subset, *, weighted: bool) -> TiltProblem:
        """The problem of one subset.

        ``weighted``: as a share of the whole problem, so that all shares add up to it. Borrowed views count
        1 / multiplicity, and the damping is shared out in proportion to the views.

        A subset of few views is projected directly, which is then quicker than the convolution, unless its
        slices have to be rotated first.
        """
        views = subset.views
        weights = self.weights[views] * (subset.weights if weighted else 1.0)
        share = subset.weights.sum() / len(self.weights) if weighted else 1.0
        projector = self.projector.select(views)
        padded = padded_shape(projector.groups, self.volume_shape)
        upright = not any(group.rotated for group in projector.groups)
        few = len(views) < VIEWS_PER_CONVOLUTION * prod(padded) / prod(self.volume_shape)
        return TiltProblem(
            projector=projector,
            read=lambda indices: self.read(views[indices]),
            weights=weights,
            damping=self.damping * float(share),
            convolve=self.convolve and not (few and upright),
            device=self.device,
        )


def _inverse(x: torch.Tensor) -> torch.Tensor:
    """1 / x where x is more than a trifle, else 0."""
    return torch.where(x > 1e-3 * x.max(), 1.0 / x, torch.zeros_like(x))


def back_projection(
    projector: TiltProjector, read: ReadViews, weights: NDArray[np.float64]
) -> tuple[torch.Tensor, float]:
    """``W' L p`` and ``sum_v l_v |p_v|^2`` in one pass over the images."""
    energy = 0.0

    def weighted(views: NDArray[np.int64]) -> torch.Tensor:
        nonlocal energy
        images = read(views)
        scale = torch.from_numpy(weights[views]).to(images).view(-1, 1, 1)
        energy += weighted_energy(images, weights[views])
        return images * scale

    return projector.back_project(weighted), energy


def weighted_normal(projector: TiltProjector, weights: NDArray[np.float64]) -> Map:
    """``x -> W' L W x`` by the projectors, a block of views at a time."""

    def normal(x: torch.Tensor) -> torch.Tensor:
        zero = torch.zeros((), dtype=x.dtype, device=x.device)
        read = lambda views: zero.expand(len(views), *projector.image_shape)  # noqa: E731
        return projector.residual_gradient(x, read, weights)[0].neg_()

    return normal


def largest(kernel: ViewKernel) -> float:
    """A bound on the largest eigenvalue: the greatest value of the spectrum, and a little for safety."""
    return 1.02 * float(kernel.spectrum.max())
