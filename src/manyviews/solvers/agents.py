"""Agents for `manyviews.solvers.consensus`: the data of one view subset, and priors on the volume."""

from __future__ import annotations

import torch

from manyviews.parallel.world import World
from manyviews.solvers.conjugate_gradient import solve_some
from manyviews.solvers.consensus import Agent
from manyviews.solvers.least_squares import Map
from manyviews.solvers.space import Space


def data_agent(
    normal: Map, target: torch.Tensor, anchor: float, steps: int, space: Space | None = None
) -> Agent:
    """Proximal map of one subset's data term, by a few warm-started conjugate-gradient steps.

    Solves ``(H_i + anchor) v = b_i + anchor z``: the anchor z stays in the equation (eq. 4), unlike in the
    printed Algorithm 1, and the last answer is where the search begins.

    Parameters
    ----------
    normal
        ``x -> H_i x = W_i' L_i W_i x``, with any damping.
    target
        ``b_i = W_i' L_i p_i``.
    anchor
        1 / sigma^2 of eq. (4).
    steps
        Conjugate-gradient steps an answer.
    space
        Where the volumes live; None: whole ones in memory.
    """
    space = space or Space.like(target)

    def hessian(x: torch.Tensor) -> torch.Tensor:
        return normal(x).add_(x, alpha=anchor)

    def answer(handed: torch.Tensor, last_answer: torch.Tensor) -> torch.Tensor:
        right_side = space.add(target, handed, anchor)
        return solve_some(hessian, right_side, last_answer, steps, space)

    return answer


def printed_agent(gradient: Map, step_length: float, steps: int, space: Space | None = None) -> Agent:
    """Line 6 of Algorithm 1 as printed: gradient steps from z, and no proximal term.

    ``gradient`` is ``x -> W_i'(p_i - W_i x)``, ``step_length`` the paper's alpha_i.
    """

    def answer(handed: torch.Tensor, last_answer: torch.Tensor) -> torch.Tensor:
        v = (space or Space.like(handed)).copy(handed)
        for _ in range(steps):
            v.add_(gradient(v), alpha=step_length)
        return v

    return answer


def non_negative_agent(space: Space | None = None) -> Agent:
    """Nearest volume without negative voxels."""

    def answer(handed: torch.Tensor, last_answer: torch.Tensor) -> torch.Tensor:
        return torch.clamp(handed, min=0.0, out=(space or Space.like(handed)).allocate())

    return answer


def total_variation_agent(strength: float, steps: int = 12, slabs: World | None = None) -> Agent:
    """Proximal map of ``strength * TV`` with isotropic total variation.

    Fast gradient projection on the dual (Beck & Teboulle 2009, IEEE Trans. Image Process. 18:2419).
    """

    def answer(handed: torch.Tensor, last_answer: torch.Tensor) -> torch.Tensor:
        dual = handed.new_zeros((3, *handed.shape))
        ahead = dual
        momentum = 1.0
        for _ in range(steps):
            denoised = handed + strength * _divergence(ahead, slabs)
            new = ahead + _differences(denoised, slabs) / (12.0 * strength)
            new /= torch.linalg.vector_norm(new, dim=0).clamp_(min=1.0)
            next_momentum = 0.5 * (1.0 + (1.0 + 4.0 * momentum**2) ** 0.5)
            ahead = new + (momentum - 1.0) / next_momentum * (new - dual)
            dual, momentum = new, next_momentum
        return handed + strength * _divergence(dual, slabs)

    return answer


def smoothness_agent(
    strength: float, steps: int = 8, space: Space | None = None, slabs: World | None = None
) -> Agent:
    """Proximal map of ``strength / 2 |gradient|^2``, by conjugate gradients."""

    def hessian(x: torch.Tensor) -> torch.Tensor:
        return x - strength * _divergence(_differences(x, slabs), slabs)

    def answer(handed: torch.Tensor, last_answer: torch.Tensor) -> torch.Tensor:
        return solve_some(hessian, handed, last_answer, steps, space)

    return answer


def _differences(x: torch.Tensor, slabs: World | None = None) -> torch.Tensor:
    """Forward differences along z, y, x: ``(3, z, y, x)``, zero at the far ends of the whole volume."""
    out = x.new_zeros((3, *x.shape))
    out[0, :-1] = x[1:] - x[:-1]
    out[1, :, :-1] = x[:, 1:] - x[:, :-1]
    out[2, :, :, :-1] = x[:, :, 1:] - x[:, :, :-1]
    after = None if slabs is None else slabs.shift(x[0].contiguous(), -1)
    if after is not None:
        out[0, -1] = after - x[-1]
    return out


def _divergence(d: torch.Tensor, slabs: World | None = None) -> torch.Tensor:
    """Minus the adjoint of `_differences`; differences at the far ends are zero, or lead to the next slab."""
    out = d[0].clone()
    out[1:] -= d[0, :-1]
    before = None if slabs is None else slabs.shift(d[0, -1].contiguous(), 1)
    if before is not None:
        out[0] -= before
    out[:, :-1] += d[1, :, :-1]
    out[:, 1:] -= d[1, :, :-1]
    out[:, :, :-1] += d[2, :, :, :-1]
    out[:, :, 1:] -= d[2, :, :, :-1]
    return out
