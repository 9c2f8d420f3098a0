"""The tomography sub-problem: a volume with projections near to some, and a gradient near to another.

    F(u) = rho1 |R u - a|^2 + rho2 |grad u - b|^2
    a = psi_1 - lambda_1 / rho1,    b = psi_2 - lambda_2 / rho2

(Nikitin et al. 2021, IEEE Trans. Comput. Imaging 7:272, section 2.B), with weights L of views in the first
norm. Half the gradient is ``rho1 R' L (R u - a) + rho2 (-div)(grad u - b)``.

Two ways to a few iterations: `printed_steps` are the paper's, `preconditioned_steps` ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.kernels.columns_cpu import bend_slices
from manyviews.nano.admm.line_search import armijo_step
from manyviews.nano.solve.pitched import PitchedViews
from manyviews.operators.differences import add_laplacian, differences, divergence, neighbour_slices
from manyviews.operators.fourier_preconditioner import FourierPreconditioner, circulant_spectrum
from manyviews.operators.radon import Radon
from manyviews.operators.radon_normal import RadonNormal
from manyviews.parallel.world import World
from manyviews.solvers.least_squares import LeastSquares
from manyviews.solvers.space import Space

# The largest eigenvalue of minus the Laplacian of a volume.
_LAPLACIAN_NORM = 12.0
# Of a slice. On 64^3 voxels F falls as with two sides in the same number of iterations (1.25 leave 1 to
# 10 % more in the first ones, 1 still 5 % after eight), and transforms take 0.6 of the time.
_QUICK_SIDES = 1.5


@dataclass(frozen=True)
class Penalties:
    """rho1 of the projections and rho2 of the gradient, of which one may be zero."""

    projections: float
    gradient: float


@dataclass(frozen=True)
class TomographyProblem:
    """What stays the same from one iteration to the next.

    Attributes
    ----------
    radon, normal
        R and its normal operator, with the weights of the views.
    quick
        Nearly the normal operator, on fewer pixels.
    spectrum
        Of the normal operator, for the preconditioner.
    norm
        Largest eigenvalue of ``R' L R``, nearly.
    weights
        ``(view, 1, 1)``; None: 1.
    support
        ``(y, x)``, 1 where voxels are free and 0 where they are held at zero; None: all are free.
    space
        Where the volumes live; None: whole ones in memory.
    slabs, shares
        Ranks that share the volume, and the slices of each; None: this one has all.
    pitched
        In place of R where views are tilted towards the beam; ``normal`` is that of R nevertheless.
    """

    radon: Radon
    normal: RadonNormal
    quick: RadonNormal
    spectrum: NDArray[np.float64]
    norm: float
    weights: torch.Tensor | None = None
    support: torch.Tensor | None = None
    space: Space | None = None
    slabs: World | None = None
    shares: Sequence[slice] | None = None
    pitched: PitchedViews | None = None

    @property
    def projector(self) -> Radon | PitchedViews:
        """R as views are."""
        return self.radon if self.pitched is None else self.pitched

    @classmethod
    def of(
        cls,
        radon: Radon,
        weights: torch.Tensor | None = None,
        *,
        support: torch.Tensor | None = None,
        space: Space | None = None,
        slabs: World | None = None,
        shares: Sequence[slice] | None = None,
    ) -> TomographyProblem:
        """The problem of a projector; ``weights (view,)`` are not negative, the rest as of the class."""
        normal = RadonNormal.of(radon, None if weights is None else weights.numpy())
        column = None if weights is None else weights[:, None, None]
        spectrum = circulant_spectrum(normal)
        quick = normal.nearest(_QUICK_SIDES)
        return cls(radon, normal, quick, spectrum, normal.norm(), column, support, space, slabs, shares)

    def half_gradient(
        self, u: torch.Tensor, residual: torch.Tensor, b: torch.Tensor | None, rho: Penalties
    ) -> torch.Tensor:
        """Half of F's gradient at ``u``, exactly, of free voxels.

        ``residual (view, z, x)`` is ``R u - a``, ``b (3, z, y, x)``; None: zero. Differences of b that lead
        out of the volume must be zero, as those of volumes are.
        """
        weighted = residual if self.weights is None else residual * self.weights
        found = self.projector.adjoint(weighted, out=None if self.space is None else self.space.allocate())
        if rho.projections != 1.0:
            found.mul_(rho.projections)
        if rho.gradient > 0.0:
            add_laplacian(u, rho.gradient, found, self.slabs)
            if b is not None:
                found.add_(divergence(b, self.slabs), alpha=rho.gradient)
        return self._free(found)

    def descent(self, residual: torch.Tensor, slopes: torch.Tensor, rho: Penalties) -> torch.Tensor:
        """Minus half of F's gradient, in place of ``slopes``, which are the transpose of ``grad u - b``.

        ``residual (view, z, x)`` is ``L (R u - a)``.
        """
        room = self.projector.adjoint(residual, out=(self.space or Space.like(slopes)).allocate())
        slopes.mul_(-rho.gradient).sub_(room, alpha=rho.projections)
        return self._free(slopes)

    def hessian(self, x: torch.Tensor, rho: Penalties, out: torch.Tensor) -> torch.Tensor:
        """Half of F's Hessian times ``x``, into ``out``, as if no projection were cut off at the detector."""
        self._bent(self.normal, x, rho, out)
        return out

    def bend(self, x: torch.Tensor, rho: Penalties, out: torch.Tensor, *, quick: bool = False) -> float:
        """`hessian`, exactly or nearly, and its product with ``x``."""
        products = self._bent(self.quick if quick else self.normal, x, rho, out)
        return (self.space or Space.like(x)).total(float(products.sum()))

    def _bent(
        self, normal: RadonNormal, x: torch.Tensor, rho: Penalties, out: torch.Tensor
    ) -> NDArray[np.float64]:
        """`hessian`, slice by slice while they are in the cache; products ``(z,)`` with ``x``."""
        before, after = neighbour_slices(x, self.slabs)
        volume, written = x.detach().numpy(), out.detach().numpy()
        kind = volume.dtype.type
        scale, weight = kind(rho.gradient), kind(rho.projections)
        free = np.ones(volume.shape[1:], kind) if self.support is None else self.support.to(x.dtype).numpy()
        products = np.empty(len(volume))

        def finish(z: slice) -> None:
            bend_slices(volume, before, after, scale, weight, free, z.start, z.stop, written, products)

        normal.forward(x, out=out, then=finish)
        return products

    def preconditioner(self, rho: Penalties) -> FourierPreconditioner:
        """Nearly the inverse of `hessian`."""
        return FourierPreconditioner(
            self.normal.domain, self.spectrum, rho.projections, rho.gradient,
            support=self.support, threads=self.radon.threads, slabs=self.shares, exchange=self.slabs,
        )  # fmt: skip

    def least_squares(self, projections: torch.Tensor) -> LeastSquares:
        """``1/2 |L^(1/2) (R u - projections)|^2`` over free voxels, for any solver of such problems.

        Its quick normal operator is the convolution; solvers that refresh end where the detector's edges say.
        """
        one = Penalties(1.0, 0.0)

        def normal(x: torch.Tensor) -> torch.Tensor:
            return self.hessian(x, one, torch.empty_like(x))

        def exact_gradient(x: torch.Tensor) -> tuple[torch.Tensor, float]:
            residual = self.projector.forward(x).sub_(projections)
            return self.half_gradient(x, residual, None, one).neg_(), self._energy(residual)

        target = self.half_gradient(projections.new_zeros(self.radon.domain), projections, None, one)
        return LeastSquares(
            normal, target, self._energy(projections), 1.1 * self.norm, exact_gradient=exact_gradient
        )

    def _energy(self, images: torch.Tensor) -> float:
        weighted = images if self.weights is None else images * self.weights
        return Space.like(images).inner(images, weighted)

    def _free(self, volume: torch.Tensor) -> torch.Tensor:
        return volume if self.support is None else volume.mul_(self.support)


