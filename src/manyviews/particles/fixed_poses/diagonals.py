"""What the gradient of images in known poses can be divided by, entry by entry."""

from __future__ import annotations

from typing import Literal

import torch

from manyviews.particles.fixed_poses.objective import Batch, KnownPoses
from manyviews.random import Stream, generator
from manyviews.solvers.hutchinson import pooled_pairs, probe_diagonal

Diagonal = Literal["none", "exact", "em", "row-sums", "hutchinson"]


def fixed_diagonal(objective: KnownPoses, name: Diagonal, like: torch.Tensor) -> torch.Tensor | None:
    """A diagonal that needs one pass over the images; None for ``none``. Dtype and device of ``like``.

    - ``exact``: of the Hessian itself, ``w^2 CTF^2 / s`` splatted.
    - ``em``: of the quadratic that expectation maximisation minimises, where every image is added with the
      weights that its poses have. In known poses that is the Hessian, so this is ``exact``.
    - ``row-sums``: ``w CTF^2 / s`` splatted. The shares w of a point sum to 1, so ``|sum w v|^2 <= sum w
      |v|^2``: the Hessian of all images is nowhere above it, and a unit step with their whole gradient never
      makes the objective larger.

    Raises
    ------
    ValueError
        For ``hutchinson``, which is no fixed one: see `estimated_diagonal`.
    """
    if name == "none":
        return None
    if name == "hutchinson":
        raise ValueError("Hutchinson's diagonal is estimated from probes")
    return objective.splatted(objective.everything(), squared=name != "row-sums", like=like)


def estimated_diagonal(
    objective: KnownPoses, probes: int, like: torch.Tensor, *, seed: int = 0, batch: Batch | None = None
) -> torch.Tensor:
    """The mean of so many of Hutchinson's probes, each over a batch (all images if not given).

    The two parts of a coefficient have the same curvature and are pooled.
    """
    chosen = objective.everything() if batch is None else batch
    total = torch.zeros_like(like)
    for number in range(probes):
        rng = generator(seed, Stream.PROBES, number)
        total += probe_diagonal(lambda v: objective.hessian_product(v, v, chosen), like, rng)
    return pooled_pairs(total.div_(probes))
