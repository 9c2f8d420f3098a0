"""The diagonal of a matrix that is only known by its products: Hutchinson's estimator (Bekas et al. 2007).

With z of independent signs, ``E[z * (H z)] = diag(H)``, entry by entry: ``z_i (H z)_i = H_ii + sum_(j != i)
z_i z_j H_ij``. One probe has the variance ``sum_(j != i) H_ij^2`` at entry i: none where H is diagonal.

The running estimate is that of Toader, Brubaker & Lederman (2025, Acta Cryst. D 81:327), whose steps see a
mini-batch each: the mean of all probes so far, ``D_avg``, and ``D <- beta D + (1 - beta) D_avg``. Its inverse
is held back where D is small or negative: ``1 / max(|D|, alpha)``.

Unknowns are real coordinates, a complex number two of them, each with a sign of its own. One sign for both
parts of a number tells nothing new where H does not mix them, and couples them where it does; with two, and
where both parts have the same curvature, as the Fourier coefficients of images in known poses do, the mean of
both entries (`pooled_pairs`) has half the variance at the same cost. The authors draw one sign for both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

Product = Callable[[torch.Tensor], torch.Tensor]


def random_signs(like: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """A vector of ones with independent random signs, of the shape, dtype and device of ``like``."""
    count = like.numel()
    bits = np.unpackbits(np.frombuffer(rng.bytes(-(-count // 8)), np.uint8), count=count)
    signs = torch.from_numpy(bits).to(like.device, like.dtype).mul_(2.0).sub_(1.0)
    return signs.reshape(like.shape)


def probe_diagonal(product: Product, like: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """One unbiased estimate ``z * (H z)`` of a diagonal; ``product`` is ``v -> H v`` with H symmetric."""
    signs = random_signs(like, rng)
    return signs.mul_(product(signs))


@dataclass(frozen=True)
class DiagonalEstimate:
    """What is known after some probes: D, the mean of all probes, and their number."""

    diagonal: torch.Tensor
    mean: torch.Tensor
    probes: int

    @classmethod
    def first(cls, probe: torch.Tensor) -> DiagonalEstimate:
        """From one probe.

        D is its size, but nowhere less than its mean, an estimate of the trace over the number of entries:
        few entries are known well after one probe, and a step that is too long there does more harm than one
        that is too short.
        """
        least = float(probe.double().mean())
        return cls(probe.abs().clamp_(min=max(least, 0.0)), probe, 1)

    def updated(self, probe: torch.Tensor, beta: float) -> DiagonalEstimate:
        """With one more probe."""
        count = self.probes + 1
        mean = torch.lerp(self.mean, probe, 1.0 / count)
        return DiagonalEstimate(torch.lerp(mean, self.diagonal, beta), mean, count)


def inverse_diagonal(diagonal: torch.Tensor, threshold: float) -> torch.Tensor:
    """``1 / max(|D|, threshold)``, a new tensor; the threshold is above 0."""
    return diagonal.abs().clamp_(min=threshold).reciprocal_()


def pooled_pairs(probe: torch.Tensor) -> torch.Tensor:
    """A vector whose entries 2k and 2k + 1 are both their mean; of an odd number the last is left alone."""
    pooled = probe.clone()
    even = probe.numel() // 2 * 2
    pairs = pooled[:even].view(-1, 2)
    pairs.copy_(pairs.mean(dim=1, keepdim=True).expand(-1, 2))
    return pooled
