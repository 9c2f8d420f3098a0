"""How badly images in known poses determine their volume: the extreme eigenvalues of the Hessian.

Gradient descent needs about as many steps as the condition number, the largest eigenvalue over the smallest.
Divided by a diagonal D from both sides, ``D^(-1/2) H D^(-1/2)``, the Hessian is what preconditioned descent
meets.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from manyviews.particles.fixed_poses.diagonals import Diagonal, estimated_diagonal, fixed_diagonal
from manyviews.particles.fixed_poses.objective import KnownPoses
from manyviews.random import Stream, generator
from manyviews.solvers.hutchinson import inverse_diagonal
from manyviews.solvers.lanczos import extreme_eigenvalues

PRECONDITIONERS: tuple[Diagonal, ...] = ("none", "exact", "row-sums", "hutchinson")
TOLERANCE = 0.02


@dataclass(frozen=True)
class Spectrum:
    """Extreme eigenvalues of the Hessian at one radius under one preconditioner.

    ``smallest`` is never below the true one and ``largest`` never above, so ``condition`` is no more than the
    condition number; it is that to a few percent where ``converged``. ``unseen`` coordinates have no data:
    without a preconditioner their eigenvalue is the damping.
    """

    radius: int
    preconditioner: Diagonal
    smallest: float
    largest: float
    converged: bool
    unseen: int
    products: int

    @property
    def condition(self) -> float:
        """Largest over smallest."""
        return self.largest / self.smallest


def spectrum(
    objective: KnownPoses,
    preconditioner: Diagonal,
    *,
    products: int = 100,
    probes: int = 30,
    seed: int = 0,
) -> Spectrum:
    """By Lanczos' method in double precision, with at most so many products with the Hessian.

    ``probes`` are those of Hutchinson's estimate, whose entries are at least the paper's threshold, as they
    would be used. Where a coordinate is unseen, the smallest eigenvalue of the bare Hessian is the damping.
    """
    everything = objective.everything()
    like = torch.zeros(objective.ball.size, dtype=torch.float64)
    exact = objective.splatted(everything, squared=True, like=like)
    unseen = int((exact <= objective.damping * (1 + 1e-9)).sum())
    scale = torch.ones_like(like)
    if preconditioner == "hutchinson":
        found = estimated_diagonal(objective, probes, like, seed=seed)
        scale = inverse_diagonal(found, objective.paper_threshold()).sqrt_()
    elif preconditioner != "none":
        fixed = fixed_diagonal(objective, preconditioner, like)
        assert fixed is not None
        scale = fixed.rsqrt_()

    def product(v: torch.Tensor) -> torch.Tensor:
        return objective.hessian_product(v, v * scale, everything).mul_(scale)

    rng = generator(seed, Stream.LANCZOS, objective.ball.radius)
    start = torch.from_numpy(rng.standard_normal(len(like)))
    ends = extreme_eigenvalues(product, start, products=products, tolerance=TOLERANCE)
    # the smallest eigenvalue is at most the least entry of the diagonal, which is known
    least = float((exact * scale.square()).min())
    smallest, converged = min(ends.smallest, least), ends.converged(TOLERANCE)
    if preconditioner == "none" and unseen:
        smallest, converged = objective.damping, ends.largest_error <= TOLERANCE * ends.largest
    return Spectrum(
        objective.ball.radius,
        preconditioner,
        smallest,
        ends.largest,
        converged,
        unseen,
        ends.products,
    )
