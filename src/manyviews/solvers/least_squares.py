"""The quadratic that all tilt solvers minimise, with its quick and its exact gradient.

    f(x) = 1/2 sum_v l_v |W_v x - p_v|^2 + damping/2 |x|^2

All volumes are slabs of a `Space`, whose inner products go over all of them. `normal` applies ``W' L W``,
mostly the quick way (a convolution), which differs from the projectors at detector edges and in sub-pixel
detail; `exact_gradient` is one pass of the projectors over the images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from manyviews.operators.linear import LinearOperator
from manyviews.random import Stream, generator
from manyviews.solvers.space import Space

Map = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class LeastSquares:
    """One least-squares problem.

    Attributes
    ----------
    normal
        ``x -> W' L W x`` without the damping.
    target
        ``W' L p``, ``(z, y, x)``.
    data_energy
        ``sum_v l_v |p_v|^2``.
    lipschitz
        Upper bound of the largest eigenvalue of ``W' L W``.
    damping
        Tikhonov term.
    exact_gradient
        ``x -> (W' L (p - W x), sum_v l_v |p_v - W_v x|^2)`` by the projectors, or None if there is none.
    quadratic
        ``x -> <x, W' L W x>`` where there is a shorter way than `normal`, else None.
    space
        Where the volumes live; None: whole ones in memory.
    first_target, first_energy
        What is minimised until the first exact gradient, where some data do not count and `normal` does not
        know it: ``W' L q`` and ``sum_v l_v |q_v|^2`` of data q with a guess in place of these. None: `target`
        and `data_energy`.
    """

    normal: Map
    target: torch.Tensor
    data_energy: float
    lipschitz: float
    damping: float = 0.0
    exact_gradient: Callable[[torch.Tensor], tuple[torch.Tensor, float]] | None = None
    quadratic: Callable[[torch.Tensor], float] | None = None
    space: Space | None = None
    first_target: torch.Tensor | None = None
    first_energy: float = 0.0

    @classmethod
    def of(
        cls,
        operator: LinearOperator,
        data: torch.Tensor,
        weights: torch.Tensor | None = None,
        damping: float = 0.0,
    ) -> LeastSquares:
        """The problem of any linear operator W: ``1/2 |L^(1/2) (W x - data)|^2 + damping/2 |x|^2``.

        Parameters
        ----------
        operator
            W, whose range is the shape of the data.
        data
            p, of the dtype and on the device of the work.
        weights
            Diagonal L, not negative, of a shape that broadcasts to the data's: ``(view, 1, 1)``. None: 1.
        damping
            Tikhonov term.

        Raises
        ------
        ValueError
            If the data are not of the operator's range.
        """
        if tuple(data.shape) != tuple(operator.range):
            raise ValueError(f"data are {tuple(data.shape)} but the operator gives {tuple(operator.range)}")

        def weighted(y: torch.Tensor) -> torch.Tensor:
            return y if weights is None else weights * y

        def normal(x: torch.Tensor) -> torch.Tensor:
            return operator.normal(x) if weights is None else operator.adjoint(weighted(operator.forward(x)))

        def exact_gradient(x: torch.Tensor) -> tuple[torch.Tensor, float]:
            residual = data - operator.forward(x)
            return operator.adjoint(weighted(residual)), _energy(residual, weighted(residual))

        target = operator.adjoint(weighted(data))
        return cls(
            normal=normal,
            target=target,
            data_energy=_energy(data, weighted(data)),
            lipschitz=_largest_eigenvalue(normal, target),
            damping=damping,
            exact_gradient=exact_gradient,
        )

    @property
    def vectors(self) -> Space:
        """The space of its volumes."""
        return self.space or Space.like(self.target)

    def hessian(self, x: torch.Tensor) -> torch.Tensor:
        """``(W' L W + damping) x``."""
        out = self.normal(x)
        return out.add_(x, alpha=self.damping) if self.damping else out

    def objective(self, x: torch.Tensor, normal_x: torch.Tensor) -> float:
        """Value of the data term at ``x``, given ``normal(x)``; without the damping term."""
        return self._objective(x, self.vectors.inner(x, normal_x))

    def value(self, x: torch.Tensor) -> float:
        """The same without ``normal(x)`` at hand."""
        if self.quadratic is None:
            return self.objective(x, self.normal(x))
        return self._objective(x, self.quadratic(x))

    def _objective(self, x: torch.Tensor, quadratic: float) -> float:
        return 0.5 * quadratic - self.vectors.inner(self.target, x) + 0.5 * self.data_energy


def _energy(residual: torch.Tensor, weighted: torch.Tensor) -> float:
    return float((residual.double() * weighted.double()).sum())


def _largest_eigenvalue(normal: Map, like: torch.Tensor, steps: int = 30) -> float:
    """By power iteration from a fixed start, which comes from below; so a tenth is added."""
    x = torch.from_numpy(generator(0, Stream.EIGENVALUE).standard_normal(like.shape)).to(like)
    length = 0.0
    for _ in range(steps):
        x = normal(x / torch.linalg.vector_norm(x))
        length = float(torch.linalg.vector_norm(x))
        if length == 0.0:
            break
    return 1.1 * length