def preconditioned_steps(
    problem: TomographyProblem,
    u: torch.Tensor,
    residual: torch.Tensor,
    b: torch.Tensor | None,
    rho: Penalties,
    steps: int,
) -> torch.Tensor:
    """A volume of lower F: conjugate gradients with closed-form steps, one convolution each.

    The gradient at ``u`` is exact; what is fitted to it is the quadratic whose Hessian is the convolution.
    That is never less than F's own, so F falls, and where `half_gradient` is zero ``u`` stays: detectors that
    miss a part of the specimen only make it slower. ``u`` is zero where voxels are held; arguments are of
    `TomographyProblem.half_gradient`.
    """
    remaining = problem.half_gradient(u, residual, b, rho).neg_()
    return preconditioned_way(problem, remaining, rho, steps).found.add_(u)


@dataclass(frozen=True)
class Way:
    """Where conjugate gradients went: ``found``, and its product with the ``remaining`` they began with."""

    found: torch.Tensor
    product: float


def preconditioned_way(
    problem: TomographyProblem, remaining: torch.Tensor, rho: Penalties, steps: int, *, quick: bool = False
) -> Way:
    """Nearly the Hessian's inverse times ``remaining``, which is overwritten: minus half a gradient.

    Directions are conjugate, so that the product is a sum of those of the steps. A ``quick`` one may go too
    far: its length has to be looked for.
    """
    space = problem.space or Space.like(remaining)
    precondition = problem.preconditioner(rho)
    direction, bent = space.allocate(), space.allocate()
    slope = space.total(float(precondition.apply(remaining, direction).sum()))
    found, product = space.zeros(), 0.0
    for step in range(steps):
        curvature = problem.bend(direction, rho, bent, quick=quick)
        if not curvature > 0.0:  # the minimum
            break
        length = slope / curvature
        found.add_(direction, alpha=length)
        product += length * slope
        if step + 1 == steps:
            break
        remaining.sub_(bent, alpha=length)
        new_slope = space.total(float(precondition.apply(remaining, bent).sum()))
        torch.add(bent, direction, alpha=new_slope / slope, out=direction)
        slope = new_slope
    return Way(found, product)


