"""Views that are kept apart, and how well a volume made without them predicts them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.geometry.views import TiltGeometry
from manyviews.tilt.series.normalise import PreparedImages
from manyviews.tilt.solve.problem import TiltProblem

_EVERY, _LEAST_EVERY = 8, 3
_LEAST_VARIANCE = 1e-30
_FEWEST_HELD, _FEWEST_VIEWS = 3, 8


def held_out_views(geometry: TiltGeometry) -> NDArray[np.int64]:
    """Every eighth view of each series by tilt, more of short series, the ends never; none of few views.

    A view beyond the last one that is used tells of frequencies that nobody has measured; one between two
    others is told by them.
    """
    held: list[int] = []
    for number in np.unique(geometry.series):
        views = np.flatnonzero(geometry.series == number)
        views = views[np.argsort(geometry.tilt_degrees[views], kind="stable")]
        every = min(_EVERY, max(_LEAST_EVERY, len(views) // 4))
        held += views[1:-1][every // 2 - 1 :: every].tolist()
    if len(held) < _FEWEST_HELD or len(geometry) < _FEWEST_VIEWS:
        return np.zeros(0, np.int64)
    return np.sort(np.array(held, np.int64))


@dataclass(frozen=True)
class HeldOut:
    """A problem without some views, and these views.

    ``variance`` is that of a pixel of the held-out images, ``noise_share`` the share of it that is white
    noise.
    """

    training: TiltProblem
    held: TiltProblem
    variance: float
    noise_share: float

    @classmethod
    def of(cls, problem: TiltProblem, images: PreparedImages, views: NDArray[np.int64]) -> HeldOut:
        """Keep ``views`` apart."""
        others = np.setdiff1d(np.arange(len(problem.weights)), views)
        spread = images.levels.spread[views] * images.gain[views]
        variance = max(float(np.mean(spread**2)), _LEAST_VARIANCE)
        return cls(
            problem.select(others), problem.select(views), variance, images.noise_deviation**2 / variance
        )

    def errors(self, volume: torch.Tensor) -> torch.Tensor:
        """Mean square of what a volume leaves of each held-out view, over their variance: ``(view,)``.

        ``volume`` is this rank's slab; all ranks make this call and get the same.
        """
        found = np.zeros(len(self.held.weights))
        for views, projected in self.held.project_blocks(volume):
            left = projected.sub_(self.held.read(views)).double()
            found[views] = left.square_().mean(dim=(1, 2)).cpu().numpy() / self.variance
        return self.held.place.world.sum(torch.from_numpy(found))
