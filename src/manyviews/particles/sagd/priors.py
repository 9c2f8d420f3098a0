"""Priors of a density map: uniform, exponential and conditionally autoregressive.

The three of Punjani, Brubaker & Fleet 2017 (IEEE TPAMI 39:706), sections 3.3 and 4.6. Each gives ``log p(V)``
up to a constant and its gradient, for maps that are nowhere negative; keeping them so is the solver's work.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch.nn.functional import avg_pool3d

from manyviews.solvers.stochastic_average_gradient import LogPrior

NEIGHBOURS = 26
FILLED = 0.1  # of a box by what is in it


class PriorName(StrEnum):
    """What is believed of a map before any image is seen."""

    UNIFORM = "uniform"
    EXPONENTIAL = "exponential"
    AUTOREGRESSIVE = "car"


@dataclass(frozen=True)
class UniformPrior:
    """Every non-negative map is as likely as any other."""

    def value(self, volume: torch.Tensor) -> float:
        """Zero."""
        return 0.0

    def gradient(self, volume: torch.Tensor) -> torch.Tensor:
        """Zero, ``(z, y, x)``."""
        return torch.zeros_like(volume)


@dataclass(frozen=True)
class ExponentialPrior:
    """Independent voxels, ``p(v) = rate exp(-rate v)``: background is pulled to zero.

    ``rate`` is one over the mean density of a voxel.
    """

    rate: float

    def value(self, volume: torch.Tensor) -> float:
        """``-rate`` times the sum of the voxels."""
        return -self.rate * float(volume.sum(dtype=torch.float64))

    def gradient(self, volume: torch.Tensor) -> torch.Tensor:
        """``-rate`` everywhere, ``(z, y, x)``."""
        return torch.full_like(volume, -self.rate)


@dataclass(frozen=True)
class AutoregressivePrior:
    """Each voxel, given the others, is normal about the mean of its 26 neighbours: smooth maps.

    Such conditionals belong to one joint density only if their joint precision is symmetric (Besag 1974, J.
    R. Stat. Soc. B 36:192), so a voxel at the border also divides by 26, taking what is outside as zero:
    ``log p = -V'(I - W/26)V / (2 deviation^2)`` with W the adjacency of the 26-neighbourhood and
    ``deviation`` the conditional standard deviation ``sigma_CAR``, in the units of the density.
    """

    deviation: float

    def value(self, volume: torch.Tensor) -> float:
        """``-V'(I - W/26)V / (2 deviation^2)``."""
        return 0.5 * float(torch.sum(volume.double() * self.gradient(volume).double()))

    def gradient(self, volume: torch.Tensor) -> torch.Tensor:
        """``-(V - mean of neighbours) / deviation^2``, ``(z, y, x)``."""
        around = avg_pool3d(volume[None, None], 3, stride=1, padding=1)[0, 0].mul_(27.0).sub_(volume)
        return around.div_(NEIGHBOURS).sub_(volume).div_(self.deviation**2)


def make_prior(name: PriorName, strength: float, mean: float) -> LogPrior:
    """A prior whose scale comes from the density of the specimen, which fills about a tenth of its box.

    ``mean`` is the expected sum of the voxels, divided by their number. At a ``strength`` of 1 the density
    inside the specimen is the mean of the exponential prior, or the standard deviation of the autoregressive
    one; larger is stronger.
    """
    inside = mean / FILLED
    match name:
        case PriorName.UNIFORM:
            return UniformPrior()
        case PriorName.EXPONENTIAL:
            return ExponentialPrior(strength / inside)
        case PriorName.AUTOREGRESSIVE:
            return AutoregressivePrior(inside / strength)
