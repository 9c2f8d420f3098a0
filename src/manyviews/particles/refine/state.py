"""What a refinement knows between its iterations."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from manyviews.metrics.fsc import agreed_radius
from manyviews.particles.em.pose_samples import PoseSamples


@dataclass(frozen=True)
class HalvesState:
    """Between two passes through all images.

    Attributes
    ----------
    iteration
        Passes done.
    iterate
        The map of both halves together, with as many voxels as its frequencies need.
    halves
        Each half's own map, damped as its noise asks for: what its poses are found with.
    radius
        Highest frequency of the last pass, Fourier pixels.
    correlation
        Of the halves, by shell.
    noise
        ``(groups, shells)`` variance of the noise of a coefficient, as of now.
    explained
        Share of the power above the noise that the maps explain, by shell; empty at first.
    log_likelihood
        Mean of an image, without the images' own energy.
    searched, everywhere
        Poses scored for an image on average, and the share of the images that were looked for everywhere.
    solvent
        Share of the noise in the sphere about the particle that is left in the maps; 1 where it is all of it.
    scales
        ``(groups,)`` contrast of the groups of particles beside the map, 1 in the mean.
    credence, evidence
        ``(particles,)`` how far each is believed to show the particle, and ``(particles, 4)`` what it gained
        beside noise, what the map predicts for it, what it left, and how far it is more than noise.
    noise_gain
        Of each half: what images of noise alone gain, its standard deviation, and 1 if particles gain more.
    furthest, stalled
        The last shell in which the halves have agreed so far, and passes since it last rose.
    image, rotations, shifts, weights
        `PoseSamples` of all particles.
    """

    iteration: int
    iterate: torch.Tensor
    halves: tuple[torch.Tensor, ...]
    radius: int
    correlation: list[float]
    noise: torch.Tensor
    explained: list[float]
    log_likelihood: float
    searched: float
    everywhere: float
    solvent: float
    scales: torch.Tensor
    credence: torch.Tensor
    evidence: torch.Tensor
    noise_gain: torch.Tensor
    furthest: int
    stalled: int
    image: torch.Tensor
    rotations: torch.Tensor
    shifts: torch.Tensor
    weights: torch.Tensor

    @property
    def samples(self) -> PoseSamples:
        """Poses of all particles."""
        return PoseSamples.of(self)

    def measures(self) -> dict[str, float]:
        """Likelihood, highest frequency and where the halves agree, Fourier pixels, poses scored an image."""
        return {
            "log_likelihood": self.log_likelihood,
            "radius": float(self.radius),
            "agreed_radius": float(agreed_radius(self.correlation)),
            "poses_an_image": self.searched,
            "looked_everywhere": self.everywhere,
            "solvent": self.solvent,
            "believed": float(self.credence.mean()),
        }
