"""Poses of many images given a volume: from everywhere, or from poses known before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.operators.fourier_slice import FourierVolume
from manyviews.particles.em.distinct_poses import distinct_poses
from manyviews.particles.em.expectation import PoseGrid, best_everywhere, search
from manyviews.particles.em.plan import EmPlan
from manyviews.particles.em.pose_grids import coarse_level, finer_levels
from manyviews.particles.em.pose_samples import PoseSamples
from manyviews.particles.images.fourier_images import FourierImages

DRAWS = 24
_KNOWN_LEVELS = 2  # of the finest, for images whose poses are known: wide enough to move on
_APART = 0.75  # of a cell of the first of these, that a pose and its neighbours down to the last reach


@dataclass(frozen=True)
class PoseEstimates:
    """What was found for some images of a batch: samples of their posteriors, numbered as in the batch.

    ``log_likelihood (n,)`` is the log of the sum of the scores of the finest poses; ``searched`` poses were
    scored, of all of them together.
    """

    samples: PoseSamples
    log_likelihood: NDArray[np.float64]
    searched: float


class PoseSearch:
    """Finds poses with one volume ``(D, D, D)``, at frequencies up to ``radius``.

    The plan tells the particle's size, and the radius at which everything is looked at. ``box`` is the side
    of the images in pixels, ``shift_sigma`` the prior standard deviation of a shift, pixels; ``rotation (3,
    3)`` turns the coarse grid.
    """

    def __init__(
        self,
        volume: torch.Tensor,
        radius: int,
        plan: EmPlan,
        box: int,
        shift_sigma: float,
        rotation: NDArray[np.float32],
        device: str = "cpu",
    ) -> None:
        self.volume = volume.to(device, torch.float32)
        self.fourier_volume = FourierVolume.of(self.volume, radius)
        self.coarse = coarse_level(plan.last_start_radius, box, plan.filled)
        self.levels = finer_levels(self.coarse, radius, box, plan.filled)
        self.box = box
        self.shift_sigma = shift_sigma
        self.rotation = rotation

    def find(
        self,
        batch: FourierImages,
        members: NDArray[np.int64],
        known: PoseSamples,
        offsets: NDArray[np.float64],
        lane: NDArray[np.int64] | None = None,
        draws: int = DRAWS,
    ) -> PoseEstimates:
        """Poses of the images ``members (n,)`` of a batch, in ascending order.

        Poses to begin with are ``known``, numbered as in the batch; images that have none are looked for
        everywhere. ``offsets (N,)`` are uniform random numbers, one for each image of the batch, ``lane
        (N,)`` their lanes, see `manyviews.particles.em.expectation.chunks`; ``draws`` are made an image.
        """
        has_pose = np.zeros(len(batch), bool)
        has_pose[known.image] = True
        place = np.full(len(batch), -1)
        logs = np.zeros(len(batch))
        parts, searched = [], 0.0
        for near in (True, False):
            some = members[has_pose[members] == near]
            if not len(some):
                continue
            place[:] = -1
            place[some] = np.arange(len(some))
            images = batch if len(some) == len(batch) else batch.select(some)
            if near:
                levels = self.levels[-_KNOWN_LEVELS:]
                mine = known.select(place[known.image] >= 0).renumbered(place)
                candidates = distinct_poses(mine, _APART * levels[0].spacing, levels[0].shift_step)
            else:
                candidates, grid_size = self._anywhere(images, None if lane is None else lane[some])
                levels = self.levels
                searched += float(grid_size * len(some))
            found, logs[some], scored = search(
                images, self.fourier_volume, candidates, levels, self.shift_sigma, offsets[some], draws
            )
            searched += scored * len(some)
            parts.append(found.renumbered(some))
        samples = PoseSamples.concatenate(parts) if parts else known.select(slice(0, 0))
        return PoseEstimates(samples.sorted(), logs[members], searched)

    def _anywhere(self, images: FourierImages, lane: NDArray[np.int64] | None) -> tuple[PoseSamples, int]:
        """The best poses of images on the coarse grid, and the number of its poses."""
        low = FourierVolume.of(self.volume, self.coarse.radius)
        grid = PoseGrid.everywhere(low, self.coarse, self.box, self.shift_sigma, self.rotation)
        best = best_everywhere(images.crop(self.coarse.radius), grid, self.shift_sigma, lane)
        return best, grid.size
