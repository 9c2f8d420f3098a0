"""``W' L W`` of upright views by ranks that hold slabs: rows along the tilt axis know nothing of each other.

Through slabs of slices every rank adds to the detectors of all views, which have to be added up and told to
all: twice the images' bytes, times the ranks. But where a tilt axis lies along the pixels, and images are the
detectors, a row of the volume along the axis is seen by the same row of every image only. So ranks change
their slices for all slices of some rows, project those there and back, and change them again: twice the
volume's bytes, however many ranks and views there are. Two or three slabs of a thick volume send less as
detectors, and do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.operators.slab_projector import SlabProjector
from manyviews.operators.tilt_projector import AxisProjector
from manyviews.parallel.world import World, shares


@dataclass(frozen=True)
class RowNormal:
    """The normal operator of the views of ``axes``, with ``weights (view,)``.

    A slab is ``(own slices, y, x)`` of a volume of ``depth`` slices that the ranks of ``exchange`` share.
    """

    axes: tuple[AxisProjector, ...]
    weights: NDArray[np.float64]
    depth: int
    exchange: World
    block_bytes: int

    @classmethod
    def of(cls, projector: SlabProjector, weights: NDArray[np.float64]) -> RowNormal | None:
        """That of a projector; None where rows do not suffice, or are more to send than detectors."""
        alike = all(axis.image_is_detector for axis in projector.axes)
        if projector.exchange is None or projector.rods is not None or not alike:
            return None
        depth = projector.volume_shape[0]
        if len(projector.axes) * depth > projector.exchange.size * len(weights):
            return None
        return cls(tuple(projector.axes), weights, depth, projector.exchange, projector.block_bytes)

    def apply(self, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """``W' L W x`` of a slab in ``out``, which is returned; every rank makes this call."""
        out.zero_()
        for axis in self.axes:
            along = 1 if axis.group.axis_degrees == 0.0 else 2
            rows = self._all_slices(x, along)
            self._add_back(self._there_and_back(axis, rows), out, along)
        return out

    def _all_slices(self, slab: torch.Tensor, along: int) -> torch.Tensor:
        """From own slices of all rows to all slices of own rows, which are counted along axis ``along``."""
        own_rows = self._rows(slab, along)
        parts = [slab.narrow(along, row.start, row.stop - row.start).contiguous() for row in own_rows]
        own = list(parts[self.exchange.rank].shape)
        shapes = [(one.stop - one.start, own[1], own[2]) for one in shares(self.depth, self.exchange.size)]
        return torch.cat(self.exchange.all_to_all(parts, shapes))

    def _there_and_back(self, axis: AxisProjector, rows: torch.Tensor) -> torch.Tensor:
        """``W' L W`` of some rows ``(all slices, y, x)`` by all views of an axis."""
        frame = axis.turned(rows)
        found = torch.zeros_like(rows)
        target = axis.turned(found)
        if not rows.numel():
            return found
        packed = axis.pack_frame(frame)
        for part in axis.blocks(self.block_bytes):
            views = axis.group.views[part]
            detector = rows.new_empty((len(views), axis.group.detector_length, frame.shape[2]))
            axis.stream(packed, part, detector)
            detector.mul_(torch.from_numpy(self.weights[views]).to(detector).view(-1, 1, 1))
            axis.back_project(detector, part, target)
        return found

    def _add_back(self, rows: torch.Tensor, out: torch.Tensor, along: int) -> None:
        """The way back of `_all_slices`, added to a slab."""
        parts = [rows[one] for one in shares(self.depth, self.exchange.size)]
        own = self._rows(out, along)
        places = [out.narrow(along, row.start, row.stop - row.start) for row in own]
        found = self.exchange.all_to_all(parts, [tuple(place.shape) for place in places])
        for place, part in zip(places, found, strict=True):
            place.add_(part)

    def _rows(self, slab: torch.Tensor, along: int) -> list[slice]:
        return shares(slab.shape[along], self.exchange.size)
