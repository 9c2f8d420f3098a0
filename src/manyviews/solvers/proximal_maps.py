"""Terms of `manyviews.solvers.consensus`: the data of one view subset, and priors on the volume.

Each is known by its proximal map; none changes the tensors that it is handed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.operators.differences import add_laplacian
from manyviews.operators.slopes import Vector, pull, shorten
from manyviews.solvers.conjugate_gradient import descend, solve_some
from manyviews.solvers.least_squares import Map
from manyviews.solvers.space import Space


@dataclass(frozen=True)
class DataTerm:
    """One subset's data term, by a few warm-started conjugate-gradient steps.

    Solves ``(H_i + anchor) x = b_i + anchor v``: the anchor v stays in the equation (eq. 4), unlike in the
    printed Algorithm 1, and the warm start is where the search begins. ``normal`` is ``x -> H_i x = W_i' L_i
    W_i x``, with any damping, ``target`` is ``b_i = W_i' L_i p_i``, ``anchor`` 1 / sigma^2 of eq. (4); an
    answer takes so many ``steps``. Without a ``space`` volumes are whole and in memory.
    """

    normal: Map
    target: torch.Tensor
    anchor: float
    steps: int
    space: Space | None = None

    def prox(self, v: torch.Tensor, warm_start: torch.Tensor) -> torch.Tensor:
        """The proximal map, nearly."""
        residual = self._hessian(warm_start).neg_().add_(self.target).add_(v, alpha=self.anchor)
        return descend(self._hessian, residual, warm_start, self.steps, self.space)

    def _hessian(self, x: torch.Tensor) -> torch.Tensor:
        return self.normal(x).add_(x, alpha=self.anchor)


@dataclass(frozen=True)
class PrintedGradientSteps:
    """Line 6 of Algorithm 1 as printed: gradient steps from v, and no proximal term.

    ``gradient`` is ``x -> W_i'(p_i - W_i x)``, ``step_length`` the paper's alpha_i.
    """

    gradient: Map
    step_length: float
    steps: int
    space: Space | None = None

    def prox(self, v: torch.Tensor, warm_start: torch.Tensor) -> torch.Tensor:
        """The last step."""
        x = (self.space or Space.like(v)).copy(v)
        for _ in range(self.steps):
            x.add_(self.gradient(x), alpha=self.step_length)
        return x


@dataclass(frozen=True)
class NonNegative:
    """No negative voxels."""

    space: Space | None = None

    def prox(self, v: torch.Tensor, warm_start: torch.Tensor) -> torch.Tensor:
        """The nearest volume without any."""
        return (self.space or Space.like(v)).positive_part(v)


@dataclass(frozen=True)
class TotalVariation:
    """``strength * TV`` with isotropic total variation.

    Fast gradient projection on the dual (Beck & Teboulle 2009, IEEE Trans. Image Process. 18:2419). Without a
    ``space`` volumes are whole and in memory.
    """

    strength: float
    steps: int = 12
    space: Space | None = None

    def prox(self, v: torch.Tensor, warm_start: torch.Tensor) -> torch.Tensor:
        """The proximal map, nearly."""
        space = self.space or Space.like(v)
        dual: Vector = (space.zeros(), space.zeros(), space.zeros())
        ahead = dual
        momentum = 1.0
        for _ in range(self.steps):
            steps = self._denoised(v, ahead, space).mul_(1.0 / (12.0 * self.strength))
            new, _ = shorten(steps, ahead, 1.0, space.allocate, space.ranks)
            del steps
            next_momentum = 0.5 * (1.0 + (1.0 + 4.0 * momentum**2) ** 0.5)
            beyond = 1.0 + (momentum - 1.0) / next_momentum
            ahead = tuple(old.lerp_(part, beyond) for old, part in zip(dual, new, strict=True))
            dual, momentum = new, next_momentum
        return self._denoised(v, dual, space)

    def _denoised(self, v: torch.Tensor, dual: Vector, space: Space) -> torch.Tensor:
        """``v + strength div dual``."""
        return pull(dual, dual, space.allocate, space.ranks).mul_(-self.strength).add_(v)


def shortened(slopes: torch.Tensor, amount: float) -> torch.Tensor:
    """Vectors ``(3, z, y, x)`` made shorter by ``amount``, none below zero: the map of ``amount |slope|``."""
    length = torch.sqrt(torch.sum(slopes**2, dim=0))
    return slopes * (torch.clamp(length - amount, min=0.0) / torch.clamp(length, min=1e-30))


@dataclass(frozen=True)
class Smoothness:
    """``strength / 2 |gradient|^2``, by conjugate gradients; a ``space`` as of `TotalVariation`."""

    strength: float
    steps: int = 8
    space: Space | None = None

    def prox(self, v: torch.Tensor, warm_start: torch.Tensor) -> torch.Tensor:
        """The proximal map, nearly."""
        space = self.space or Space.like(v)

        def hessian(x: torch.Tensor) -> torch.Tensor:
            out = space.copy(x)
            add_laplacian(x, self.strength, out, space.ranks)
            return out

        return solve_some(hessian, v, warm_start, self.steps, space)


@dataclass(frozen=True)
class Denoiser:
    """Any function of a volume ``(z, y, x)`` that gives one back, in the place of a proximal map.

    Consensus then ends where what the function takes away is what the data put back, whether or not it is the
    map of any term (multi-agent consensus equilibrium, Buzzard et al. 2018, SIAM J. Imaging Sci. 11:2001).
    `InputError` where what it gives back is no such volume.
    """

    function: Callable[[NDArray[np.float32]], Any]

    def prox(self, v: torch.Tensor, warm_start: torch.Tensor) -> torch.Tensor:
        """What the function makes of a copy of ``v``."""
        found = np.asarray(self.function(v.cpu().numpy().copy()))
        if found.shape != tuple(v.shape) or found.dtype.kind != "f":
            raise InputError(
                f"the denoiser was given a volume of shape {tuple(v.shape)} and gave back {found.dtype} of "
                f"shape {found.shape}",
                fix="give back as many real numbers",
            )
        if not np.isfinite(found).all():
            raise InputError("the denoiser gave back numbers that are not finite")
        return torch.from_numpy(np.array(found, np.float32, order="C")).to(v.device)
