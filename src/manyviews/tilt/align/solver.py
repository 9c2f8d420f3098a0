"""An alignment of one binning as a solver: volume and poses from step to step, bad views out and in again."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.geometry.views import TiltGeometry
from manyviews.tilt.align.bad_views import judged
from manyviews.tilt.align.level import Fitted, Freedom, Level

Float64 = NDArray[np.float64]

_SETTLED_PIXELS = 0.003  # of the binning, rms of a step's shifts
_JUDGED_AFTER = 2  # steps, the first of which finds the volume only


@dataclass(frozen=True)
class AlignState:
    """A volume and the poses that go with it, in pixels of the binning; see `Fitted`.

    ``iterate (z, y, x)``; ``matrices (view, 4, 4)``; ``axis_degrees``, ``tilt_degrees``, ``weights`` and
    ``correlation (view,)``; ``misfit`` is the part of the images' energy that is not explained, ``moved`` the
    rms of the last step's shifts.
    """

    iteration: int
    iterate: torch.Tensor
    matrices: torch.Tensor
    axis_degrees: torch.Tensor
    tilt_degrees: torch.Tensor
    weights: torch.Tensor
    correlation: torch.Tensor
    misfit: float
    moved: float

    def measures(self) -> dict[str, float]:
        """The misfit, and by how much views moved, in pixels of the binning."""
        return {"misfit": self.misfit, "moved_pixels": self.moved}

    @property
    def settled(self) -> bool:
        """Whether views hardly move any more."""
        return self.iteration > _JUDGED_AFTER and self.moved < _SETTLED_PIXELS

    @classmethod
    def of(cls, fitted: Fitted, iteration: int) -> AlignState:
        """From what a step has found."""
        geometry = fitted.geometry
        return cls(
            iteration=iteration,
            iterate=fitted.volume,
            matrices=torch.from_numpy(geometry.matrices),
            axis_degrees=torch.from_numpy(geometry.axis_degrees),
            tilt_degrees=torch.from_numpy(geometry.tilt_degrees),
            weights=torch.from_numpy(fitted.weights),
            correlation=torch.from_numpy(fitted.correlation),
            misfit=fitted.misfit,
            moved=fitted.moved,
        )

    def fitted(self, views: TiltGeometry) -> Fitted:
        """What the next step starts from; ``views`` say which views these are."""
        geometry = replace(
            views,
            matrices=self.matrices.numpy(),
            axis_degrees=self.axis_degrees.numpy(),
            tilt_degrees=self.tilt_degrees.numpy(),
        )
        return Fitted(
            self.iterate, geometry, self.weights.numpy(), self.correlation.numpy(), self.misfit, self.moved
        )


@dataclass(frozen=True)
class LevelSolver:
    """Steps of one binning from a geometry in pixels of the binning.

    ``judge``: whether views that the others do not explain lose their weight.
    """

    level: Level
    geometry: TiltGeometry
    weights: Float64
    freedom: Freedom
    judge: bool = True

    def init(self) -> AlignState:
        """The volume of the poses as they are: a first step that moves nothing."""
        return AlignState.of(self.level.step(self.level.start(self.geometry, self.weights), self.freedom), 0)

    def step(self, state: AlignState) -> AlignState:
        """One step of volume and poses together."""
        fitted = self.level.step(state.fitted(self.geometry), self.freedom)
        if self.judge and state.iteration + 1 >= _JUDGED_AFTER:
            fitted = replace(fitted, weights=judged(fitted.correlation, fitted.weights, fitted.geometry))
        return AlignState.of(fitted, state.iteration + 1)
