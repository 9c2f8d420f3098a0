"""The quadratic that all tilt solvers minimise, with its quick and its exact gradient.

    f(x) = 1/2 sum_v l_v |W_v x - p_v|^2 + damping/2 |x|^2

`normal` applies ``W' L W``, mostly the quick way (a convolution), which differs from the projectors at
detector edges and in sub-pixel detail; `exact_gradient` is one pass of the projectors over the images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

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
    """

    normal: Map
    target: torch.Tensor
    data_energy: float
    lipschitz: float
    damping: float = 0.0
    exact_gradient: Callable[[torch.Tensor], tuple[torch.Tensor, float]] | None = None

    def hessian(self, x: torch.Tensor) -> torch.Tensor:
        """``(W' L W + damping) x``."""
        out = self.normal(x)
        return out.add_(x, alpha=self.damping) if self.damping else out

    def objective(self, x: torch.Tensor, normal_x: torch.Tensor) -> float:
        """Value of the data term at ``x``, given ``normal(x)``; without the damping term."""
        return 0.5 * inner(x, normal_x) - inner(self.target, x) + 0.5 * self.data_energy


def inner(a: torch.Tensor, b: torch.Tensor) -> float:
    """``<a, b>`` summed plane by plane in float64, so that the result does not depend on the thread count."""
    planes = torch.stack([torch.dot(x.reshape(-1), y.reshape(-1)) for x, y in zip(a, b, strict=True)])
    return float(planes.double().sum())
