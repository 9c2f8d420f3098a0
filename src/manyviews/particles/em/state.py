"""What the two stages of stochastic expectation maximisation know between their iterations."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from manyviews.metrics.fsc import agreed_radius
from manyviews.operators.fourier_sums import FourierSums
from manyviews.particles.em.pose_samples import PoseSamples


@dataclass(frozen=True)
class StartsState:
    """Between two iterations of the random starts.

    Attributes
    ----------
    iteration
        Iterations done.
    iterate
        Present map, a cube with as many voxels as its frequencies need.
    numerator, denominator, radius
        Running `FourierSums`.
    finished, start_scores
        Maps of the starts that are done, and mean log likelihood of the same few images under each of them.
    log_likelihood
        Of the last batch, mean of an image, without the images' own energy.
    correlation
        Of the halves, by shell.
    searched
        Poses scored for an image on average in the last iteration.
    enough
        Whether no more starts are made.
    """

    iteration: int
    iterate: torch.Tensor
    numerator: torch.Tensor
    denominator: torch.Tensor
    radius: int
    finished: tuple[torch.Tensor, ...]
    start_scores: list[float]
    log_likelihood: float
    correlation: list[float]
    searched: float
    enough: bool = False

    @property
    def sums(self) -> FourierSums:
        """Running numerators and denominators."""
        return FourierSums(self.numerator, self.denominator, self.radius)

    def measures(self) -> dict[str, float]:
        """Log likelihood, highest frequency in Fourier pixels, halves' agreement, poses scored an image."""
        found = _measures(self.log_likelihood, self.radius, self.correlation, self.searched)
        return {**found, "starts_done": float(len(self.start_scores))}


@dataclass(frozen=True)
class RefinementState:
    """Between two iterations of the refinement; what is not told here is as in `StartsState`.

    The starts' iterations count too. In the end the map has as many voxels as the images have pixels.
    ``halves`` are the maps of two halves that are refined apart, in the end neither filtered nor masked, else
    empty; ``image``, ``rotations``, ``shifts`` and ``weights`` the `PoseSamples` of the particles that
    refinement has seen.
    """

    iteration: int
    iterate: torch.Tensor
    radius: int
    halves: tuple[torch.Tensor, ...]
    log_likelihood: float
    correlation: list[float]
    searched: float
    image: torch.Tensor
    rotations: torch.Tensor
    shifts: torch.Tensor
    weights: torch.Tensor

    @property
    def samples(self) -> PoseSamples:
        """Poses of the particles that refinement has seen."""
        return PoseSamples.of(self)

    def measures(self) -> dict[str, float]:
        """Log likelihood, highest frequency in Fourier pixels, halves' agreement, poses scored an image."""
        return _measures(self.log_likelihood, self.radius, self.correlation, self.searched)


def _measures(
    log_likelihood: float, radius: int, correlation: list[float], searched: float
) -> dict[str, float]:
    return {
        "log_likelihood": log_likelihood,
        "radius": float(radius),
        "agreed_radius": float(agreed_radius(correlation)),
        "poses_an_image": searched,
    }
