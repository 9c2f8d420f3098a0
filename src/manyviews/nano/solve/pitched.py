"""Projections of pitched views by all ranks, each of which holds slices, and projects its own views."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.nano.solve.transpose import Transpose
from manyviews.operators.pitched_radon import PitchedRadon
from manyviews.operators.radon import Radon


class PitchedViews:
    """Own slices ``(z, y, x)`` to own rows of all views ``(view, z, column)``, with the exact transpose.

    In place of ``level``, the same without pitch. A pitched view shows a voxel in a row that depends on its
    depth, so every rank gathers the volume, and projects its own views.
    """

    def __init__(self, level: Radon, pitch_degrees: NDArray[np.float64], ranks: Transpose) -> None:
        self.ranks = ranks
        self.domain, self.range = level.domain, level.range
        own = ranks.own_views
        whole = Radon(
            level.theta_degrees[own], ranks.rows, ranks.columns, level.center, epsilon=level.epsilon,
            threads=level.threads,
        )  # fmt: skip
        self._own_views = PitchedRadon(whole, pitch_degrees[own])

    def forward(self, x: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Project; ``out`` may be written and be the result where one rank has all."""
        room = out if self.ranks.world.size == 1 else None
        return self.ranks.to_rows(self._own_views.forward(self.ranks.gather_rows(x), out=room))

    def adjoint(self, y: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Back-project; ``out`` may be written and be the result where one rank has all."""
        world = self.ranks.world
        if world.size == 1:
            return self._own_views.adjoint(y, out=out)
        whole = self._own_views.adjoint(self.ranks.to_views(y))
        return world.sum_scatter(whole, [part.stop - part.start for part in self.ranks.slabs])
