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
    """

    normal: Map
    target: torch.Tensor
    data_energy: float
    lipschitz: float
    damping: float = 0.0
    exact_gradient: Callable[[torch.Tensor], tuple[torch.Tensor, float]] | None = None
    quadratic: Callable[[torch.Tensor], float] | None = None
    space: Space | None = None

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
