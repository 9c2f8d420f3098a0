"""What contrast transfer adds to the cost of a reconstruction: filters of images, layers of the specimen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from manyviews.geometry.view_depth import DepthPlane
from manyviews.geometry.views import TiltGeometry
from manyviews.operators.transfer_kernel import reach_of_transfer
from manyviews.operators.transfer_projector import layers_of, own_layers
from manyviews.operators.view_transfer import TransferGrid, ViewTransfer, defocus_levels

# A point of a padded image and level of defocus, one way, by two cores: the filter and its transforms
# (256 to 1024 pixels a side, one thread: 4 to 7).
_FILTER_NS = 3.0


@dataclass(frozen=True)
class TransferCosts:
    """Filters of the views of a series.

    Attributes
    ----------
    levels
        Of defocus, at which each view's image is filtered.
    points
        Of a padded image.
    layers
        Of the volume, each with a defocus of its own in every view, where the transfer is a part of the
        projection; 0: images are filtered when they are read.
    layer_slices
        Slices of such a layer at most.
    beyond
        Voxels by which views with a transfer reach beyond their rods.
    """

    levels: tuple[int, ...]
    points: int
    layers: int = 0
    layer_slices: int = 0
    beyond: int = 0

    @classmethod
    def of(
        cls,
        transfer: ViewTransfer,
        geometry: TiltGeometry,
        volume_shape: tuple[int, int, int],
        pixel_size: float,
        *,
        in_projection: bool,
    ) -> TransferCosts:
        """Those of a transfer whose hand is known, or of one that is taken for 1."""
        image_shape, depth = volume_shape[1:], volume_shape[0]
        spread = transfer.spread_pixels(pixel_size)
        distance = transfer.level_distance(pixel_size)
        levels = []
        for matrix in geometry.matrices:
            plane = DepthPlane.of(matrix)
            beside = 0.5 * abs(plane.rise) * depth * pixel_size if in_projection else 0.0
            farthest = max(abs(end) for end in plane.span(image_shape, pixel_size))
            shown = abs(transfer.gradient) * (farthest + beside)
            levels.append(len(defocus_levels(-shown, shown, distance)))
        found = cls(tuple(levels), prod(TransferGrid.of(image_shape, pixel_size, spread).padded))
        if not in_projection:
            return found
        slices = min(depth, transfer.layer_slices(geometry, pixel_size))
        return replace(
            found,
            layers=len(layers_of(depth, slices)),
            layer_slices=slices,
            beyond=reach_of_transfer(geometry, 2 * spread),
        )

    def select(self, views: NDArray[np.int64]) -> TransferCosts:
        """Those of some of the views."""
        return replace(self, levels=tuple(self.levels[view] for view in views.tolist()))

    def own_layers(self, ranks: int) -> int:
        """Of a slab, of so many, at most."""
        return own_layers(self.layers, ranks)

    def pass_seconds(self, ranks: int) -> float:
        """Of filtering in one pass over the images, there and back, by two cores.

        Images that are filtered when they are read are shared out among the ranks of a slab; layers of a slab
        need the images of all.
        """
        once = sum(self.levels) * self.points * _FILTER_NS * 1e-9
        return 2 * once if self.layers else once / ranks
