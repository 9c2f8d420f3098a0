"""Extreme eigenvalues of a symmetric matrix that is only known by its products: Lanczos' method.

Both ends of the spectrum come out of one run with three vectors in memory. Nothing is made orthogonal again:
rounding then finds some eigenvalues twice, which changes neither the smallest nor the largest (Paige 1972).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal


@dataclass(frozen=True)
class ExtremeEigenvalues:
    """What a run of Lanczos' method found.

    ``smallest`` is no less than the true one, ``largest`` no more, apart from rounding: their ratio bounds
    the condition number from below. An eigenvalue lies within ``smallest_error`` of the one and within
    ``largest_error`` of the other.
    """

    smallest: float
    largest: float
    smallest_error: float
    largest_error: float
    products: int

    def converged(self, tolerance: float) -> bool:
        """Whether both errors are within this part of their eigenvalue."""
        return self.largest_error <= tolerance * self.largest and self.smallest_error <= tolerance * abs(
            self.smallest
        )


def extreme_eigenvalues(
    product: Callable[[torch.Tensor], torch.Tensor],
    start: torch.Tensor,
    *,
    products: int = 100,
    tolerance: float = 1e-2,
    look_every: int = 10,
) -> ExtremeEigenvalues:
    """The smallest and the largest eigenvalue of a symmetric matrix ``v -> H v``.

    Parameters
    ----------
    start
        A vector with some of every eigenvector in it, such as a random one; it is not changed.
    products
        Products to make at most.
    tolerance
        Ends when both eigenvalues are within this part of themselves.
    look_every
        Products between two looks at that.

    Raises
    ------
    ValueError
        If the start is zero or not finite.
    """
    length = float(torch.linalg.vector_norm(start.double()))
    if not (0.0 < length < float("inf")):
        raise ValueError(f"the search cannot start from a vector of length {length}")
    before, present = torch.zeros_like(start), start / length
    diagonal: list[float] = []
    off: list[float] = []
    found = ExtremeEigenvalues(float("nan"), float("nan"), float("inf"), float("inf"), 0)
    for number in range(1, products + 1):
        following = product(present)
        if off:
            following = torch.add(following, before, alpha=-off[-1])
        diagonal.append(_inner(present, following))
        following = torch.add(following, present, alpha=-diagonal[-1])
        rest = float(np.sqrt(_inner(following, following)))
        ended = rest <= 1e-14 * max(map(abs, diagonal))
        if ended or number == products or number % look_every == 0:
            found = _look(diagonal, off, rest, number)
            if ended or found.converged(tolerance):
                break
        off.append(rest)
        before, present = present, following.div_(rest)
    return found


def _look(diagonal: list[float], off: list[float], rest: float, products: int) -> ExtremeEigenvalues:
    if len(diagonal) == 1:
        return ExtremeEigenvalues(diagonal[0], diagonal[0], rest, rest, products)
    values, vectors = eigh_tridiagonal(np.array(diagonal), np.array(off))
    errors = rest * np.abs(vectors[-1])
    return ExtremeEigenvalues(
        float(values[0]), float(values[-1]), float(errors[0]), float(errors[-1]), products
    )


def _inner(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.dot(a.reshape(-1).double(), b.reshape(-1).double()))