def printed_steps(
    problem: TomographyProblem,
    u: torch.Tensor,
    residual: torch.Tensor,
    b: torch.Tensor | None,
    rho: Penalties,
    steps: int,
) -> torch.Tensor:
    """The paper's iterations: Dai and Yuan's directions (1999, SIAM J. Optim. 10:177) and a line search.

    Gradients are of operators with norm one, so that the search begins with a step of 1. It costs a
    projection and a back-projection an iteration; arguments are as of `preconditioned_steps`.
    """
    space = problem.space or Space.like(u)
    images = Space.like(residual)
    scale = 1.0 / (rho.projections * problem.norm + rho.gradient * _LAPLACIAN_NORM)
    found, left = space.copy(u), residual.clone()
    gradient = problem.half_gradient(found, left, b, rho).mul_(scale)
    direction = gradient.neg()
    for step in range(steps):
        projected = problem.projector.forward(direction)
        weighted = projected if problem.weights is None else projected * problem.weights
        curvature = rho.projections * images.inner(projected, weighted)
        if rho.gradient > 0.0:
            slopes = differences(direction, problem.slabs)
            curvature += rho.gradient * sum(space.inner(part, part) for part in slopes)
        length = armijo_step(space.inner(gradient, direction) / scale, curvature)
        found.add_(direction, alpha=length)
        if step + 1 == steps:
            break
        left.add_(projected, alpha=length)
        new = problem.half_gradient(found, left, b, rho).mul_(scale)
        change = space.inner(direction, new) - space.inner(direction, gradient)
        share = space.inner(new, new) / change if change > 0.0 else 0.0
        direction.mul_(share).sub_(new)
        gradient = new
    return found
