"""What every pixel counts when a volume is solved for: rays that leave it, and what is bad in the images.

Rays within the volume count fully, rays of which half or more is outside not at all, and between it goes in
proportion (docs/decisions/0017-tilt-edges.md). Until the solver knows better, the share of a ray that lies
in the volume is taken to have that share of what the pixel shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.geometry.ray_coverage import ray_coverage
from manyviews.tilt.series.images import ImageSource

Float32 = NDArray[np.float32]

# Share of a ray in the volume from which it counts at all.
_COUNTS_FROM = 0.5


@dataclass(frozen=True)
class SeriesPixels:
    """Weights of the pixels of a series, as the solvers ask for them.

    ``volume_shape`` is ``(z, y, x)``, ``edges`` whether rays that leave the volume count less, ``views
    (k,)`` which views of the source these are; None: all.
    """

    source: ImageSource
    volume_shape: tuple[int, int, int]
    edges: bool
    device: torch.device
    views: NDArray[np.int64] | None = None

    def weights(self, views: NDArray[np.int64]) -> torch.Tensor:
        """From 0 to 1, ``(k, y, x)``."""
        return self._stacked([self.one(view)[0] for view in self._of_source(views)])

    def first_guess(self, views: NDArray[np.int64], images: torch.Tensor) -> torch.Tensor:
        """Images ``(k, y, x)`` with a guess of what the volume shows where pixels do not count."""
        return images * self._stacked([scale for _, scale in map(self.one, self._of_source(views))])

    def one(self, view: int) -> tuple[Float32, Float32]:
        """Weights ``(y, x)`` of a view of the source, and what to multiply its image with for a guess."""
        stored = self.source.pixel_weights(view)
        if not self.edges:
            ones = np.ones(self.source.shape[1:], np.float32)
            return (ones if stored is None else stored), ones
        coverage = self.coverage(view)
        weights = edge_weights(coverage)
        if stored is not None:
            weights = weights * stored
        return weights, weights + (1.0 - weights) * coverage

    def coverage(self, view: int) -> Float32:
        """Share of every ray that lies in the volume, ``(y, x)``."""
        matrix = self.source.binned_geometry.matrices[view]
        return ray_coverage(matrix, self.volume_shape, self.source.shape[1:], self.source.pixel_size)

    def select(self, views: NDArray[np.int64]) -> SeriesPixels:
        """Those of some of the views."""
        return SeriesPixels(
            self.source, self.volume_shape, self.edges, self.device, np.array(self._of_source(views))
        )

    def _of_source(self, views: NDArray[np.int64]) -> list[int]:
        found = views if self.views is None else self.views[views]
        return [int(view) for view in found]

    def _stacked(self, images: list[Float32]) -> torch.Tensor:
        if not images:
            return torch.zeros((0, *self.source.shape[1:]), device=self.device)
        return torch.from_numpy(np.stack(images)).to(self.device)


def edge_weights(coverage: Float32) -> Float32:
    """What rays count by their share in the volume."""
    found = (coverage - np.float32(_COUNTS_FROM)) / np.float32(1.0 - _COUNTS_FROM)
    return np.asarray(np.clip(found, 0.0, 1.0), dtype=np.float32)
