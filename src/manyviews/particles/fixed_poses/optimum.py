"""The exact minimum of images in known poses, and how far a vector is from it: what methods are held against.

Both baselines are SciPy's: preconditioned conjugate gradients on the normal equations, and L-BFGS (Liu &
Nocedal 1989), which the paper compares with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse.linalg import LinearOperator, cg

from manyviews.particles.fixed_poses.objective import KnownPoses

Tell = Callable[[torch.Tensor], None]


@dataclass(frozen=True)
class Optimum:
    """Where the objective is least.

    ``relative_residual`` is the norm of the gradient there over that at zero; ``iterations`` were needed.
    """

    x: torch.Tensor
    value: float
    gradient: torch.Tensor
    relative_residual: float
    iterations: int

    def excess(self, objective: KnownPoses, x: torch.Tensor) -> float:
        """``f(x)`` less its minimum, from the quadratic itself: no two large numbers are subtracted."""
        away = x - self.x
        slope = float(torch.dot(self.gradient.double(), away.double()))
        return slope + 0.5 * objective.curvature(away, objective.everything())


def least_squares_optimum(
    objective: KnownPoses,
    diagonal: torch.Tensor,
    *,
    tolerance: float = 1e-6,
    iterations: int = 500,
    tell: Tell | None = None,
) -> Optimum:
    """By conjugate gradients, preconditioned by a positive diagonal, to a relative residual ``tolerance``."""
    everything = objective.everything()
    zero = torch.zeros_like(diagonal)
    _, slope = objective.value_and_gradient(zero, everything)
    taken = 0

    def product(v: NDArray[np.floating]) -> NDArray[np.floating]:
        given = torch.from_numpy(np.ascontiguousarray(v.reshape(-1))).to(zero)
        return np.asarray(objective.hessian_product(given, given, everything).numpy())

    def divide(v: NDArray[np.floating]) -> NDArray[np.floating]:
        return np.asarray(v.reshape(-1) / diagonal.numpy())

    def count(x: NDArray[np.floating]) -> None:
        nonlocal taken
        taken += 1
        if tell is not None:
            tell(torch.from_numpy(x).to(zero))

    kind, size = diagonal.numpy().dtype, len(diagonal)
    system, preconditioner = (LinearOperator((size, size), act, dtype=kind) for act in (product, divide))
    found, _ = cg(
        system, -slope.numpy(), rtol=tolerance, maxiter=iterations, M=preconditioner, callback=count
    )
    x = torch.from_numpy(found).to(zero)
    value, gradient = objective.value_and_gradient(x, everything)
    ratio = float(torch.linalg.vector_norm(gradient) / torch.linalg.vector_norm(slope))
    return Optimum(x, value, gradient, ratio, taken)


def limited_memory_bfgs(
    objective: KnownPoses, start: torch.Tensor, *, iterations: int = 1000, tell: Tell | None = None
) -> torch.Tensor:
    """x after so many iterations of L-BFGS on all images, ten pairs remembered."""
    everything = objective.everything()

    def value_and_gradient(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, gradient = objective.value_and_gradient(torch.from_numpy(x).to(start), everything)
        return value, gradient.double().numpy()

    def told(intermediate_result: object) -> None:
        if tell is not None:
            tell(torch.from_numpy(getattr(intermediate_result, "x")).to(start))  # noqa: B009

    found = minimize(
        value_and_gradient,
        start.double().numpy(),
        jac=True,
        method="L-BFGS-B",
        callback=told,
        options={"maxiter": iterations, "maxcor": 10, "maxfun": 2 * iterations, "ftol": 0.0, "gtol": 0.0},
    )
    return torch.from_numpy(found.x).to(start)
