"""Poses of all particles with one map, some images at a time: the last stage of a method that keeps none."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.particles.em.pose_samples import NO_SAMPLES, PoseSamples
from manyviews.particles.em.pose_search import PoseSearch
from manyviews.particles.images.fourier_images import FourierImages

_AT_ONCE = 1000


@dataclass(frozen=True)
class AssignmentState:
    """The map, which stays as it is, and the `PoseSamples` after ``iteration`` blocks of images."""

    iteration: int
    iterate: torch.Tensor
    image: torch.Tensor
    rotations: torch.Tensor
    shifts: torch.Tensor
    weights: torch.Tensor

    @property
    def samples(self) -> PoseSamples:
        """The poses found so far."""
        return PoseSamples.of(self)

    def measures(self) -> dict[str, float]:
        """Poses that are kept."""
        return {"samples": float(len(self.image))}


class PoseAssignment:
    """Looks for the poses of every image everywhere, a block of images an iteration.

    ``volume (D, D, D)`` is the map that ``search`` has, kept for the record; ``offsets (N,)`` are uniform
    random numbers, one an image.
    """

    def __init__(
        self,
        images: FourierImages,
        search: PoseSearch,
        volume: torch.Tensor,
        offsets: NDArray[np.float64],
    ) -> None:
        self.images = images
        self.search = search
        self.volume = volume
        self.offsets = offsets
        self.iterations = -(-len(images) // _AT_ONCE)

    def init(self) -> AssignmentState:
        """No pose known."""
        return AssignmentState(0, self.volume, **NO_SAMPLES.tensors())

    def step(self, state: AssignmentState) -> AssignmentState:
        """One block."""
        members = np.arange(len(self.images))[state.iteration * _AT_ONCE :][:_AT_ONCE]
        found = self.search.find(self.images, members, NO_SAMPLES, self.offsets).samples
        both = PoseSamples.concatenate([state.samples, found]).sorted()
        return replace(state, iteration=state.iteration + 1, **both.tensors())
